"""The rows of which stories are told, and the columns that make them.

The constants are the part of a statement between SELECT and WHERE.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FormedRow:
    """A snapshot's row, with the names of its task and circuit; `task` is the task's row."""

    rid: int
    id: str
    task: int
    name: str
    circuit: str
    number: int
    generation: int
    state: str
    formed: int
    cause: str
    due: int
    attempts: int
    claimed: int
    finished: int


@dataclass(frozen=True, slots=True)
class WindowRow:
    """One input of a snapshot: the input's indexes first to last, of which the last `fresh` were new."""

    task: int
    input: str
    wire: int | None
    first: int
    last: int
    fresh: int


@dataclass(frozen=True, slots=True)
class RunRow:
    """Neighbouring positions of a wire."""

    wire: int
    name: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """An attempt that ended. `name` is the task's."""

    id: int
    task: int
    name: str
    snapshot: int
    snapshot_id: str
    number: int
    attempt: int
    version: str
    started: int
    ended: int
    outcome: str
    reason: str
    status: int | None
    message: str
    stderr: str
    size_in: int
    size_out: int


@dataclass(frozen=True, slots=True)
class RemarkRow:
    """What a program or the wrapper had to say. `name` is the task's."""

    id: int
    task: int
    name: str
    snapshot: str
    at: int
    kind: str
    text: str
    body: str


@dataclass(frozen=True, slots=True)
class PassedRow:
    """Values of an input that no snapshot will have. `name` is the task's."""

    id: int
    task: int
    name: str
    at: int
    input: str
    first: int
    last: int
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class ReaderRow:
    """A task that reads, or read, a wire. `position` is the next value that it will read."""

    task: int
    name: str
    input: str
    start: int
    position: int
    retired: int
    generation: int
    spec: str


@dataclass(frozen=True, slots=True)
class Span:
    """What is known of neighbouring values of a wire, taken together."""

    count: int
    size: int
    earliest: int
    latest: int
    makers: int


FORMED = (
    "s.rid, s.id, s.task, t.name, c.name, s.number, s.generation, s.state, s.formed, coalesce(s.cause, ''),"
    " s.due, s.attempts, coalesce(s.claimed, 0), coalesce(s.finished, 0)"
    " FROM snapshot s JOIN task t ON t.id = s.task JOIN circuit c ON c.id = t.circuit"
)
ATTEMPT = (
    "e.id, e.task, t.name, e.snapshot, s.id, s.number, e.attempt, e.version, e.started, e.ended, e.outcome,"
    " e.reason, e.status, e.message, e.stderr, e.size_in, e.size_out"
    " FROM execution e JOIN task t ON t.id = e.task JOIN snapshot s ON s.rid = e.snapshot"
)
REMARK = (
    "r.id, r.task, t.name, coalesce(s.id, ''), r.at, r.kind, r.text, r.body"
    " FROM remark r JOIN task t ON t.id = r.task LEFT JOIN snapshot s ON s.rid = r.snapshot"
)
PASSED = (
    "p.id, p.task, t.name, p.at, p.input, p.first, p.last, p.reason, p.text"
    " FROM passed p JOIN task t ON t.id = p.task"
)
