"""The log of a circuit: arrivals, snapshots, executions, what was passed over and remarked, by time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from koalja_fn.model import AnnotatedValue
from koalja_fn.registry import overview, stories
from koalja_fn.registry.overview import Cursors, RefusalRow
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.rows import AttemptRow, FormedRow, PassedRow, RemarkRow, RunRow, WindowRow
from koalja_fn.story.passport import attempt_json, cause
from koalja_fn.story.telling import outcome
from koalja_fn.story.words import duration, iso, local, plural, positions, short, size, version

# What one look at a registry takes up at most of each kind.
_MOST = 2000
# So many neighbourhoods of a merged window are told one by one.
_RUNS = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that happened: `who` did `text` to `whom`. `order` decides between equal times."""

    at: int
    kind: str
    task: str
    who: str
    whom: str
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)
    order: int = 0

    def to_json(self) -> dict[str, Any]:
        """Time in UTC; `data` as the kind has it."""
        return {
            "at": iso(self.at),
            "kind": self.kind,
            "task": self.task or None,
            "text": self.text,
            **self.data,
        }

    def line(self) -> str:
        """One line: time | who --> whom | what."""
        who = f"{self.who} --> {self.whom}" if self.who else f"{self.whom} ->"
        return f"{local(self.at)} | {who:<24} {self.text}"


@dataclass(frozen=True, slots=True)
class Marks:
    """How far the log was told: rows of tables, heads of wires, heads of tasks' logs."""

    cursors: Cursors
    heads: Mapping[int, int]
    seqs: Mapping[int, int]


def marks(tx: Transaction) -> Marks:
    """Where the log ends now."""
    heads: dict[int, int] = {}
    seqs: dict[int, int] = {}
    for circuit in overview.circuits(tx):
        heads |= {wire.id: wire.head for wire in overview.wires(tx, circuit.id)}
        seqs |= overview.log_heads(tx, circuit.id)
    return Marks(overview.cursors(tx), heads, seqs)


def latest(tx: Transaction, last: int, task: str | None = None) -> list[Entry]:
    """The last entries of all tasks, or of one and the wires that it reads and feeds."""
    if task is not None:
        return _sorted(_latest_of(tx, task, last))[-last:]
    now = marks(tx)
    c = now.cursors
    before = Marks(
        Cursors(*(max(0, n - last) for n in (c.snapshot, c.execution, c.remark, c.passed, c.refusal))),
        {wire: max(0, head - last) for wire, head in now.heads.items()},
        {row: max(0, seq - last) for row, seq in now.seqs.items()},
    )
    return since(tx, before, most=last)[0][-last:]


def since(
    tx: Transaction, before: Marks, *, most: int = _MOST, task: str | None = None
) -> tuple[list[Entry], Marks]:
    """What happened after `before`, at most so much of each kind, and how far that is."""
    entries: list[Entry] = []
    heads, seqs = dict(before.heads), dict(before.seqs)
    for circuit in overview.circuits(tx):
        for wire in overview.wires(tx, circuit.id):
            known = heads.get(wire.id, 0)
            found = overview.values_from(tx, wire.id, known, most) if wire.head > known else []
            entries += [_arrived(value) for value in found]
            heads[wire.id] = known + len(found)
        for row, head in overview.log_heads(tx, circuit.id).items():
            if head > seqs.get(row, 0):
                entries += [_wired(*wired) for wired in overview.wired_after(tx, row, seqs.get(row, 0))]
                seqs[row] = head
    c = before.cursors
    formed = overview.formed_after(tx, c.snapshot, most)
    tried = overview.attempts_after(tx, c.execution, most)
    remarked = overview.remarks_after(tx, c.remark, most)
    passed = overview.passed_after(tx, c.passed, most)
    refused = overview.refusals_after(tx, c.refusal, most)
    entries += _told(tx, formed, tried, remarked, passed)
    entries += [_refused(row) for row in refused]
    after = replace(
        c,
        snapshot=formed[-1].rid if formed else c.snapshot,
        execution=tried[-1].id if tried else c.execution,
        remark=remarked[-1].id if remarked else c.remark,
        passed=passed[-1].id if passed else c.passed,
        refusal=refused[-1].id if refused else c.refusal,
    )
    return _sorted(entries if task is None else _concerning(tx, task, entries)), Marks(after, heads, seqs)


def _concerning(tx: Transaction, task: str, entries: Iterable[Entry]) -> list[Entry]:
    """What a task did, and what arrived on the wires that it reads."""
    read = {stories.wire_name(tx, wire) for _, wires in overview.task_wires(tx, task) for wire in wires}
    return [e for e in entries if e.task == task or (e.kind == "arrived" and e.whom in read)]


def _latest_of(tx: Transaction, name: str, last: int) -> Iterator[Entry]:
    """The last entries of each kind that concern a task."""
    for row, wires in overview.task_wires(tx, name):
        for wire in wires:
            yield from (_arrived(value) for value in overview.latest_values(tx, wire, last))
        tried = stories.latest_attempts(tx, row, last)
        done = dict.fromkeys(attempt.snapshot for attempt in tried if attempt.outcome == "done")
        yield from (_arrived(value) for rid in done for value in stories.made(tx, rid, last))
        inputs = {link.input for wire in wires for link in stories.readers(tx, wire) if link.task == row}
        yield from _told(
            tx,
            overview.latest_formed(tx, row, last),
            tried,
            stories.latest_remarks(tx, row, last),
            [p for name in sorted(inputs) for p in stories.latest_passed(tx, row, name, last)],
        )
        head = overview.log_head(tx, row)
        yield from (_wired(*wired) for wired in overview.wired_after(tx, row, max(0, head - last)))


def _told(
    tx: Transaction,
    formed: Iterable[FormedRow],
    tried: Iterable[AttemptRow],
    remarked: Iterable[RemarkRow],
    passed: Iterable[PassedRow],
) -> Iterator[Entry]:
    yield from (_formed(tx, row) for row in formed)
    yield from (_tried(row) for row in tried)
    yield from (_remarked(row) for row in remarked)
    yield from (_passed(row) for row in passed)


def _sorted(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: (entry.at, entry.order))


def _arrived(value: AnnotatedValue) -> Entry:
    task = value.source.rpartition("/")[2] if value.snapshot else ""
    where = positions(value.position, value.position)
    text = f"{where}  {short(value.id)}  {size(value.size)} {value.type}" + (
        f"  {value.name}" if value.name else ""
    )
    data = {"wire": value.wire, "position": value.position + 1, "value": value.id}
    data |= {
        "snapshot": value.snapshot or None,
        "source": value.source,
        "size": value.size,
        "type": value.type,
    }
    return Entry(value.arrived, "arrived", task, task or value.source or "outside", value.wire, text, data)


def _formed(tx: Transaction, row: FormedRow) -> Entry:
    told = cause(row)
    windows = stories.windows(tx, row.rid)
    runs = [stories.runs(tx, w) for w in windows]
    shown = ", ".join(_where(w, of_wires) for w, of_wires in zip(windows, runs, strict=True))
    why = "" if "wire" in told else " since the task was free" if "free" in told else " as it was time"
    who = (
        f"{told['wire']} {told['position']:04d}" if "wire" in told else "time" if "time" in told else "(free)"
    )
    text = f"snapshot {row.number + 1} ({short(row.id)}) formed{why}" + (f" of {shown}" if shown else "")
    inputs = [
        {"input": w.input, "first": w.first + 1, "last": w.last + 1, "new": w.fresh}
        | {"runs": [{"wire": r.name, "first": r.first + 1, "last": r.last + 1} for r in of_wires]}
        for w, of_wires in zip(windows, runs, strict=True)
    ]
    data = {"snapshot": row.id, "number": row.number + 1, "cause": told, "inputs": inputs}
    return Entry(row.formed, "formed", row.name, who, row.name, text, data, 1)


def _where(window: WindowRow, runs: list[RunRow]) -> str:
    """A window's values as their wires count them: an input of merged wires has numbers of its own."""
    if len(runs) > _RUNS:
        return f"{plural(window.last - window.first + 1, 'value')} of {window.input}"
    return ", ".join(f"{run.name} {positions(run.first, run.last)}" for run in runs)


def _tried(row: AttemptRow) -> Entry:
    took = duration((row.ended - row.started) / 1e6)
    text = f"snapshot {row.number + 1} ({short(row.snapshot_id)}) attempt {row.attempt}: {outcome(row)}"
    text += f" in {took}, version {version(row.version)}"
    data = {"snapshot": row.snapshot_id, "number": row.number + 1, **attempt_json(row, "")}
    del data["run"]
    # Before its outputs, which may have the same time.
    return Entry(row.ended, "executed", row.name, row.name, "", text, data, -1)


def _remarked(row: RemarkRow) -> Entry:
    text = f"[{row.kind}: {row.text}]"
    return Entry(row.at, row.kind, row.name, "", row.name, text, {"snapshot": row.snapshot or None}, 2)


def _passed(row: PassedRow) -> Entry:
    shown = f"{row.input} {positions(row.first, row.last)}" if row.first <= row.last else row.text
    data = {"input": row.input, "first": row.first + 1, "last": row.last + 1, "reason": row.reason}
    return Entry(
        row.at, "passed", row.name, row.input, row.name, f"{shown} passed over: {row.reason}", data, 3
    )


def _refused(row: RefusalRow) -> Entry:
    text = f"event {row.event_id!r} refused: {row.reason}"
    data = {"wire": row.wire, "value": row.value, "eventSource": row.event_source, "eventId": row.event_id}
    return Entry(row.at, "refused", "", row.event_source or "outside", row.wire, text, data, 4)


def _wired(name: str, at: int, generation: int, policy: str) -> Entry:
    what = "wired up" if generation == 1 else "rewired"
    text = f"{what}: generation {generation}, policy {policy}"
    return Entry(at, "wired", name, "", name, text, {"generation": generation, "policy": policy}, -2)
