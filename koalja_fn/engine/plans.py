"""A circuit that is wired up in a registry: what each step needs to know of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from koalja_fn.model import Circuit, Task
from koalja_fn.program.locating import Located
from koalja_fn.snapshots import Spec


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """A task, its row in the registry, and its code.

    `wires` maps the names of all wires that it reads or feeds to their rows.
    """

    id: int
    circuit: str
    task: Task
    spec: Spec
    generation: int
    code: Located
    wires: Mapping[str, int]

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.name

    @property
    def streams(self) -> bool:
        """Whether values drive it (else time does)."""
        return bool(self.spec.inputs)

    def wire_of(self, name: str) -> int | None:
        """The wire whose positions number the input's values; None where admissions are counted."""
        if name in self.spec.indexed:
            return None
        return self.wires[self.first_wire(name)]

    def first_wire(self, name: str) -> str:
        """The first wire of an input; its link's row keeps the input's counts."""
        return next(i.wires[0] for i in self.spec.inputs if i.name == name)


@dataclass(frozen=True)
class CircuitPlan:
    """A circuit, its folder and its rows; `cyclic` are the wires that lie on a cycle of tasks."""

    id: int
    circuit: Circuit
    folder: Path
    wires: Mapping[str, int]
    tasks: Mapping[str, TaskPlan]
    cyclic: frozenset[str] = frozenset()

    @cached_property
    def by_wire(self) -> Mapping[str, tuple[TaskPlan, ...]]:
        """For each wire the tasks that read it, in the order of the file."""
        found: dict[str, list[TaskPlan]] = {}
        for plan in self.tasks.values():
            for wire in plan.spec.wires:
                found.setdefault(wire, []).append(plan)
        return {wire: tuple(plans) for wire, plans in found.items()}

    def asked(self, plan: TaskPlan) -> list[TaskPlan]:
        """The services of the circuit that a task asks."""
        return [self.tasks[task.name] for task in self.circuit.asked(plan.task)]

    def readers(self, wires: Iterable[str]) -> list[TaskPlan]:
        """Tasks that read any of these wires, each once."""
        return list({plan.id: plan for wire in wires for plan in self.by_wire.get(wire, ())}.values())


def wires_of(task: Task, rows: Mapping[str, int]) -> dict[str, int]:
    """The rows of the wires that a task reads or feeds, out of all of its circuit's."""
    names = {wire for item in task.inputs for wire in item.wires} | set(task.output_wires)
    return {name: rows[name] for name in names if name in rows}


def offered_wires(plan: TaskPlan) -> frozenset[str]:
    """The implicit wires that a service offers."""
    return frozenset(output.wire for output in plan.task.outputs if output.implicit)


def asked_wires(plan: TaskPlan) -> tuple[str, ...]:
    """The implicit wires on which a task asks."""
    return tuple(item.wires[0] for item in plan.task.inputs if item.implicit)
