"""Statements about services: which snapshot a service task is to run, and which ones it never will."""

from __future__ import annotations

from collections.abc import Iterable

from koalja_fn.registry import snapshots
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.snapshots import Stored


def newest(tx: Transaction, task: int, state: str) -> Stored | None:
    """The task's latest snapshot in a state."""
    row = tx.one(
        "SELECT rid FROM snapshot WHERE task = ? AND state = ? ORDER BY number DESC LIMIT 1", task, state
    )
    return snapshots.by_rid(tx, row[0]) if row else None


def reopen(tx: Transaction, rid: int, due: int, *, attempts: int | None = None) -> bool:
    """Make a snapshot that was done ready again; `attempts` begins the count anew.

    False where it was not done.
    """
    return (
        tx.run(
            "UPDATE snapshot SET state = 'ready', due = ?, finished = NULL, attempts = coalesce(?, attempts)"
            " WHERE rid = ? AND state = 'done'",
            due,
            attempts,
            rid,
        )
        > 0
    )


def bury(tx: Transaction, rid: int, now: int) -> bool:
    """Make a snapshot that was done a dead letter. False where it was not done."""
    return (
        tx.run("UPDATE snapshot SET state = 'dead', finished = ? WHERE rid = ? AND state = 'done'", now, rid)
        > 0
    )


def supersede(tx: Transaction, task: int, before: int, now: int) -> list[int]:
    """Give up the ready snapshots of a task that are older than number `before`; return their rows."""
    rows = tx.all(
        "UPDATE snapshot SET state = 'skipped', finished = ?"
        " WHERE task = ? AND state = 'ready' AND number < ? RETURNING rid",
        now,
        task,
        before,
    )
    return [row[0] for row in rows]


def formed_any(tx: Transaction, task: int) -> bool:
    """Whether a snapshot of the task ever formed."""
    return tx.one("SELECT rid FROM snapshot WHERE task = ? LIMIT 1", task) is not None


def are_up(tx: Transaction, tasks: Iterable[int]) -> bool:
    """Whether each of these services has a snapshot whose process listened, wherever that is or was."""
    return all(
        tx.one("SELECT rid FROM snapshot WHERE task = ? AND state = 'done' LIMIT 1", task) is not None
        for task in tasks
    )
