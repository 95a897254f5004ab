"""Statements about look-ups: what executions asked services on the side, and what they were told."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from koalja_fn.registry.registry import Transaction

# More than one execution may ask.
_ALL = 1 << 31


@dataclass(frozen=True, slots=True)
class Body:
    """A body that went by: its digest (empty where there was none, or its end was not seen) and size.

    `kept` says that the store has the bytes.
    """

    digest: str = ""
    size: int = 0
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Lookup:
    """One request of an execution and its answer.

    `answered` is the row of the service's snapshot whose process answered, `version` that of its code;
    `place` is the address of an outside service. `at` and `took` are in microseconds. `status` is 0
    where nobody answered; then `problem` says why. `headers` has the request's and the answer's, secrets
    masked, under `asked` and `told`. `replayed` is the row of the look-up whose recorded answer was given
    once more: then nobody was asked, and `answered`, `version` and `place` are that look-up's.
    """

    wire: str
    method: str
    path: str
    at: int
    took: int = 0
    status: int = 0
    answered: int | None = None
    version: str = ""
    place: str = ""
    asked: Body = Body()
    told: Body = Body()
    headers: Mapping[str, object] = field(default_factory=dict)
    problem: str = ""
    replayed: int | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a replayed answer is from: when it was asked for, and by which snapshot's execution."""

    at: int
    snapshot: str
    number: int


@dataclass(frozen=True, slots=True)
class LookupRow:
    """A look-up on record. `service` and `number` name the snapshot that answered, `answered_id` its id.

    `origin` is there where its answer was replayed, and what it was replayed from is on record.
    """

    id: int
    attempt: int
    seq: int
    lookup: Lookup
    answered_id: str
    service: str
    number: int
    origin: Origin | None = None


def record(tx: Transaction, task: int, snapshot: int, attempt: int, lookups: Iterable[Lookup]) -> None:
    """Put look-ups of an attempt on record, in the order in which they were asked."""
    tx.many(
        "INSERT INTO lookup (task, snapshot, attempt, seq, wire, answered, version, place, at, took, method,"
        " path, status, asked, asked_size, asked_kept, told, told_size, told_kept, headers, problem,"
        " replayed)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                task,
                snapshot,
                attempt,
                seq,
                one.wire,
                one.answered,
                one.version,
                one.place,
                one.at,
                one.took,
                one.method,
                one.path,
                one.status,
                one.asked.digest,
                one.asked.size,
                int(one.asked.kept),
                one.told.digest,
                one.told.size,
                int(one.told.kept),
                json.dumps(one.headers, ensure_ascii=False),
                one.problem,
                one.replayed,
            )
            for seq, one in enumerate(lookups)
        ],
    )


def of_snapshot(tx: Transaction, snapshot: int, most: int, since: int = 0) -> list[LookupRow]:
    """What the attempts at a snapshot asked, in order; at most `most`, from row `since` on."""
    rows = tx.all(
        "SELECT l.id, l.attempt, l.seq, l.wire, l.method, l.path, l.at, l.took, l.status, l.answered,"
        " l.version, l.place, l.asked, l.asked_size, l.asked_kept, l.told, l.told_size, l.told_kept,"
        " l.headers, l.problem, l.replayed, coalesce(s.id, ''), coalesce(t.name, ''), coalesce(s.number, 0),"
        " f.at, coalesce(g.id, ''), coalesce(g.number, 0)"
        " FROM lookup l LEFT JOIN snapshot s ON s.rid = l.answered LEFT JOIN task t ON t.id = s.task"
        " LEFT JOIN lookup f ON f.id = l.replayed LEFT JOIN snapshot g ON g.rid = f.snapshot"
        " WHERE l.snapshot = ? AND l.id >= ? ORDER BY l.attempt, l.seq LIMIT ?",
        snapshot,
        since,
        most,
    )
    return [_row(*row) for row in rows]


def of_last_attempt(tx: Transaction, snapshot: int, most: int = _ALL) -> list[LookupRow]:
    """What the execution asked that a snapshot's state stands for, in order; at most `most`.

    Attempts that were given up or tried anew by hand have the same numbers as later ones: what was recorded
    together is told by its rows, and whether that was the last attempt by its time.
    """
    begin = tx.one("SELECT max(id) FROM lookup WHERE snapshot = ? AND seq = 0", snapshot)
    if begin is None or begin[0] is None:
        return []
    found = of_snapshot(tx, snapshot, most, begin[0])
    done = tx.one(
        "SELECT started FROM execution WHERE snapshot = ? AND outcome = 'done' ORDER BY id DESC LIMIT 1",
        snapshot,
    )
    earlier = done is not None and all(one.lookup.at + one.lookup.took < done[0] for one in found)
    return [] if earlier else found


def without_bodies(tx: Transaction, task: int) -> int:
    """How many answers to a task's finished executions have no body any more: too large, or purged."""
    row = tx.one(
        "SELECT count(*) FROM snapshot s JOIN lookup l ON l.snapshot = s.rid"
        " LEFT JOIN purge p ON p.digest = l.told AND p.state IN ('going', 'gone')"
        " WHERE s.task = ? AND s.state = 'done' AND l.problem = '' AND l.told_size > 0"
        " AND (l.told_kept = 0 OR p.digest IS NOT NULL)",
        task,
    )
    return int(row[0]) if row else 0


def asked_of(tx: Transaction, answered: int, most: int) -> list[int]:
    """Rows of the snapshots whose executions a service's snapshot answered, the earliest first."""
    rows = tx.all(
        "SELECT snapshot FROM lookup WHERE answered = ? GROUP BY snapshot ORDER BY min(id) LIMIT ?",
        answered,
        most,
    )
    return [row[0] for row in rows]


def _row(
    id: int,
    attempt: int,
    seq: int,
    wire: str,
    method: str,
    path: str,
    at: int,
    took: int,
    status: int,
    answered: int | None,
    version: str,
    place: str,
    asked: str,
    asked_size: int,
    asked_kept: int,
    told: str,
    told_size: int,
    told_kept: int,
    headers: str,
    problem: str,
    replayed: int | None,
    answered_id: str,
    service: str,
    number: int,
    origin_at: int | None,
    origin_id: str,
    origin_number: int,
) -> LookupRow:
    one = Lookup(
        wire,
        method,
        path,
        at,
        took,
        status,
        answered,
        version,
        place,
        Body(asked, asked_size, bool(asked_kept)),
        Body(told, told_size, bool(told_kept)),
        json.loads(headers),
        problem,
        replayed,
    )
    origin = Origin(origin_at, origin_id, origin_number) if origin_at is not None else None
    return LookupRow(id, attempt, seq, one, answered_id, service, number, origin)
