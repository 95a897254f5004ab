"""Statements about look-ups: what executions asked services on the side, and what they were told."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from koalja_fn.registry.registry import Transaction


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
    masked, under `asked` and `told`.
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


@dataclass(frozen=True, slots=True)
class LookupRow:
    """A look-up on record. `service` and `number` name the snapshot that answered, `answered_id` its id."""

    id: int
    attempt: int
    seq: int
    lookup: Lookup
    answered_id: str
    service: str
    number: int


def record(tx: Transaction, task: int, snapshot: int, attempt: int, lookups: Iterable[Lookup]) -> None:
    """Put look-ups of an attempt on record, in the order in which they were asked."""
    tx.many(
        "INSERT INTO lookup (task, snapshot, attempt, seq, wire, answered, version, place, at, took, method,"
        " path, status, asked, asked_size, asked_kept, told, told_size, told_kept, headers, problem)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
            )
            for seq, one in enumerate(lookups)
        ],
    )


def of_snapshot(tx: Transaction, snapshot: int, most: int) -> list[LookupRow]:
    """What the attempts at a snapshot asked, in order; at most `most`."""
    rows = tx.all(
        "SELECT l.id, l.attempt, l.seq, l.wire, l.method, l.path, l.at, l.took, l.status, l.answered,"
        " l.version, l.place, l.asked, l.asked_size, l.asked_kept, l.told, l.told_size, l.told_kept,"
        " l.headers, l.problem, coalesce(s.id, ''), coalesce(t.name, ''), coalesce(s.number, 0)"
        " FROM lookup l LEFT JOIN snapshot s ON s.rid = l.answered LEFT JOIN task t ON t.id = s.task"
        " WHERE l.snapshot = ? ORDER BY l.attempt, l.seq LIMIT ?",
        snapshot,
        most,
    )
    return [_row(*row) for row in rows]


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
    answered_id: str,
    service: str,
    number: int,
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
    )
    return LookupRow(id, attempt, seq, one, answered_id, service, number)
