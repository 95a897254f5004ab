"""The sweep: what nobody rang for, or whose ring was lost, is found and rung for (DESIGN, section 7).

Claims whose lease is over are lost; tasks with something to read, to start or whose time has come are told.
Tasks that run as jobs have nobody who listens: their snapshots are formed here, and the cluster's
autoscaler counts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from koalja_fn.engine import backlog, claiming, forming
from koalja_fn.engine.plans import CircuitPlan, TaskPlan
from koalja_fn.registry import Registry, services, snapshots, standing
from koalja_fn.registry.registry import Transaction

if TYPE_CHECKING:
    from koalja_fn.registry.standing import Standing

# What is due so soon is rung for now: whoever hears it waits.
_SOON = 5 * claiming.SECOND


def sweep(registry: Registry, circuit: CircuitPlan) -> dict[str, int]:
    """Look at the whole circuit once; for each task with work, how many may work on it at once."""
    found = registry.read(lambda tx: standing.of_circuit(tx, circuit.id))
    plans = {plan.id: plan for plan in circuit.tasks.values()}
    now = registry.clock()
    wanted: dict[str, int] = {}
    for stands in found:
        plan = plans.get(stands.task)
        if plan is None:
            continue
        formed = 0
        if plan.spec.elastic and not stands.running and stands.startable is None:
            formed = form_all(registry, plan)  # a window may be closed early that nobody came back to
        if not formed and not _needs_a_look(stands, now):
            continue
        rings = registry.transact(lambda tx, plan=plan: _take_up(tx, registry, circuit, plan))  # type: ignore[misc]
        if plan.task.mode == "job":
            form_all(registry, plan)
        elif rings:
            wanted[plan.name] = rings
    return wanted


def form_all(registry: Registry, plan: TaskPlan) -> int:
    """Form all that can be formed of a task now, whoever will run it; return how many snapshots."""
    formed, more = 0, True
    while more:
        try:
            formation = registry.transact(lambda tx: forming.form(tx, registry.clock, plan))
        except forming.Stale:
            return formed
        formed, more = formed + formation.formed, formation.more
    return formed


def form_jobs(registry: Registry, circuit: CircuitPlan, wires: set[str], but: str = "") -> None:
    """Form for tasks that run as jobs and read these wires: no process of theirs is there to be rung."""
    for plan in circuit.readers(wires):
        if plan.task.mode == "job" and plan.name != but:
            form_all(registry, plan)


def _needs_a_look(stands: Standing, now: int) -> bool:
    times = (stands.due, stands.startable)
    soon = any(at is not None and at <= now + _SOON for at in times)
    return soon or stands.unread or (stands.lease is not None and stands.lease <= now)


def _take_up(tx: Transaction, registry: Registry, circuit: CircuitPlan, plan: TaskPlan) -> int:
    """Take up claims that ran out; return how many rings the task needs."""
    now = registry.clock()
    for snapshot in snapshots.expired(tx, plan.id, now):
        claiming.lose(tx, now, plan, snapshot)
    stands = standing.of_task(tx, plan.id)
    free = plan.task.concurrency - stands.running
    if free > 0 and may_start(tx, circuit, plan, now + _SOON):
        return max(1, standing.startable(tx, plan.id, now + _SOON, free))
    return int(stands.unread or (stands.due is not None and stands.due <= now + _SOON))


def may_start(tx: Transaction, circuit: CircuitPlan, plan: TaskPlan, now: int) -> bool:
    """Whether a snapshot is ready that could be claimed if there were a place for it."""
    if plan.task.strict:
        first = snapshots.first_open(tx, plan.id)
        if first is None or first.state != "ready" or first.due > now:
            return False
    elif not standing.startable(tx, plan.id, now, 1):
        return False
    if not services.are_up(tx, (one.id for one in circuit.asked(plan))):
        return False
    return backlog.full_reader(tx, circuit, plan.task.output_wires) is None


def producers(circuit: CircuitPlan) -> Mapping[str, frozenset[str]]:
    """For each task with a backlog, the tasks that wait while it is full."""
    found = {}
    for plan in circuit.tasks.values():
        if plan.task.backlog is not None:
            writers = (circuit.circuit.writer(wire) for wire in plan.spec.wires)
            found[plan.name] = frozenset(writer.name for writer in writers if writer is not None)
    return found
