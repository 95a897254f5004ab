"""Lanes: a snapshot of a recompute is executed here, where the program is; who drives it commits the outputs.

The request names a claim by its row and its fence, and nothing else; what is in it is in the registry. It
takes one of the places that programs have in this pod. A failed attempt is put on record here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from koalja_fn.engine.claiming import Claim, Ending
from koalja_fn.engine.endings import plain_ending
from koalja_fn.engine.executing import Executor
from koalja_fn.engine.lane.beginning import Options
from koalja_fn.engine.lane.recorded import Recorded
from koalja_fn.engine.plans import CircuitPlan
from koalja_fn.engine.working import Post, Span, Worker
from koalja_fn.program.cancel import Cancel
from koalja_fn.registry import lanes
from koalja_fn.registry.lanes import Charge
from koalja_fn.registry.registry import Transaction
from koalja_runtime.joining import Bench, Joined

Answer = tuple[str, dict[str, Any]]


def see_to(joined: Joined, bench: Bench, worker: Worker, named: str, span: Span) -> Answer:
    """Execute a claim of a lane; the status and the body to answer."""
    row, _, fence = named.partition("/")
    post = worker.looked()
    charge = None
    if row.isdigit() and fence.isdigit():
        charge = joined.registry.read(lambda tx: lanes.charge(tx, post.circuit.id, int(row), int(fence)))
    if charge is None:
        return "404 Not Found", {"why": "there is no such claim of a recompute"}
    wanted = charge.snapshot.version
    if not post.current or charge.task != post.plan.name or wanted != post.plan.code.version:
        return "409 Conflict", {"why": f"this pod has {post.plan.name} with code {post.plan.code.version}"}
    with worker.lent(span.until) as cancel:
        if cancel is None:
            return "503 Service Unavailable", {"why": "all places of this pod are taken"}
        return _executed(joined, bench, post, charge, span, cancel)


def _executed(joined: Joined, bench: Bench, post: Post, charge: Charge, span: Span, cancel: Cancel) -> Answer:
    found: list[Ending] = []

    def keep(
        _: Transaction, _clock: Callable[[], int], _circuit: CircuitPlan, _claim: Claim, ending: Ending
    ) -> set[str]:
        found[:] = [ending]
        return set()

    recorded = None
    if Options.from_json(charge.recompute.options).replay_lookups:
        recorded = Recorded(joined.registry, joined.store)
    try:
        lookups = recorded or bench.lookups(post.circuit)
        executor = Executor(joined.registry, joined.store, bench.caller, post.circuit, lookups, keep)
        executed = executor.execute(_claim(post, charge, span), cancel)
    finally:
        if recorded is not None:
            recorded.stop()
    if executed.outcome == "done":
        return "200 OK", {"ending": plain_ending(found[0])}
    if executed.outcome in ("failed", "dead"):
        told = {"outcome": executed.outcome, "due": executed.due, "ending": plain_ending(executed.ending)}
        return "200 OK", {"failed": told}
    return "200 OK", {"cancelled": True}


def _claim(post: Post, charge: Charge, span: Span) -> Claim:
    """The claim, by the rows of the lane, with no more time than the request has."""
    snapshot, task = charge.snapshot, post.plan.task
    left = max(1.0, round(span.until - time.monotonic(), 1))
    plan = replace(
        post.plan,
        id=snapshot.task,
        wires={**post.plan.wires, **{w: row for w, row in charge.wires.items() if w in post.plan.wires}},
        task=replace(task, timeout=min(left, task.timeout or left)),
    )
    return Claim(
        plan,
        snapshot.rid,
        snapshot.id,
        snapshot.number,
        snapshot.attempts,
        snapshot.fence,
        snapshot.claimed,
        snapshot.formed,
    )
