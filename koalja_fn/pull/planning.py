"""Planning backwards: which tasks lie on the way to the wires that are wanted, producers first."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from koalja_fn.errors import NotFound, UsageError
from koalja_fn.model import Circuit, Task


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to be looked at: tasks in an order in which each comes after its producers.

    `wanted` are wires; `sources` are those that no task feeds, to be sampled.
    """

    wanted: tuple[str, ...]
    tasks: tuple[Task, ...]
    sources: tuple[str, ...]


def plan(circuit: Circuit, wanted: Sequence[str]) -> Plan:
    """The way to the wires `wanted`; to all ends of the circuit where none is named.

    The name of a task without outputs is taken, too: it is a sink, and runs whenever it is asked for.

    Raises:
        NotFound: No such wire or sink.
        UsageError: There is a loop on the way, or a service, or nothing to ask for.
    """
    writers = {wire: task for task in circuit.tasks for wire in task.output_wires}
    names = tuple(wanted) or circuit.ends
    if not names:
        raise UsageError(
            f"circuit {circuit.name} has no ends to ask for",
            why="each wire that a task feeds is read by another, or no task feeds any",
            cure=f"name a wire: koalja-fn make DIR {next(iter(sorted(writers)), 'WIRE')}",
        )
    sinks = {task.name: task for task in circuit.tasks if not task.outputs}
    goals = [sinks[name] if name in sinks else _writer(circuit, writers, name) for name in names]
    tasks = _ordered(writers, [goal for goal in goals if goal is not None])
    _refuse_services(tasks)
    read = {wire for task in tasks for item in task.streams for wire in item.wires}
    plain = {name for name, goal in zip(names, goals, strict=True) if goal is None}
    sources = tuple(sorted((read - set(writers)) | plain))
    return Plan(tuple(name for name in names if name not in sinks), tasks, sources)


def _writer(circuit: Circuit, writers: dict[str, Task], name: str) -> Task | None:
    if name in writers:
        return writers[name]
    if name in circuit.wires:
        return None
    choices = [*circuit.wires, *(task.name for task in circuit.tasks if not task.outputs)]
    close = difflib.get_close_matches(name, choices, n=1)
    raise NotFound(
        f"circuit {circuit.name} has no wire {name!r}",
        cure=f"did you mean {close[0]}?" if close else f"its ends: {', '.join(circuit.ends) or 'none'}",
    )


def _ordered(writers: dict[str, Task], goals: Iterable[Task]) -> tuple[Task, ...]:
    needs: dict[str, list[str]] = {}
    by_name: dict[str, Task] = {}
    waiting = list(goals)
    while waiting:
        task = waiting.pop()
        if task.name in needs:
            continue
        by_name[task.name] = task
        found = {w: writers[w] for item in task.streams for w in item.wires if w in writers}
        needs[task.name] = sorted({producer.name for producer in found.values()})
        waiting += found.values()
    try:
        order = tuple(TopologicalSorter(needs).static_order())
    except CycleError as error:
        loop = " -> ".join(reversed(error.args[1]))
        raise UsageError(
            f"there is a loop on the way: {loop}",
            why="`make` would never come to its end: what it makes is what it is made from",
            cure="run it: koalja-fn run DIR goes round loops; or ask for a wire before the loop",
        ) from None
    return tuple(by_name[name] for name in order)


def _refuse_services(tasks: Iterable[Task]) -> None:
    for task in tasks:
        implicit = [item.name for item in task.inputs if item.implicit]
        if task.service or implicit:
            raise UsageError(
                f"task {task.name} needs services: {', '.join(implicit) or 'it is one'}",
                why="`make` asks none: `koalja-fn run` does",
                cure="ask for a wire that needs none",
            )
