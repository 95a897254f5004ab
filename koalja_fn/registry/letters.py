"""Statements about dead letters: snapshots whose program failed for good."""

from __future__ import annotations

from koalja_fn.registry.registry import Transaction


def revive(tx: Transaction, rid: int, now: int) -> bool:
    """Make a dead letter ready again, as if it had never been tried; False where it is none."""
    return (
        tx.run(
            "UPDATE snapshot SET state = 'ready', due = ?, attempts = 0, finished = NULL"
            " WHERE rid = ? AND state = 'dead'",
            now,
            rid,
        )
        > 0
    )


def give_up(tx: Transaction, rid: int, now: int) -> bool:
    """Turn a dead letter into a skipped one; False where it is none."""
    return (
        tx.run(
            "UPDATE snapshot SET state = 'skipped', finished = ? WHERE rid = ? AND state = 'dead'", now, rid
        )
        > 0
    )


def place(tx: Transaction, rid: int) -> tuple[int, str]:
    """Row and specification of a snapshot's task."""
    row = tx.one("SELECT t.id, t.spec FROM snapshot s JOIN task t ON t.id = s.task WHERE s.rid = ?", rid)
    assert row is not None
    return row[0], row[1]
