"""Statements about executions that may be answered again: `cache = on` in push mode."""

from __future__ import annotations

from koalja_fn.registry import snapshots
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.snapshots import Stored


def keep(tx: Transaction, key: str, snapshot: int) -> None:
    """From now on the outputs of a snapshot are the answer to its execution's key."""
    tx.do(
        "INSERT INTO cached (id, snapshot) VALUES (?, ?)"
        " ON CONFLICT (id) DO UPDATE SET snapshot = excluded.snapshot",
        key,
        snapshot,
    )


def find(tx: Transaction, key: str) -> Stored | None:
    """The snapshot whose outputs are the answer to a key."""
    row = tx.one("SELECT snapshot FROM cached WHERE id = ?", key)
    return snapshots.by_rid(tx, row[0]) if row else None
