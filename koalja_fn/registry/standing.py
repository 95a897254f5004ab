"""Statements that tell in one look what stands before a task: something to read, to claim, to take up."""

from __future__ import annotations

from dataclasses import dataclass

from koalja_fn.registry.registry import Transaction


@dataclass(frozen=True, slots=True)
class Standing:
    """A task at one moment. Times are in µs; each is None where there is nothing of its kind.

    `installs` counts how often its circuit was installed differently; `unread` says that a link has values
    that were not read; `due` is when time alone may do something; `startable` when the first ready snapshot
    may start; `lease` when the first claim runs out.
    """

    task: int
    installs: int
    generation: int
    unread: bool
    due: int | None
    startable: int | None
    running: int
    lease: int | None


_SELECT = (
    "SELECT t.id, c.installs, t.generation,"
    " EXISTS (SELECT 1 FROM link l JOIN wire w ON w.id = l.wire"
    " WHERE l.task = t.id AND l.retired = 0 AND l.position < w.head),"
    " t.due,"
    " (SELECT min(due) FROM snapshot WHERE task = t.id AND state = 'ready'),"
    " (SELECT count(*) FROM snapshot WHERE task = t.id AND state = 'running'),"
    " (SELECT min(lease) FROM snapshot WHERE task = t.id AND state = 'running')"
    " FROM task t JOIN circuit c ON c.id = t.circuit"
)


def of_task(tx: Transaction, task: int) -> Standing:
    """How one task stands; a single statement."""
    row = tx.one(f"{_SELECT} WHERE t.id = ?", task)
    assert row is not None
    return _standing(row)


def of_circuit(tx: Transaction, circuit: int) -> list[Standing]:
    """How the tasks of a circuit stand, but for retired ones; a single statement."""
    rows = tx.all(f"{_SELECT} WHERE t.circuit = ? AND t.retired = 0 ORDER BY t.name", circuit)
    return [_standing(row) for row in rows]


def installs(tx: Transaction, circuit: int) -> int:
    """How often the circuit was installed differently."""
    row = tx.one("SELECT installs FROM circuit WHERE id = ?", circuit)
    return int(row[0]) if row else 0


def startable(tx: Transaction, task: int, now: int, most: int) -> int:
    """How many snapshots of a task may start now, counted up to `most`."""
    row = tx.one(
        "SELECT count(*) FROM (SELECT 1 FROM snapshot WHERE task = ? AND state = 'ready' AND due <= ?"
        " LIMIT ?) AS few",
        task,
        now,
        most,
    )
    return int(row[0]) if row else 0


def _standing(row: tuple[object, ...]) -> Standing:
    task, installs, generation, unread, due, startable, running, lease = row
    return Standing(task, installs, generation, bool(unread), due, startable, running, lease)  # type: ignore[arg-type]
