"""Running a lane: replay, execute, come up to the cut, and at the end take the live tasks' place.

All that a lane has come to is in the registry: it is gone on with after a crash as if nothing had been. One
process at a time drives it (`driving.py`), while others may work on the live circuit. Only at the end
must live tasks pause: none of their snapshots is claimed until those that run are over.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from koalja_fn.engine import claiming
from koalja_fn.engine.claiming import Claim, Ending
from koalja_fn.engine.executing import Executed, Executor, Lookups
from koalja_fn.engine.lane.beginning import Options
from koalja_fn.engine.lane.driving import LEASE, Driver, Usurped
from koalja_fn.engine.lane.marching import march
from koalja_fn.engine.lane.placing import Placing, times
from koalja_fn.engine.lane.replaying import Replay
from koalja_fn.engine.lane.turns import GivenUp, Turns
from koalja_fn.engine.plans import CircuitPlan, TaskPlan
from koalja_fn.errors import KoaljaError, UsageError
from koalja_fn.program.calling import Caller
from koalja_fn.program.cancel import Cancel
from koalja_fn.registry import Registry, lanes, records, snapshots, standing, tasks, values
from koalja_fn.registry.lanes import LaneTask, LaneWire, Pair, Recompute
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.snapshots import Members
from koalja_fn.store import Store

_LEASE = 3600.0
_LOOK = 0.2
# So much may be left to read when the live tasks are held back, and at the end in one transaction.
_LITTLE = 20
_LAST = 500
# After so many rounds live tasks are held back, however much they still do; and for how long without us.
_ROUNDS = 4
_HOLD = 60.0
# Snapshots that one transaction settles at most.
_PORTION = 50
_EFFECTS = "not run again by a recompute without --effects"

T = TypeVar("T")
Executing = Callable[[Claim, Cancel | None], Executed]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a lane is: a task's snapshot that was settled, and how; `left` of that task are next."""

    task: str
    how: str
    left: int


@dataclass(frozen=True, slots=True)
class _Portion:
    """What is settled in one turn: some without a program, each with its verdict, or one that is run again.

    `left` is how many come behind.
    """

    settled: tuple[tuple[Pair, str], ...]
    again: tuple[int, Pair] | None
    left: int


@dataclass(slots=True)
class _Place:
    """What an execution has until its outputs wait for their turn: a place for its program, and the turn."""

    places: threading.Semaphore
    turns: Turns
    number: int
    pair: Pair
    at: int
    held: bool = False

    def take(self) -> None:
        self.places.acquire()
        self.held = True

    def leave(self) -> None:
        if self.held:
            self.held = False
            self.places.release()


class Lane:
    """A recompute that is under way. `plan` is the live circuit's; at most `jobs` programs run at once.

    `fresh` gives a task's plan with its code as it is now: what is edited meanwhile is run as it is then.

    Raises:
        Busy: Another process drives it.
        Usurped: It has come to its end.
    """

    def __init__(
        self,
        registry: Registry,
        recompute: Recompute,
        plan: CircuitPlan,
        told: Callable[[Progress], None] = lambda _: None,
        jobs: int = 1,
        fresh: Callable[[TaskPlan], TaskPlan] = lambda plan: plan,
    ) -> None:
        self.recompute = recompute
        self.options = Options.from_json(recompute.options)
        self._registry = registry
        self._live = plan
        self._told = told
        self._jobs = jobs
        self._fresh = fresh
        self._places = threading.Semaphore(jobs)
        self._owner = f"{os.uname().nodename}:{os.getpid()}:{time.time_ns()}:lane"
        self._driver = Driver(registry, recompute.id)
        self._tasks: dict[str, LaneTask] = {}
        self._wires: dict[str, LaneWire] = {}
        registry.transact(self._take_up)
        self.plan = self._plan()
        self._replays = {
            name: Replay(recompute.id, self.plan.tasks[name], task.old, self._wires, self.plan.wires)
            for name, task in self._tasks.items()
        }
        self._placings = {
            name: Placing(recompute, self.plan.tasks[name], task.old, self._wires)
            for name, task in self._tasks.items()
        }
        self._at: dict[int, _Place] = {}
        self._holding = False

    @property
    def names(self) -> tuple[str, ...]:
        """The tasks that take part, producers before readers."""
        return tuple(self._tasks)

    def executor(self, store: Store, caller: Caller, lookups: Lookups | None) -> Executor:
        """What executes the lane's claims: as any other, but for the places of its outputs."""
        return Executor(self._registry, store, caller, self.plan, lookups, self.commit, self.turn)

    def drive(self, execute: Executing, stop: Cancel | None = None) -> bool:
        """Bring the recompute to its end, while the live circuit goes on; False where stopped before.

        Raises:
            Usurped: Somebody else has brought it to its end, or is at it.
        """
        over = threading.Event()
        beating = threading.Thread(target=self._beat, args=(over,), name="lane-heartbeat", daemon=True)
        beating.start()
        try:
            return self._drive(execute, stop)
        finally:
            over.set()
            beating.join()
            self._registry.transact(self._leave)

    def _drive(self, execute: Executing, stop: Cancel | None) -> bool:
        rounds = 0
        while True:
            if not self.catch_up(execute, stop):
                return False
            rounds += 1
            if not self._holding and (rounds >= _ROUNDS or self.behind <= _LITTLE):
                self._do(self._hold_back)
                self._holding = True
            if self.switch():
                return True
            if stop is not None and stop.is_set:
                return False
            self._do(self._lose)
            time.sleep(min(_LOOK, 0.01 * rounds))

    def catch_up(self, execute: Executing, stop: Cancel | None = None) -> bool:
        """Come up to a cut that is where the live tasks are now; False where stopped before."""
        self._do(self._cut)

        def drive(name: str) -> bool:
            if not self._replay(name, stop) or not self._execute(name, execute, stop):
                return False
            self._do(self._placings[name].look_on)
            return True

        return march(self.names, self._feeders(), drive, self._jobs)

    @property
    def behind(self) -> int:
        """How much of what the live tasks have done is not in the lane yet."""
        return self._registry.read(lambda tx: lanes.behind(tx, self.recompute.id))

    def switch(self) -> bool:
        """Let the lane's tasks and wires take the live ones' place; False where something is left to do."""
        return self._do(self._switch)

    # Steps

    def _do(self, step: Callable[[Transaction], T]) -> T:
        """A transaction of the driver."""

        def checked(tx: Transaction) -> T:
            self._driver.check(tx)
            return step(tx)

        return self._registry.transact(checked)

    def _beat(self, over: threading.Event) -> None:
        while not over.wait(LEASE / 3):
            with suppress(KoaljaError, Usurped):  # whoever goes on without it is told so soon enough
                self._registry.transact(self._go_on)

    def _go_on(self, tx: Transaction) -> None:
        self._driver.beat(tx)
        if self._holding:
            self._hold_back(tx)

    def _lose(self, tx: Transaction) -> None:
        """Take up live claims whose owners are gone: nobody else may be there to do it."""
        now = self._registry.clock()
        for name, task in self._tasks.items():
            for snapshot in snapshots.expired(tx, task.old, now):
                claiming.lose(tx, now, self._live.tasks[name], snapshot)

    def _hold_back(self, tx: Transaction) -> None:
        tasks.hold_circuit(tx, self.recompute.circuit)
        until = self._registry.clock() + round(_HOLD * claiming.SECOND)
        lanes.hold_back(tx, list(self._tasks.values()), until)

    def _leave(self, tx: Transaction) -> None:
        self._driver.leave(tx)
        if self._holding:
            tasks.hold_all(tx, [task.old for task in self._tasks.values()])
            lanes.hold_back(tx, list(self._tasks.values()), 0)

    def _take_up(self, tx: Transaction) -> None:
        """What an earlier process had claimed is ready again."""
        self._driver.take(tx)
        self._installs = standing.installs(tx, self.recompute.circuit)
        for task in lanes.lane_tasks(tx, self.recompute.id):
            self._tasks[task.name] = task
            lanes.free(tx, task.new)
            version = self._live.tasks[task.name].code.version
            run = self._live.tasks[task.name].task.run or ""
            records.keep_version(tx, task.new, version, run, self._registry.clock())
        for wire in lanes.lane_wires(tx, self.recompute.id):
            self._wires[wire.name] = wire

    def _plan(self) -> CircuitPlan:
        rows = {**self._live.wires, **{name: wire.new for name, wire in self._wires.items()}}
        plans: dict[str, TaskPlan] = {}
        for name, plan in self._live.tasks.items():
            own = {wire: rows[wire] for wire in plan.wires}
            task = self._tasks.get(name)
            plans[name] = replace(plan, id=task.new if task else plan.id, wires=own)
        return replace(self._live, wires=rows, tasks=plans)

    def _feeders(self) -> dict[str, set[str]]:
        """For each task of the lane those of the lane that feed it; wires that lead back feed nobody."""
        fed = {wire: task.name for task in self._live.circuit.tasks for wire in task.output_wires}
        return {
            name: {
                fed[wire]
                for wire in self.plan.tasks[name].spec.wires
                if wire in self._wires and wire in fed and fed[wire] != name
            }
            for name in self._tasks
        }

    def _cut(self, tx: Transaction) -> None:
        tasks.hold_circuit(tx, self.recompute.circuit)
        now = self._registry.clock()
        lanes.cut(tx, self.recompute.id, now)
        self.recompute = replace(self.recompute, cut=now)
        self._tasks = {task.name: task for task in lanes.lane_tasks(tx, self.recompute.id)}
        for wire in lanes.lane_wires(tx, self.recompute.id):
            self._wires[wire.name] = wire
        for name, task in self._tasks.items():
            self._placings[name] = Placing(self.recompute, self.plan.tasks[name], task.old, self._wires)

    def _replay(self, name: str, stop: Cancel | None) -> bool:
        task, replay = self._tasks[name], self._replays[name]
        while task.seq < task.until:
            if stop is not None and stop.is_set:
                return False
            place = task

            def step(tx: Transaction, place: LaneTask = place) -> int:
                return replay.step(tx, place)

            task = replace(task, seq=self._do(step))
        self._do(lambda tx: replay.catch_up(tx, task.seq))
        self._do(lambda tx: replay.flush(tx, self.recompute.cut))
        return True

    def _execute(self, name: str, execute: Executing, stop: Cancel | None) -> bool:
        """Settle the task's snapshots whose counterparts are finished, in their order."""
        plan = self.plan.tasks[name]
        found = self._registry.read(lambda tx: lanes.pairs(tx, self.recompute.id, plan.id))
        due = times([p for p in found if p.old is None or p.old_state in ("done", "dead", "skipped")])
        turns = Turns()
        rest = enumerate(self._portions(name, due))
        taking = threading.Lock()
        troubles: list[BaseException] = []
        through = True

        def work() -> None:
            nonlocal through
            while not troubles and through:
                with taking:
                    number, portion = next(rest, (-1, None))
                if portion is None:
                    return
                try:
                    if (stop is not None and stop.is_set) or not self._see_to(
                        name, number, portion, turns, execute, stop
                    ):
                        through = False
                        turns.give_up(number)
                except GivenUp:
                    return
                except BaseException as error:
                    troubles.append(error)
                    turns.give_up(number)

        _side_by_side(work, min(self._jobs, plan.task.concurrency, len(due)))
        if troubles:
            raise troubles[0]
        return through

    def _portions(self, name: str, due: Sequence[tuple[int, Pair]]) -> Iterator[_Portion]:
        """Snapshots in their order: one that is run again, or several neighbours that need no program."""
        some: list[tuple[Pair, str]] = []
        for number, (at, pair) in enumerate(due):
            how = self._registry.read(lambda tx, pair=pair: self._verdict(tx, name, pair))  # type: ignore[misc]
            left = len(due) - number - 1
            if how != "again":
                some.append((pair, how))
            if some and (how == "again" or len(some) == _PORTION or not left):
                yield _Portion(tuple(some), None, left + (how == "again"))
                some = []
            if how == "again":
                yield _Portion((), (at, pair), left)

    def _see_to(
        self,
        name: str,
        number: int,
        portion: _Portion,
        turns: Turns,
        execute: Executing,
        stop: Cancel | None,
    ) -> bool:
        """Bring snapshots to their end, or leave them for their turn; False where stopped before."""
        if portion.again is not None:
            at, pair = portion.again
            place = _Place(self._places, turns, number, pair, at)
            if not self._run(self.plan.tasks[name], place, execute, stop):
                return False
            self._told(Progress(name, "again", portion.left))
            turns.over(number)
            return True

        def step(tx: Transaction) -> None:
            for pair, how in portion.settled:
                self._settle(tx, name, pair, how)

        def settle() -> None:
            self._do(step)
            for place, (_, how) in enumerate(portion.settled, 1):
                self._told(Progress(name, how, portion.left + len(portion.settled) - place))

        turns.settle(number, settle)
        return True

    def _verdict(self, tx: Transaction, name: str, pair: Pair) -> str:
        """What becomes of a snapshot: again (its program is run), kept, skipped, or done (a service's)."""
        plan = self.plan.tasks[name]
        if pair.old_state == "skipped":
            return "skipped"
        changed = pair.old is None or not _alike(
            snapshots.members(tx, pair.old), snapshots.members(tx, pair.rid)
        )
        if plan.task.service:
            return "done" if changed else "kept"
        wanted = name in self.options.roots and self._wants(tx, plan, pair)
        if not changed and not wanted:
            return "kept"
        if not plan.task.outputs and not self.options.effects and pair.old_state != "dead":
            return "skipped"
        return "again"

    def _wants(self, tx: Transaction, plan: TaskPlan, pair: Pair) -> bool:
        """Whether a result is asked for, its inputs aside."""
        if pair.old is None or pair.old_formed < self.options.since:
            return False
        if self.options.only_failed:
            return pair.old_state == "dead"
        if self.options.services and lanes.was_told_by_older(tx, pair.old, self.options.services):
            return True
        return self.options.named or lanes.version_of(tx, pair.old) != plan.code.version

    def _settle(self, tx: Transaction, name: str, pair: Pair, how: str) -> None:
        placing, plan = self._placings[name], self.plan.tasks[name]
        if how == "kept":
            placing.keep(tx, pair)
            return
        now = self._registry.clock()
        placing.leave(tx, pair, how, now)
        if how == "skipped" and pair.old_state != "skipped":
            records.remark(tx, plan.id, pair.rid, now, "skipped", _EFFECTS)

    def _run(self, plan: TaskPlan, place: _Place, execute: Executing, stop: Cancel | None) -> bool:
        """Execute until it is done or a dead letter; False where stopped before."""
        pair, due = place.pair, place.pair.due
        self._at[pair.rid] = place
        try:
            while True:
                while (wait := due - self._registry.clock()) > 0:
                    if stop is not None and stop.is_set:
                        return False
                    time.sleep(min(_LOOK, wait / 1e6))
                place.take()
                plan = self._fresh(plan)
                claim = self._do(partial(self._claim, plan=plan, rid=pair.rid))
                if claim is None:
                    return True
                executed = execute(claim, stop)
                place.leave()
                if stop is not None and stop.is_set:
                    return executed.outcome in ("done", "dead")
                if executed.outcome in ("cancelled", "lost"):
                    continue  # it is ready again, or has come to its end
                if executed.due is None:
                    if executed.outcome == "dead":
                        self._do(lambda tx: lanes.date(tx, pair.rid, place.at))
                    return True
                due = executed.due
        finally:
            place.leave()
            self._at.pop(pair.rid, None)

    def _claim(self, tx: Transaction, plan: TaskPlan, rid: int) -> Claim | None:
        """Claim a snapshot of ours; None where it has come to its end."""
        now = self._registry.clock()
        if plan.code.version != self.plan.tasks[plan.name].code.version:
            records.keep_version(tx, plan.id, plan.code.version, plan.task.run or "", now)
        found = snapshots.by_rid(tx, rid)
        assert found is not None
        if found.state in ("done", "dead"):
            return None
        snapshots.claim(tx, rid, self._owner, plan.code.version, now, now + round(_LEASE * claiming.SECOND))
        return Claim(
            plan, rid, found.id, found.number, found.attempts + 1, found.fence + 1, now, found.formed
        )

    def turn(self, claim: Claim) -> None:
        """Wait until all is settled whose outputs come before those of a claim; its program has ended.

        Raises:
            GivenUp: It never will be.
        """
        place = self._at[claim.rid]
        place.leave()
        place.turns.wait(place.number)

    def commit(
        self, tx: Transaction, clock: Callable[[], int], _: CircuitPlan, claim: Claim, ending: Ending
    ) -> set[str]:
        """The step that writes what came of an execution: outputs take the places of old ones."""
        self._driver.check(tx)
        place = self._at[claim.rid]
        self._placings[claim.plan.name].complete(tx, clock(), claim, ending, place.pair, place.at)
        return set()

    def _switch(self, tx: Transaction) -> bool:
        """While nothing can come to the circuit's tasks or wires, read what is left and exchange rows."""
        tasks.hold_circuit(tx, self.recompute.circuit)
        values.hold(tx, [wire.old for wire in self._wires.values()])
        if standing.installs(tx, self.recompute.circuit) != self._installs:
            raise UsageError(
                "the circuit was wired anew while its results were made again",
                cure="do the same again: it goes on where it was",
            )
        if lanes.under_way(tx, self.recompute.id) or lanes.unread(tx, self.recompute.id) > _LAST:
            return False
        self._cut(tx)
        for name, task in self._tasks.items():
            replay = self._replays[name]
            while task.seq < task.until:
                task = replace(task, seq=replay.step(tx, task))
            replay.flush(tx, self.recompute.cut)
            self._placings[name].look_on(tx)
        if lanes.unsettled(tx, self.recompute.id):
            return False
        now = self._registry.clock()
        for wire in self._wires.values():
            lanes.sink_behind(tx, wire, effects=self.options.effects)
        counts = lanes.counts(tx, self.recompute.id)
        lanes.swap(tx, self.recompute, list(self._tasks.values()), list(self._wires.values()))
        for task in self._tasks.values():
            some = counts.get(task.name, {})
            told = ", with the recorded look-ups" if self.options.replay_lookups else ""
            text = f"recompute {self.recompute.epoch}{told}: {_counted(some)}"
            records.remark(
                tx, task.new, None, now, "recomputed", text, {"epoch": self.recompute.epoch, **some}
            )
        lanes.end(tx, self.recompute.id, "done", now, {"tasks": counts})
        return True


def _side_by_side(work: Callable[[], None], count: int) -> None:
    """Call something in so many threads at once, and wait for all."""
    threads = [threading.Thread(target=work, daemon=True) for _ in range(count - 1)]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()


def _alike(old: Sequence[Members], new: Sequence[Members]) -> bool:
    """Whether two snapshots give a program the same: the same files in the same order, and annotations."""
    return [_given(m) for m in old] == [_given(m) for m in new]


def _given(members: Members) -> object:
    given = [(v.digest, v.type, v.name, v.wire, dict(v.attributes)) for v in members.values]
    return members.input, given, members.fresh


def _counted(some: Mapping[str, int]) -> str:
    words = {
        "again": "made again",
        "kept": "kept",
        "gone": "gone",
        "extra": "new",
        "skipped": "not run again",
    }
    return ", ".join(f"{count} {words.get(how, how)}" for how, count in some.items()) or "nothing to do"
