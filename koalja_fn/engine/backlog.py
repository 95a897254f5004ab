"""Backlog: how many values of an input are in no finished snapshot yet, and what is full."""

from __future__ import annotations

from collections.abc import Iterable

from koalja_fn.engine.plans import CircuitPlan, TaskPlan
from koalja_fn.registry import tasks
from koalja_fn.registry.registry import Transaction


def waiting(tx: Transaction, plan: TaskPlan) -> dict[str, int]:
    """For each input of a task, the number of its values in no finished snapshot.

    A passive input is left out: its values are looked at, none of them waits for its turn.
    """
    counts: dict[str, int] = {}
    passive = {item.name for item in plan.spec.inputs if item.passive}
    for link in tasks.links(tx, plan.id):
        if link.input in passive:
            continue
        counts[link.input] = counts.get(link.input, 0) + link.head - link.start - link.settled
    return {name: max(0, count) for name, count in counts.items()}


def full_reader(tx: Transaction, circuit: CircuitPlan, wires: Iterable[str]) -> TaskPlan | None:
    """A task with a full backlog on one of these wires, if there is one.

    Wires on a cycle never count: a loop that waited for itself would stand still for ever.
    """
    wanted = set(wires) - circuit.cyclic
    if not wanted:
        return None
    for plan in circuit.readers(wanted):
        limit = plan.task.backlog
        if limit is None:
            continue
        counts = waiting(tx, plan)
        for item in plan.spec.inputs:
            if wanted.intersection(item.wires) and counts.get(item.name, 0) >= limit:
                return plan
    return None


def cyclic_wires(circuit: CircuitPlan) -> frozenset[str]:
    """Wires that lie on a cycle of tasks."""
    following = {
        name: {reader.name for reader in circuit.readers(set(plan.task.output_wires))}
        for name, plan in circuit.tasks.items()
    }
    found = set()
    for name, plan in circuit.tasks.items():
        for wire in plan.task.output_wires:
            for reader in circuit.readers({wire}):
                if _reaches(following, reader.name, name):
                    found.add(wire)
    return frozenset(found)


def _reaches(following: dict[str, set[str]], start: str, goal: str) -> bool:
    seen, open_ends = {start}, [start]
    while open_ends:
        here = open_ends.pop()
        if here == goal:
            return True
        open_ends += following[here] - seen
        seen |= following[here]
    return False
