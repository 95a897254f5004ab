"""The passport of a value (paper, III.C): every stop on its way, with versions; as data.

A passport is a graph: *stops* are values, *visits* are the snapshots that took values in and made
others. Each value and each snapshot is in it once, whatever loops and shared ancestors there are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from koalja_fn.model import AnnotatedValue
from koalja_fn.registry.lookups import Body, LookupRow
from koalja_fn.registry.rows import AttemptRow, FormedRow, PassedRow, RemarkRow
from koalja_fn.story.superseding import Marks, circuit_of, is_superseded, mark_json
from koalja_fn.story.words import iso


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a story is told: None is no limit.

    `depth`: how many snapshots away; `wide`: windows and fan-outs of more are summarised; `most`:
    values altogether.
    """

    depth: int | None = None
    wide: int | None = 12
    most: int | None = 500


FULL = Limits(None, None, None)


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring values of a wire; positions from 0."""

    wire: str
    first: int
    last: int

    @property
    def count(self) -> int:
        """How many."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Window:
    """What a snapshot took from one input, in order of arrival; the last `fresh` values were new.

    `values` are the ids that are followed; `left_out` says how many others there are.
    """

    input: str
    runs: tuple[Run, ...]
    count: int
    fresh: int
    values: tuple[str, ...]
    size: int
    earliest: int
    latest: int
    makers: int
    passed: tuple[PassedRow, ...] = ()

    @property
    def left_out(self) -> int:
        """How many of its values are no stops of the passport."""
        return self.count - len(self.values)

    def to_json(self) -> dict[str, Any]:
        """Positions from 1, times in UTC."""
        return {
            "input": self.input,
            "count": self.count,
            "new": self.fresh,
            "size": self.size,
            "earliest": iso(self.earliest),
            "latest": iso(self.latest),
            "snapshots": self.makers,
            "runs": [{"wire": r.wire, "first": r.first + 1, "last": r.last + 1} for r in self.runs],
            "values": list(self.values),
            "leftOut": self.left_out,
            "passed": [passed_json(p) for p in self.passed],
        }


@dataclass(frozen=True, slots=True)
class Visit:
    """A snapshot: what it took in, how it was executed, what it made.

    `lookups` are what it asked on the side; `askers`, for the way forward, the snapshots that it answered as
    a service.
    """

    formed: FormedRow
    depth: int
    windows: tuple[Window, ...]
    attempts: tuple[AttemptRow, ...]
    run_lines: dict[str, str]
    remarks: tuple[RemarkRow, ...]
    made: tuple[str, ...]
    made_more: bool = False
    lookups: tuple[LookupRow, ...] = ()
    askers: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """The version of the code that was executed last."""
        return self.attempts[-1].version if self.attempts else ""

    def to_json(self) -> dict[str, Any]:
        """Numbers from 1, times in UTC, seconds for durations."""
        return {
            **formed_json(self.formed),
            "depth": self.depth,
            "version": self.version,
            "run": self.run_lines.get(self.version, ""),
            "inputs": [w.to_json() for w in self.windows],
            "attempts": [attempt_json(a, self.run_lines.get(a.version, "")) for a in self.attempts],
            "remarks": [remark_json(r) for r in self.remarks],
            "lookups": [lookup_json(one) for one in self.lookups],
            "answered": list(self.askers),
            "made": list(self.made),
            "madeMore": self.made_more,
        }


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader of a wire did with a value: it is in `snapshots`, or `state` says why it is in none.

    `state` is `used`, `waiting`, `not read`, `before its time` (the link starts later), `retired`, or the
    reason for which it was passed over.
    """

    task: str
    input: str
    state: str
    snapshots: tuple[str, ...] = ()
    more: bool = False

    def to_json(self) -> dict[str, Any]:
        """As it is."""
        return {
            "task": self.task,
            "input": self.input,
            "state": self.state,
            "snapshots": list(self.snapshots),
            "more": self.more,
        }


@dataclass(frozen=True, slots=True)
class Stop:
    """A value on the way, `depth` snapshots away from where the story starts."""

    value: AnnotatedValue
    depth: int
    readings: tuple[Reading, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The value, and for the way forward what its readers did with it."""
        told = {**value_json(self.value), "depth": self.depth}
        return told | {"readers": [r.to_json() for r in self.readings]} if self.readings else told


@dataclass(frozen=True, slots=True)
class Passport:
    """Stops and visits by id, in order of distance. `start` is the id of a value or of a snapshot."""

    start: str
    forward: bool
    stops: dict[str, Stop]
    visits: dict[str, Visit]
    notes: tuple[str, ...] = ()
    marks: Marks = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """One document: lists in order of distance."""
        return {
            "start": self.start,
            "direction": "forward" if self.forward else "backward",
            "values": [stop.to_json() for stop in self.stops.values()],
            "snapshots": [visit.to_json() for visit in self.visits.values()],
            "notes": list(self.notes),
            "superseding": {key: [mark_json(key, one) for one in some] for key, some in self.marks.items()},
        }


def value_json(value: AnnotatedValue) -> dict[str, Any]:
    """A value for programs: position from 1, times in UTC."""
    return {
        "id": value.id,
        "circuit": circuit_of(value.circuit),
        "wire": value.wire,
        "position": value.position + 1,
        "arrived": iso(value.arrived),
        "created": iso(value.created),
        "source": value.source,
        "snapshot": value.snapshot or None,
        "version": value.version or None,
        "digest": value.digest,
        "size": value.size,
        "type": value.type,
        "name": value.name or None,
        "hops": value.hops,
        "event": {"source": value.event_source, "id": value.event_id} if value.event_id else None,
        "attributes": dict(value.attributes),
    }


def formed_json(row: FormedRow) -> dict[str, Any]:
    """A snapshot for programs: number from 1, its cause with the position from 1."""
    return {
        "id": row.id,
        "circuit": circuit_of(row.circuit),
        "task": row.name,
        "number": row.number + 1,
        "generation": row.generation,
        "state": row.state,
        "superseded": is_superseded(row),
        "formed": iso(row.formed),
        "cause": cause(row),
        "finished": iso(row.finished),
    }


def cause(row: FormedRow) -> dict[str, Any]:
    """What formed a snapshot: an arrival (position from 1), a time, or that the task was free."""
    told: dict[str, Any] = json.loads(row.cause) if row.cause else {}
    if "position" in told:
        told["position"] += 1
    if "time" in told:
        told["time"] = iso(told["time"])
    return told


def attempt_json(row: AttemptRow, run: str) -> dict[str, Any]:
    """An attempt for programs."""
    return {
        "attempt": row.attempt,
        "outcome": row.outcome,
        "reason": row.reason,
        "status": row.status,
        "message": row.message,
        "stderr": row.stderr,
        "version": row.version,
        "run": run,
        "started": iso(row.started),
        "ended": iso(row.ended),
        "seconds": round((row.ended - row.started) / 1e6, 6),
        "sizeIn": row.size_in,
        "sizeOut": row.size_out,
    }


def remark_json(row: RemarkRow) -> dict[str, Any]:
    """A remark for programs."""
    return {"at": iso(row.at), "kind": row.kind, "text": row.text, "body": json.loads(row.body or "{}")}


def lookup_json(row: LookupRow) -> dict[str, Any]:
    """What was asked on the side, for programs: who answered is a snapshot of a service, or an address."""
    one = row.lookup
    return {
        "attempt": row.attempt,
        "wire": one.wire,
        "at": iso(one.at),
        "seconds": one.took / 1e6,
        "method": one.method,
        "path": one.path,
        "status": one.status or None,
        "problem": one.problem or None,
        "service": row.service or None,
        "snapshot": row.answered_id or None,
        "version": one.version or None,
        "place": one.place or None,
        "request": _body_json(one.asked),
        "answer": _body_json(one.told),
        "headers": dict(one.headers),
        "replayed": _origin_json(row),
    }


def _origin_json(row: LookupRow) -> dict[str, Any] | None:
    """Where a recorded answer was asked for that was given again; None where somebody was asked."""
    if row.lookup.replayed is None:
        return None
    origin = row.origin
    return {"snapshot": origin.snapshot, "at": iso(origin.at)} if origin else {"snapshot": None, "at": None}


def _body_json(body: Body) -> dict[str, Any]:
    return {"digest": body.digest or None, "size": body.size, "kept": body.kept}


def passed_json(row: PassedRow) -> dict[str, Any]:
    """A range that was passed over: numbers from 1, as the input counts its values."""
    return {
        "at": iso(row.at),
        "input": row.input,
        "first": row.first + 1,
        "last": row.last + 1,
        "reason": row.reason,
        "text": row.text,
    }
