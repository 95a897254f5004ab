"""Statements about what is kept for the stories: attempts, remarks, refusals, versions; and files seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from koalja_fn.registry.registry import Transaction


@dataclass(frozen=True, slots=True)
class Seen:
    """A file of an in-tray as it was last seen; `changes` counts the contents that were observed."""

    size: int
    mtime: int
    inode: int
    digest: str
    changes: int

    @property
    def stamp(self) -> tuple[int, int, int]:
        """What tells without reading that the file is the same."""
        return (self.size, self.mtime, self.inode)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event that was refused for good."""

    wire: str
    at: int
    value: str
    event_source: str
    event_id: str
    digest: str
    kept: str
    reason: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt to execute a snapshot, after it ended."""

    task: int
    snapshot: int
    attempt: int
    version: str
    started: int
    ended: int
    outcome: str
    reason: str = ""
    status: int | None = None
    message: str = ""
    stderr: str = ""
    size_in: int = 0
    size_out: int = 0


def seen(tx: Transaction, wire: int, path: str) -> Seen | None:
    """How a file was last seen."""
    row = tx.one(
        "SELECT size, mtime, inode, digest, changes FROM seen WHERE wire = ? AND path = ?", wire, path
    )
    return Seen(*row) if row else None


def see(tx: Transaction, wire: int, path: str, now: Seen) -> None:
    """Record how a file is seen now."""
    tx.do(
        "INSERT INTO seen (wire, path, size, mtime, inode, digest, changes) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (wire, path) DO UPDATE SET size = excluded.size, mtime = excluded.mtime,"
        " inode = excluded.inode, digest = excluded.digest, changes = excluded.changes",
        wire,
        path,
        now.size,
        now.mtime,
        now.inode,
        now.digest,
        now.changes,
    )


def refuse(tx: Transaction, refusal: Refusal, circuit: int) -> None:
    """Keep a refused event on record."""
    tx.do(
        "INSERT INTO refusal (circuit, wire, at, value, event_source, event_id, digest, kept, reason)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        circuit,
        refusal.wire,
        refusal.at,
        refusal.value,
        refusal.event_source,
        refusal.event_id,
        refusal.digest,
        refusal.kept,
        refusal.reason,
    )


def attempted(tx: Transaction, attempt: Attempt) -> None:
    """Record an attempt that ended."""
    tx.do(
        "INSERT INTO execution (task, snapshot, attempt, version, started, ended, outcome, reason, status,"
        " message, stderr, size_in, size_out) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        attempt.task,
        attempt.snapshot,
        attempt.attempt,
        attempt.version,
        attempt.started,
        attempt.ended,
        attempt.outcome,
        attempt.reason,
        attempt.status,
        attempt.message,
        attempt.stderr,
        attempt.size_in,
        attempt.size_out,
    )


def remark(
    tx: Transaction,
    task: int,
    snapshot: int | None,
    at: int,
    kind: str,
    text: str,
    body: Mapping[str, object] | None = None,
) -> None:
    """Record what a program or the wrapper had to say."""
    tx.do(
        "INSERT INTO remark (task, snapshot, at, kind, text, body) VALUES (?, ?, ?, ?, ?, ?)",
        task,
        snapshot,
        at,
        kind,
        text,
        json.dumps(body or {}, ensure_ascii=False, default=str),
    )


def keep_version(tx: Transaction, task: int, digest: str, run: str, now: int) -> bool:
    """Record a version of a task's code; whether it is a new one."""
    return (
        tx.run(
            "INSERT INTO version (task, digest, run, seen) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            task,
            digest,
            run,
            now,
        )
        > 0
    )


def usual(tx: Transaction, task: int) -> str:
    """What usually happens in a task, as text."""
    row = tx.one("SELECT usual FROM task WHERE id = ?", task)
    return str(row[0]) if row else "{}"


def keep_usual(tx: Transaction, task: int, text: str) -> None:
    """Record what usually happens in a task."""
    tx.do("UPDATE task SET usual = ? WHERE id = ?", text, task)


def last_attempt(tx: Transaction, snapshot: int) -> Attempt | None:
    """The latest attempt at a snapshot."""
    row = tx.one(
        "SELECT task, snapshot, attempt, version, started, ended, outcome, reason, status, message, stderr,"
        " size_in, size_out FROM execution WHERE snapshot = ? ORDER BY id DESC LIMIT 1",
        snapshot,
    )
    return Attempt(*row) if row else None
