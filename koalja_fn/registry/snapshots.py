"""Statements about snapshots: forming, claiming and finishing them, and what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from koalja_fn.model import AnnotatedValue
from koalja_fn.registry import values
from koalja_fn.registry.registry import Transaction


@dataclass(frozen=True, slots=True)
class Members:
    """One input of a snapshot: its values in order of arrival; the last `fresh` of them are new."""

    input: str
    values: tuple[AnnotatedValue, ...]
    fresh: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A snapshot's row."""

    rid: int
    id: str
    task: int
    number: int
    generation: int
    state: str
    formed: int
    cause: str
    due: int
    attempts: int
    fence: int
    owner: str
    claimed: int
    finished: int


_COLUMNS = (
    "rid, id, task, number, generation, state, formed, coalesce(cause, ''), due, attempts, fence, "
    "coalesce(owner, ''), coalesce(claimed, 0), coalesce(finished, 0)"
)


def by_rid(tx: Transaction, rid: int) -> Stored | None:
    """The snapshot of that row."""
    row = tx.one(f"SELECT {_COLUMNS} FROM snapshot WHERE rid = ?", rid)
    return Stored(*row) if row else None


def by_id(tx: Transaction, id: str) -> Stored | None:
    """The snapshot of that id."""
    row = tx.one(f"SELECT {_COLUMNS} FROM snapshot WHERE id = ?", id)
    return Stored(*row) if row else None


def ready(tx: Transaction, task: int, now: int, most: int) -> list[Stored]:
    """Snapshots that may be claimed now, those first that have waited longest."""
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM snapshot WHERE task = ? AND state = 'ready' AND due <= ?"
        " ORDER BY due, number LIMIT ?",
        task,
        now,
        most,
    )
    return [Stored(*row) for row in rows]


def first_open(tx: Transaction, task: int) -> Stored | None:
    """The earliest snapshot that is not finished: ready, running or a dead letter."""
    row = tx.one(
        f"SELECT {_COLUMNS} FROM snapshot WHERE task = ? AND state IN ('ready', 'running', 'dead')"
        " ORDER BY number LIMIT 1",
        task,
    )
    return Stored(*row) if row else None


def running(tx: Transaction, task: int) -> int:
    """How many of the task's snapshots are claimed."""
    row = tx.one("SELECT count(*) FROM snapshot WHERE task = ? AND state = 'running'", task)
    return int(row[0]) if row else 0


def next_due(tx: Transaction, task: int) -> int | None:
    """When the earliest ready snapshot of the task may start."""
    row = tx.one("SELECT min(due) FROM snapshot WHERE task = ? AND state = 'ready'", task)
    return row[0] if row else None


def expired(tx: Transaction, task: int, now: int) -> list[Stored]:
    """Claims whose lease is over."""
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM snapshot WHERE task = ? AND state = 'running' AND lease <= ?", task, now
    )
    return [Stored(*row) for row in rows]


def members(tx: Transaction, rid: int) -> list[Members]:
    """What is in a snapshot, inputs in the order of the wiring."""
    rows = tx.all(
        "SELECT task, input, wire, first, last, fresh FROM snapshot_input WHERE snapshot = ? ORDER BY ord",
        rid,
    )
    return [
        Members(name, tuple(window(tx, task, name, wire, first, last)), fresh)
        for task, name, wire, first, last, fresh in rows
    ]


def window(
    tx: Transaction, task: int, name: str, wire: int | None, first: int, last: int
) -> list[AnnotatedValue]:
    """The values that an input counts as first to last."""
    if wire is not None:
        return values.between(tx, wire, first, last)
    return [
        value
        for run_wire, begin, end in feed_runs(tx, task, name, first, last)
        for value in values.between(tx, run_wire, begin, end)
    ]


def feed_runs(tx: Transaction, task: int, name: str, first: int, last: int) -> Iterator[tuple[int, int, int]]:
    """Runs (wire, first position, last position) behind indexes first to last of an input, in order."""
    rows = tx.all(
        "SELECT first, count, wire, position FROM feed WHERE task = ? AND input = ? AND first <= ?"
        " AND first >= coalesce((SELECT max(first) FROM feed WHERE task = ? AND input = ? AND first <= ?), 0)"
        " ORDER BY first",
        task,
        name,
        last,
        task,
        name,
        first,
    )
    for index, count, wire, position in rows:
        begin = max(first, index)
        end = min(last, index + count - 1)
        if begin <= end:
            yield wire, position + begin - index, position + end - index
