"""Calls: what a claim asks of the program."""

from __future__ import annotations

from collections.abc import Sequence

from koalja_fn.engine.claiming import Claim
from koalja_fn.engine.plans import CircuitPlan
from koalja_fn.program.contract import Job
from koalja_fn.registry.snapshots import Members


def job_of(
    circuit: CircuitPlan, claim: Claim, members: Sequence[Members], env: Sequence[tuple[str, str]] = ()
) -> Job:
    """The call that a claim asks for; `env` comes on top of what the wiring gives the program."""
    task, code = claim.plan.task, claim.plan.code
    wires = circuit.circuit.wires
    return Job(
        circuit=claim.plan.circuit,
        task=task.name,
        command=code.command,
        folder=circuit.folder,
        code=code.code,
        snapshot_id=claim.id,
        inputs=tuple((m.input, m.values) for m in members),
        outputs=task.output_wires,
        types=tuple((w, wires[w].type or "") for w in task.output_wires if wires[w].type),
        env=(*task.env, *env),
        timeout=task.timeout,
        label=f"{task.name}-{claim.number + 1}-{claim.attempt}",
        warm=task.warm,
    )
