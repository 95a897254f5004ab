"""Statements about errands: executions of pull mode that a process asks another one to do.

What is to be done is here, so that the request itself carries no more than a key: whoever may send requests
to a task can have nothing run but what is on record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from koalja_fn.model import AnnotatedValue
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.snapshots import Members

_FORGOTTEN = 86_400_000_000  # µs; who asked for it is long gone


@dataclass(frozen=True, slots=True)
class Errand:
    """An execution that somebody waits for. `told` says what it is made from, `at` when it was asked for."""

    key: str
    circuit: str
    task: str
    number: int
    version: str
    run: int
    at: int
    members: Sequence[Members]
    told: Mapping[str, Any]


def keep(tx: Transaction, errand: Errand) -> None:
    """Keep an errand; one with the same key asks for the same."""
    whole = {"members": [asdict(member) for member in errand.members], "told": errand.told}
    tx.run(
        "INSERT INTO errand (id, circuit, task, number, version, run, at, whole)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET run = excluded.run, at = excluded.at, whole = excluded.whole",
        errand.key,
        errand.circuit,
        errand.task,
        errand.number,
        errand.version,
        errand.run,
        errand.at,
        json.dumps(whole, ensure_ascii=False),
    )


def get(tx: Transaction, key: str) -> Errand | None:
    """The errand of that key."""
    row = tx.one("SELECT id, circuit, task, number, version, run, at, whole FROM errand WHERE id = ?", key)
    if row is None:
        return None
    whole = json.loads(row[7])
    members = tuple(
        Members(one["input"], tuple(AnnotatedValue(**value) for value in one["values"]), one["fresh"])
        for one in whole["members"]
    )
    return Errand(row[0], row[1], row[2], row[3], row[4], row[5], row[6], members, whole["told"])


def drop(tx: Transaction, key: str) -> None:
    """Drop an errand that is done, or that nobody waits for any more."""
    tx.run("DELETE FROM errand WHERE id = ?", key)


def drop_old(tx: Transaction, now: int) -> None:
    """Drop what runs left that ended without a word."""
    tx.run("DELETE FROM errand WHERE at < ?", now - _FORGOTTEN)
