"""What a run of `make` consists of: executions, how they ended, and what came of it all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from koalja_fn.local.patterns import Pattern
from koalja_fn.model import AnnotatedValue, Members, Task
from koalja_fn.pull.asking import Failure
from koalja_fn.pull.sampling import Sample


@dataclass(frozen=True, slots=True)
class Execution:
    """One snapshot of a task in this run: `number` counts from 0, `why` says what differs."""

    task: Task
    number: int
    key: str
    members: tuple[Members, ...]
    told: Mapping[str, Any]
    why: str = ""


@dataclass(slots=True)
class Built:
    """What came of a run.

    `values` are those of the wanted wires, `made` (task, number, why) what was run, `left` the values that
    are in no snapshot, `counts` the executions of each task, `samples` the sources' files by wire. Tasks that
    are `held_up` lack what others failed to make.
    """

    values: dict[str, list[AnnotatedValue]] = field(default_factory=dict)
    made: list[tuple[str, int, str]] = field(default_factory=list)
    cached: int = 0
    failures: list[Failure] = field(default_factory=list)
    held_up: list[str] = field(default_factory=list)
    left: dict[str, Mapping[str, int]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    listed: list[tuple[Pattern, tuple[str, ...]]] = field(default_factory=list)
    interrupted: bool = False


class Damaged(Exception):
    """The payload of a value is not there, or is not what it was."""

    def __init__(self, value: AnnotatedValue) -> None:
        super().__init__(value.id)
        self.value = value


@dataclass(frozen=True, slots=True)
class Done:
    """How an execution ended; `damaged` is an input whose payload is not what it was.

    `known`: it did not run, since somebody else had made the same meanwhile. `elsewhere`: neither, since
    somebody else is making it.
    """

    execution: Execution
    values: tuple[AnnotatedValue, ...] = ()
    seconds: float = 0.0
    failure: Failure | None = None
    damaged: AnnotatedValue | None = None
    cancelled: bool = False
    trouble: BaseException | None = None
    known: bool = False
    elsewhere: bool = False

    @property
    def fine(self) -> bool:
        """Whether what was asked for is there."""
        return self.failure is None and self.damaged is None and self.trouble is None


def label(execution: Execution) -> str:
    """How an execution is called: the task, and which of its snapshots if it is not the only one."""
    return execution.task.name + (f"[{execution.number + 1}]" if execution.number else "")
