"""Attaching: a process that did not install a circuit learns from the registry how it is wired up.

On a cluster the one who deploys installs, and each container runs one task: it takes the wiring from
the registry, and only the code from its own image (DESIGN, section 7).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from koalja_fn.engine.backlog import cyclic_wires
from koalja_fn.engine.plans import CircuitPlan, TaskPlan, wires_of
from koalja_fn.errors import NotFound
from koalja_fn.plain import circuit_of
from koalja_fn.program.locating import Located
from koalja_fn.registry import tasks
from koalja_fn.registry.registry import Transaction
from koalja_fn.snapshots import spec_of


@dataclass(frozen=True, slots=True)
class Attached:
    """A circuit as it was installed last. `versions` are the tasks' code versions of that time."""

    plan: CircuitPlan
    versions: Mapping[str, str]

    def current(self, task: str) -> bool:
        """Whether the code at hand for a task is the installed one; an older one neither forms nor claims."""
        return self.plan.tasks[task].code.version == self.versions[task]


def attach(tx: Transaction, name: str, codes: Mapping[str, Located], folder: Path = Path("/")) -> Attached:
    """The plan of an installed circuit. `codes` are the programs at hand, all others are elsewhere.

    Raises:
        NotFound: No such circuit is installed here.
    """
    row = tasks.circuit_id(tx, name)
    model = tasks.model(tx, row) if row is not None else ""
    if row is None or not model:
        raise NotFound(
            f"circuit {name!r} is not installed in this registry",
            why="nobody has run or deployed it here",
            cure="koalja-fn deploy DIR, or see which registry is meant",
        )
    told = json.loads(model)
    circuit = circuit_of(told["circuit"])
    versions = {str(task): str(version) for task, version in told["versions"].items()}
    wires = tasks.wires(tx, row)
    plans: dict[str, TaskPlan] = {}
    for task in circuit.tasks:
        known = tasks.by_name(tx, row, task.name)
        assert known is not None  # written in the same transaction as the model
        code = codes.get(task.name) or elsewhere(task.name, versions[task.name], folder)
        plans[task.name] = TaskPlan(
            known.id, name, task, spec_of(task), known.generation, code, wires_of(task, wires)
        )
    whole = CircuitPlan(row, circuit, folder, wires, plans)
    return Attached(replace(whole, cyclic=cyclic_wires(whole)), versions)


def moved(tx: Transaction, plan: CircuitPlan) -> CircuitPlan:
    """A circuit's plan with the rows of now: a recompute puts others in the places of tasks and wires."""
    wires = tasks.wires(tx, plan.id)
    rows = {row.name: row.id for row in tasks.of_circuit(tx, plan.id)}
    plans = {
        name: replace(one, id=rows[name], wires={wire: wires[wire] for wire in one.wires})
        for name, one in plan.tasks.items()
    }
    return replace(plan, wires={name: wires[name] for name in plan.wires}, tasks=plans)


def elsewhere(task: str, version: str, folder: Path) -> Located:
    """The code of a task that another process runs: its version is known, and nothing else."""
    return Located(task, (), folder, None, (), version, explicit=False)
