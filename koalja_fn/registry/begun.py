"""Statements about what is being made in pull mode: who has begun an execution, and until when it is his."""

from __future__ import annotations

from collections.abc import Iterable

from koalja_fn.registry.registry import Transaction


def take(tx: Transaction, key: str, owner: str, now: int, until: int) -> bool:
    """Have an execution for oneself; False while it is another's."""
    return bool(
        tx.run(
            "INSERT INTO begun (id, owner, until) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE"
            " SET owner = excluded.owner, until = excluded.until WHERE begun.until < ? OR begun.owner = ?",
            key,
            owner,
            until,
            now,
            owner,
        )
    )


def renew(tx: Transaction, owner: str, until: int) -> None:
    """All that an owner has stays his until later."""
    tx.run("UPDATE begun SET until = ? WHERE owner = ?", until, owner)


def drop(tx: Transaction, owner: str, keys: Iterable[str]) -> None:
    """Let go of executions, where they still are the owner's."""
    tx.many("DELETE FROM begun WHERE id = ? AND owner = ?", [(key, owner) for key in keys])


def drop_all(tx: Transaction, owner: str) -> None:
    """Let go of all that an owner has."""
    tx.run("DELETE FROM begun WHERE owner = ?", owner)
