"""Replaying: a task's log through the snapshot core, which gives the state and the snapshots again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from koalja_fn.engine.taking import Taken, read
from koalja_fn.registry import tasks
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.tasks import LogRecord, TaskRow
from koalja_fn.snapshots import Event, Free, Outcome, Spec, State, Time, advance, fresh, rewire


@dataclass(frozen=True, slots=True)
class Remembered:
    """The core's state as it was after record `seq` of the log of a task, which is known by its row."""

    seq: int
    state: State
    task: int


@dataclass(frozen=True, slots=True)
class Wiring:
    """The body of a `wired` record: the specification from here on, and where new inputs begin."""

    spec: Spec
    starts: dict[str, int]
    bases: dict[str, int]
    generation: int

    def to_json(self) -> str:
        """As the log keeps it."""
        return json.dumps(
            {
                "spec": self.spec.to_json(),
                "starts": self.starts,
                "bases": self.bases,
                "generation": self.generation,
            },
            sort_keys=True,
        )

    @classmethod
    def from_json(cls, text: str) -> Wiring:
        """Read it back."""
        body: dict[str, Any] = json.loads(text)
        return cls(Spec.from_json(body["spec"]), body["starts"], body["bases"], body["generation"])

    def apply(self, old: Spec | None, state: State | None) -> State:
        """The state with which the new generation begins."""
        if old is None or state is None:
            return fresh(self.spec, self.starts)
        return rewire(old, state, self.spec, self.starts, self.bases)


def current_state(tx: Transaction, spec: Spec, row: TaskRow, remembered: Remembered | None) -> State:
    """The core's state now: as remembered, or the last checkpoint and the log behind it."""
    if remembered is not None and (remembered.task, remembered.seq) == (row.id, row.log_head):
        return remembered.state
    state = State.from_json(row.state)
    for record in tasks.log_after(tx, row.id, row.state_at):
        state, _ = advance(spec, state, events_of(tx, spec, record))
    return state


@dataclass(frozen=True, slots=True)
class Replayed:
    """A record of the log, the wiring in force, what the core made of it, and its state afterwards."""

    record: LogRecord
    wiring: Wiring
    outcomes: Sequence[Outcome]
    state: State


def replay(tx: Transaction, task: int) -> Iterator[Replayed]:
    """Run all of a task's log through the core, from its beginning."""
    wiring: Wiring | None = None
    state: State | None = None
    for record in tasks.log_after(tx, task, 0):
        if record.kind == "wired":
            following = Wiring.from_json(record.body or "{}")
            state = following.apply(wiring.spec if wiring else None, state)
            wiring = following
            yield Replayed(record, wiring, (), state)
            continue
        assert wiring is not None, "a log begins with its wiring"
        assert state is not None
        state, outcomes = advance(wiring.spec, state, events_of(tx, wiring.spec, record))
        yield Replayed(record, wiring, outcomes, state)


def events_of(tx: Transaction, spec: Spec, record: LogRecord) -> list[Event]:
    """The core's events that a record stands for."""
    if record.kind == "time":
        return [Time(record.at)]
    if record.kind == "free":
        return [Free()]
    return [t.arrival for t in taken_by(tx, spec, record)]


def taken_by(tx: Transaction, spec: Spec, record: LogRecord) -> list[Taken]:
    """The values that a record of kind `run` took up."""
    if record.wire is None or record.row is None or record.first is None or record.last is None:
        return []
    return read(tx, spec, record.row, record.wire, record.first, record.last - record.first + 1)
