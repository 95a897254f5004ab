"""A workbench whose tasks have behaviours by version, and a recompute on it, step by step."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from workbench import Workbench

from koalja_fn.engine.claiming import Claim, Ending
from koalja_fn.engine.executing import Executed
from koalja_fn.engine.lane.beginning import begin, prospect
from koalja_fn.engine.lane.running import Lane, Progress
from koalja_fn.program.cancel import Cancel
from koalja_fn.registry import lanes, snapshots


def made(behaviour: str, given: str) -> list[str] | None:
    """What a program writes for its input: None where it fails."""
    mark = int(hashlib.sha256(given.encode()).hexdigest(), 16)
    text = f"<{given}>" if len(given) < 40 else hashlib.sha256(given.encode()).hexdigest()[:12]
    if behaviour == "same":
        return [text]
    if behaviour == "other":
        return [text + "!"]
    if behaviour == "filter":
        return [text] if mark % 3 else []
    if behaviour == "fails":
        return [text] if mark % 3 else None
    assert behaviour == "several", behaviour
    return [f"{text}{n}" for n in range(mark % 3)]


class World:
    """A workbench that is driven in one order, so that two of them can be compared."""

    def __init__(self, bench: Workbench, behaviours: Mapping[str, str]) -> None:
        self.bench = bench
        self.behaviours = dict(behaviours)
        self.runs: list[tuple[str, str]] = []
        self.running: Counter[str] = Counter()
        self.most_of: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._versions()

    def _versions(self) -> None:
        plans = {
            name: replace(
                plan, code=replace(plan.code, version=f"sha256:{name}-{self.behaviours.get(name, 'same')}")
            )
            for name, plan in self.bench.plan.tasks.items()
        }
        self.bench.plan = replace(self.bench.plan, tasks=plans)

    def edit(self, behaviours: Mapping[str, str]) -> None:
        """From now on some tasks have other code."""
        self.behaviours |= behaviours
        self._versions()

    def rewire(self, text: str) -> None:
        """From now on the circuit is another one."""
        self.bench.remembered.clear()
        self.bench.wire(text)
        self._versions()

    def tell(self, wire: str, *texts: str) -> None:
        self.bench.send(wire, *texts)
        self.settle()

    def settle(self) -> None:
        """Work everything off, tasks in the order of the file."""
        for _ in range(200):
            busy = False
            for name in self.bench.plan.tasks:
                busy |= self._work(name)
            if not busy:
                return
        raise AssertionError("it does not come to an end")

    def _work(self, name: str) -> bool:
        busy = False
        while True:
            formed = self.bench.form(name)
            claims = self.bench.claim(name, most=1)
            for claim in claims:
                self._run(claim)
            busy |= bool(formed or claims)
            if not formed and not claims:
                return busy

    def _run(self, claim: Claim) -> None:
        outputs = self.outputs(claim)
        if outputs is None:
            self.bench.fail(claim, permanent=True)
        else:
            self.bench.complete(claim, outputs)

    def outputs(self, claim: Claim) -> dict[str, Sequence[str]] | None:
        members = self.bench.registry.read(lambda tx: snapshots.members(tx, claim.rid))
        given = "|".join(
            ",".join(self.bench.store.read(v.digest).decode() for v in m.values) for m in members
        )
        name = claim.plan.name
        self.runs.append((name, given))
        texts = made(self.behaviours.get(name, "same"), given)
        return None if texts is None else dict.fromkeys(claim.plan.task.output_wires, texts)

    def lane(self, jobs: int = 1, **options: Any) -> Lane:
        """The recompute that is under way, or a new one."""
        plan = self.bench.plan
        found = self.bench.registry.read(lambda tx: lanes.unfinished(tx, plan.id))
        if found is None:
            wanted = self.bench.registry.read(lambda tx: prospect(tx, plan, **options))
            found = self.bench.transact(lambda tx: begin(tx, self.bench.clock(), plan, wanted))
        return Lane(self.bench.registry, found, plan, self.progress.append, jobs)

    @property
    def progress(self) -> list[Progress]:
        return self.__dict__.setdefault("_progress", [])

    def execute(self, lane: Lane) -> Any:
        """What stands for the executor in the lane."""

        def execute(claim: Claim, _: Cancel | None = None) -> Executed:
            outputs = self._side_by_side(claim)
            if outputs is None:
                self.bench.fail(claim, permanent=True)
                return Executed(claim, "dead", Ending(claim.plan.code.version))
            members = self.bench.registry.read(lambda tx: snapshots.members(tx, claim.rid))
            values = self.bench._values(claim, members, outputs)
            ending = Ending(claim.plan.code.version, values=values)
            lane.turn(claim)
            self.bench.transact(lambda tx: lane.commit(tx, self.bench.clock, lane.plan, claim, ending))
            return Executed(claim, "done", ending)

        return execute

    def _side_by_side(self, claim: Claim) -> dict[str, Sequence[str]] | None:
        """Outputs of a claim of a lane; those that come first take longest."""
        with self._lock:
            self.running[claim.plan.name] += 1
            self.most_of[claim.plan.name] = max(self.most_of[claim.plan.name], self.running[claim.plan.name])
        if claim.plan.task.concurrency > 1:
            time.sleep(0.002 * (5 - claim.number % 5))
        try:
            return self.outputs(claim)
        finally:
            with self._lock:
                self.running[claim.plan.name] -= 1

    def recompute(self, jobs: int = 1, **options: Any) -> Lane:
        """All of it; nothing else happens meanwhile."""
        lane = self.lane(jobs, **options)
        assert lane.catch_up(self.execute(lane))
        assert lane.behind == 0
        assert lane.switch()
        self.take_over(lane)
        return lane

    def take_over(self, lane: Lane) -> None:
        self.bench.plan = lane.plan
        self.bench.remembered.clear()
        self.bench.intake = type(self.bench.intake)(
            self.bench.registry, self.bench.store, lane.plan, self.bench.rung.append
        )

    def told(self) -> dict[str, Any]:
        """All that can be seen: what stands on the wires, and what the snapshots hold and came to."""
        wires = {name: self.said(row) for name, row in self.bench.plan.wires.items()}
        return {
            "wires": wires,
            "snapshots": {n: self.snapshots(p.id) for n, p in self.bench.plan.tasks.items()},
        }

    def said(self, wire: int) -> list[str]:
        rows = self.bench.ask("SELECT digest FROM value WHERE wire = ? ORDER BY position", wire)
        return [self.bench.store.read(digest).decode() for (digest,) in rows]

    def snapshots(self, task: int) -> list[tuple[Any, ...]]:
        def look(tx: Any) -> list[tuple[Any, ...]]:
            rows = tx.all("SELECT rid, state FROM snapshot WHERE task = ? ORDER BY number", task)
            return [
                (
                    state,
                    [(m.input, [v.digest for v in m.values], m.fresh) for m in snapshots.members(tx, rid)],
                )
                for rid, state in rows
            ]

        return self.bench.registry.read(look)
