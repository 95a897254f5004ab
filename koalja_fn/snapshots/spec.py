"""What the core needs to know of a task: inputs, policy and limits of time.

A `Spec` is a task's wiring with everything left out that can't change its snapshots. It goes into
the registry beside the state, so that a changed wiring is seen as such.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from koalja_fn.errors import WiringError
from koalja_fn.model import Buffer, Input, Policy, Task

SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One stream of windows: `least` to `most` values, each starting `slide` after the one before."""

    name: str
    wires: tuple[str, ...]
    least: int = 1
    most: int = 1
    slide: int = 1
    passive: bool = False
    ordered: bool = False

    @property
    def elastic(self) -> bool:
        """Whether its windows may close before they are full."""
        return self.least < self.most

    @property
    def indexed(self) -> bool:
        """Whether its values are counted as they are admitted, not by their position on a wire."""
        return self.ordered or len(self.wires) > 1


@dataclass(frozen=True)
class Spec:
    """A task as the core sees it. `interval` (between snapshots) and `within` are in microseconds."""

    inputs: tuple[InputSpec, ...]
    policy: str = "all-new"
    align: str | None = None
    interval: int | None = None
    within: int | None = None

    @cached_property
    def wires(self) -> tuple[str, ...]:
        """All wires, in the order of the inputs."""
        return tuple(wire for i in self.inputs for wire in i.wires)

    @cached_property
    def route(self) -> dict[str, int]:
        """Which input, by its number, reads a wire."""
        return {wire: number for number, i in enumerate(self.inputs) for wire in i.wires}

    @property
    def timed(self) -> bool:
        """Whether time matters, so that it must be on record before each arrival."""
        return self.interval is not None or self.within is not None

    @property
    def elastic(self) -> bool:
        """Whether it matters when the task is free: some window may close early."""
        return any(i.elastic for i in self.inputs)

    @cached_property
    def indexed(self) -> frozenset[str]:
        """Names of the inputs whose values are numbered by admission, from 0, not by wire position."""
        return frozenset(i.name for i in self.inputs if i.indexed)

    def to_json(self) -> str:
        """Write it as text; equal specs give equal text."""
        inputs = [
            [i.name, list(i.wires), i.least, i.most, i.slide, int(i.passive), int(i.ordered)]
            for i in self.inputs
        ]
        return json.dumps(
            [inputs, self.policy, self.align, self.interval, self.within], separators=(",", ":")
        )

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """Read what `to_json` wrote."""
        inputs, policy, align, interval, within = json.loads(text)
        return cls(
            tuple(
                InputSpec(name, tuple(wires), least, most, slide, bool(passive), bool(ordered))
                for name, wires, least, most, slide, passive, ordered in inputs
            ),
            policy,
            align,
            interval,
            within,
        )


def spec_of(task: Task) -> Spec:
    """Reduce a task to what decides its snapshots.

    Policy `merge` becomes `all-new` with all inputs that are not passive merged into one. Under
    `align` a buffer is refused on inputs that trigger: values of one key need not be neighbours,
    so they could not be named as a range.
    """
    merging = task.policy is Policy.MERGE
    inputs = _merge(task.streams) if merging else tuple(_input(i) for i in task.streams)
    if task.policy is Policy.ALIGN:
        for i in inputs:
            if not i.passive and i.most > 1:
                raise WiringError(
                    f"Task '{task.name}': input '{i.name}' has a buffer under policy align.",
                    why="align pairs single values that agree on a key",
                    cure=f"leave the buffer out, or let a second task with '{i.name}' buffer the pairs",
                )
    return Spec(
        inputs=inputs,
        policy=str(Policy.ALL_NEW if merging else task.policy),
        align=task.align if task.policy is Policy.ALIGN else None,
        interval=None if task.rate is None else max(1, round(task.rate.interval * SECOND)),
        within=None if task.within is None else round(task.within * SECOND),
    )


def _input(i: Input) -> InputSpec:
    b = i.buffer
    return InputSpec(i.name, i.wires, b.least, b.most, b.slide, i.passive, i.ordered)


def _merge(streams: Sequence[Input]) -> tuple[InputSpec, ...]:
    """Put one input in the place of all that are not passive; the buffer is the one on the group."""
    members = [i for i in streams if not i.passive]
    if not members:
        return tuple(_input(i) for i in streams)
    first = members[0]
    buffer = next((i.buffer for i in members if not i.buffer.plain), Buffer())
    merged = InputSpec(
        first.name,
        tuple(wire for i in members for wire in i.wires),
        buffer.least,
        buffer.most,
        buffer.slide,
        ordered=any(i.ordered for i in members),
    )
    return tuple(merged if i is first else _input(i) for i in streams if i is first or i.passive)
