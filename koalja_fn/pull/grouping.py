"""Grouping: the snapshots of a task whose values are all there at once.

The snapshot core decides, as it does when values arrive one by one. Wires come in the order of the
wiring, passive ones first, and each wire's values in their order. Under `swap` what comes first is
replaced before anybody could use it, so one snapshot is left: the newest window of each input. `rate`
has nothing to slow down, and `within` is over at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from koalja_fn.model import AnnotatedValue, Members, Task
from koalja_fn.snapshots import (
    Admitted,
    Arrival,
    Event,
    Formed,
    Free,
    InputSpec,
    Outcome,
    Spec,
    Time,
    Window,
    advance,
    eager,
    fresh,
    spec_of,
)

Values = Sequence[AnnotatedValue]
_AFTERWARDS = 1 << 60


@dataclass(frozen=True, slots=True)
class Grouped:
    """The snapshots of a task, and how many values of each input no snapshot has."""

    snapshots: tuple[tuple[Members, ...], ...]
    left: Mapping[str, int]


def group(task: Task, values: Mapping[str, Values]) -> Grouped:
    """Form the task's snapshots out of all values of its wires."""
    spec = replace(spec_of(task), interval=None)
    if not spec.inputs:
        return Grouped(((),), {})
    state = fresh(spec, dict.fromkeys(spec.wires, 0))
    first: list[Event] = [Time(0)] if spec.timed else []
    state, outcomes = advance(spec, state, [*first, *_arrivals(spec, values)])
    if spec.elastic and eager(spec, state):
        state, more = advance(spec, state, [Free()])
        outcomes = [*outcomes, *more]
    if spec.within is not None:
        state, more = advance(spec, state, [Time(_AFTERWARDS)])
        outcomes = [*outcomes, *more]
    return _grouped(spec, outcomes, values)


def _arrivals(spec: Spec, values: Mapping[str, Values]) -> list[Event]:
    inputs = sorted(spec.inputs, key=lambda item: not item.passive)
    return [
        Arrival(wire, n, _key(spec, value), value.index, value.event_source, value.sequence)
        for item in inputs
        for wire in item.wires
        for n, value in enumerate(values[wire])
    ]


def _key(spec: Spec, value: AnnotatedValue) -> str:
    return value.attributes.get(spec.align, "") if spec.align else value.key


def _grouped(spec: Spec, outcomes: Sequence[Outcome], values: Mapping[str, Values]) -> Grouped:
    places = {(o.input, o.index): (o.wire, o.position) for o in outcomes if isinstance(o, Admitted)}
    formed = [outcome for outcome in outcomes if isinstance(outcome, Formed)]
    if spec.policy == "swap":
        formed = formed[-1:]
    by_name = {item.name: item for item in spec.inputs}
    used: dict[str, set[int]] = {item.name: set() for item in spec.inputs}
    found = []
    for snapshot in formed:
        members = []
        for window in snapshot.windows:
            item = by_name[window.input]
            numbers = range(window.first, window.first + window.count)
            used[item.name].update(numbers)
            at = [places.get((item.name, n), (item.wires[0], n)) for n in numbers]
            some = tuple(values[wire][position] for wire, position in at)
            members.append(Members(item.name, some, _fresh(spec, item, window)))
        found.append(tuple(members))
    left = {
        item.name: sum(len(values[wire]) for wire in item.wires) - len(used[item.name])
        for item in spec.inputs
        if not item.passive
    }
    return Grouped(tuple(found), {name: count for name, count in left.items() if count})


def _fresh(spec: Spec, item: InputSpec, window: Window) -> int:
    """How many values are new to the task; under `swap` the one snapshot is its first."""
    if spec.policy == "swap":
        return 0 if item.passive else window.count
    return window.fresh
