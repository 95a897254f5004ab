"""Running a circuit in this process: a dispatcher forms and claims, workers execute.

The registry is the truth; what is kept here (which tasks were rung, when to look again) only spares
looking. A lost ring costs a second at most: a sweep looks at everything that may be due.
"""

from __future__ import annotations

import heapq
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from koalja_fn.engine import claiming, forming
from koalja_fn.engine.attaching import moved
from koalja_fn.engine.claiming import Claim, Ending
from koalja_fn.engine.executing import Executed, Executor
from koalja_fn.engine.plans import CircuitPlan, TaskPlan
from koalja_fn.engine.replaying import Remembered
from koalja_fn.engine.serving import Services, Talk
from koalja_fn.errors import KoaljaError
from koalja_fn.program.cancel import Cancel
from koalja_fn.program.freshness import Freshness
from koalja_fn.registry import Registry, records, snapshots
from koalja_fn.registry.registry import Transaction
from koalja_fn.snapshots import Formed, Time, advance, eager

LEASE = 30.0
# Who waits for an end gives up when nothing could be done for so long.
PATIENCE = 5.0
_SWEEP = 1.0
_IDLE_LOOK = 0.25


@dataclass(slots=True)
class _Step:
    """What one transaction of the dispatcher did."""

    claims: list[Claim] = field(default_factory=list)
    remembered: dict[str, Remembered] = field(default_factory=dict)
    due: dict[str, int | None] = field(default_factory=dict)
    again: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    formed: int = 0
    stale: bool = False


class Engine:
    """Runs the tasks of one circuit until it is stopped.

    Args:
        registry: Where everything is.
        executor: How a claim is executed.
        circuit: The circuit as it is wired up.
        jobs: How many programs may run at once, whatever the tasks' concurrency.
        ended: Called after each attempt, from a worker's thread.
        trouble: Called with what went wrong in the engine itself; the engine goes on.
        services: Its long-running programs, and whom programs may ask, where it has any.
        say: Called with what a person should know.
        moved: Called with the plan as it is now, after a recompute has put other rows in its places.
    """

    def __init__(
        self,
        registry: Registry,
        executor: Executor,
        circuit: CircuitPlan,
        *,
        jobs: int,
        ended: Callable[[Executed], None] = lambda _: None,
        trouble: Callable[[BaseException], None] = lambda _: None,
        services: Services | None = None,
        say: Callable[[str], None] = lambda _: None,
        freshness: Freshness | None = None,
        moved: Callable[[CircuitPlan], None] = lambda _: None,
    ) -> None:
        self._moved = moved
        self._freshness = freshness
        self._services = services
        self._say = say
        self._registry = registry
        self._executor = executor
        self._circuit = circuit
        self._jobs = jobs
        self._ended = ended
        self._trouble = trouble
        self._owner = f"{os.uname().nodename}:{os.getpid()}:{time.time_ns()}"
        self._cancel = Cancel()
        lock = threading.RLock()
        self._bell = threading.Condition(lock)  # for the dispatcher: there is something to do
        self._quiet = threading.Condition(lock)  # for who waits: there may be nothing left to do
        self._rung: set[str] = set()
        self._ready: set[str] = set()
        self._retries: list[tuple[int, str]] = []
        self._due: dict[str, int] = {}
        self._active: dict[int, Claim] = {}
        self._dispatching = False
        self._stopping = False
        self._stuck: tuple[float, Exception] | None = None  # since when the dispatcher fails, and why
        self._remembered: dict[str, Remembered] = {}
        self._work: queue.SimpleQueue[Claim | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._producers = _producers(circuit)

    def start(self) -> None:
        """Take up what an earlier run left, and begin. Nobody else may be running the circuit."""
        self._retries = self._registry.transact(self._recover)
        heapq.heapify(self._retries)
        self.ring_all()
        names = ["dispatcher"] + [f"worker-{n + 1}" for n in range(self._jobs)]
        targets = [self._dispatch] + [self._serve] * self._jobs
        for name, target in zip(names, targets, strict=True):
            thread = threading.Thread(target=target, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        if self._services is not None:
            self._services.start(Talk(self._ended, self._say, self._trouble, self.ring_tasks))

    @property
    def circuit(self) -> CircuitPlan:
        """The circuit as it is worked on now: its rows, and its code."""
        return self._circuit

    def ring(self, wires: Iterable[str]) -> None:
        """There is something new on these wires."""
        self.ring_tasks(plan.name for plan in self._circuit.readers(set(wires)))

    def ring_all(self) -> None:
        """There may be something new anywhere."""
        self.ring_tasks(self._circuit.tasks)

    def wait_until_idle(
        self, interrupted: Callable[[], bool] = lambda: False, patience: float = PATIENCE
    ) -> bool:
        """Wait until nothing is left that can run without new values; False where interrupted before.

        Raises:
            Exception: Nothing could be done for `patience` seconds, as on a full disk; this is why.
        """
        with self._bell:
            while not (self._stopping or interrupted() or self._is_idle()):
                since, why = self._stuck or (math.inf, None)
                if why is not None and time.monotonic() - since > patience:
                    raise why
                self._quiet.wait(_IDLE_LOOK)
            return self._is_idle()

    def stop(self) -> None:
        """End the programs that run, give their snapshots back, and wait for the threads."""
        with self._bell:
            self._stopping = True
            self._bell.notify_all()
            self._quiet.notify_all()
        self._cancel.set()
        for _ in range(self._jobs):
            self._work.put(None)
        for thread in self._threads:
            thread.join()
        if self._services is not None:
            self._services.stop()
        self._cancel.close()
        if self._executor.noticing.changed:
            with suppress(KoaljaError):  # what is usual is worth no failure
                self._registry.transact(self._executor.noticing.write)

    # The dispatcher

    def _dispatch(self) -> None:
        swept = beaten = changed = 0.0
        while True:
            with self._bell:
                self._dispatching = False
                if not (self._rung or self._claimable() or self._stopping):
                    if not self._active:
                        self._quiet.notify_all()
                    self._bell.wait(self._pause())
                if self._stopping:
                    return
                self._dispatching = True
                rung, self._rung = self._rung | self._due_now(), set()
            now = time.monotonic()
            try:
                if self._executor.noticing.changed and now - swept > _SWEEP:
                    self._registry.transact(self._executor.noticing.write)
                if now - beaten > LEASE / 3:
                    self._registry.transact(self._beat)
                    beaten = now
                if now - swept > _SWEEP:
                    version = self._registry.changed_elsewhere()
                    rung |= self._registry.transact(self._sweep)
                    if version != changed:
                        rung |= set(self._circuit.tasks)
                    swept, changed = now, version
                self._step(rung)
                self._stuck = None
            except Exception as error:
                self._stuck = (self._stuck[0] if self._stuck else now, error)
                self._trouble(error)
                self.ring_tasks(rung)
                time.sleep(_SWEEP)

    def _claimable(self) -> bool:
        """Whether there are places and tasks that may fill them; the bell is held."""
        return bool(self._ready) and len(self._active) < self._jobs

    def _step(self, rung: set[str]) -> None:
        """Form what was rung and claim what there is room for, in one transaction; hand out the claims."""
        with self._bell:
            places = self._jobs - len(self._active)
            if not rung and not (places and self._ready):
                return
            wanted, self._ready = self._ready | rung, set()
        try:
            self._refresh(wanted)
            step = self._registry.transact(lambda tx: self._form_and_claim(tx, rung, wanted, places))
        except BaseException:
            with self._bell:
                self._ready |= wanted
            raise
        self._remembered |= step.remembered
        if step.stale:
            self._move()
        with self._bell:
            self._rung |= step.again
            self._ready |= step.left
            for name, due in step.due.items():
                if due is None:
                    self._due.pop(name, None)
                else:
                    self._due[name] = due
            for claim in step.claims:
                self._active[claim.rid] = claim
        for claim in step.claims:
            self._work.put(claim)
        if self._services is not None:
            self._services.wake(wanted)

    def _move(self) -> None:
        """A recompute may have put other rows in the places of tasks and wires: work on those."""
        now = self._registry.read(partial(moved, plan=self._circuit))
        if now != self._circuit:
            self._circuit = now
            self._moved(now)
            with self._bell:
                self._due.clear()
            self.ring_all()

    def _refresh(self, names: Iterable[str]) -> None:
        """Take the code of tasks as it is now: an execution says by which version it was done.

        Services are not looked at: a process goes on with the code that it was started with.
        """
        freshness = self._freshness
        for plan in [self._circuit.tasks[name] for name in names] if freshness else ():
            if freshness is None or plan.task.service or freshness.is_fresh(plan.code):
                continue
            fresh = replace(plan, code=freshness.again(plan.task, plan.code))
            if fresh.code.version != plan.code.version:
                self._registry.transact(partial(_keep_version, self._registry.clock(), fresh))
                self._say(f"{plan.name}: new code {fresh.code.version}")
            self._circuit = replace(self._circuit, tasks={**self._circuit.tasks, plan.name: fresh})

    def _form_and_claim(self, tx: Transaction, rung: set[str], wanted: set[str], places: int) -> _Step:
        step = _Step()
        for name in self._circuit.tasks:
            if name in rung:
                self._form(tx, self._circuit.tasks[name], step)
        for name in _rotated(wanted, self._registry.commits):
            self._claim(tx, self._circuit.tasks[name], step, places)
        return step

    def _form(self, tx: Transaction, plan: TaskPlan, step: _Step) -> None:
        try:
            formation = forming.form(tx, self._registry.clock, plan, self._remembered.get(plan.name))
        except forming.Stale:
            step.stale = True
            return
        step.formed += formation.formed
        if formation.remembered is not None:
            step.remembered[plan.name] = formation.remembered
        if formation.more:
            step.again.add(plan.name)
        step.due[plan.name] = formation.due

    def _claim(self, tx: Transaction, plan: TaskPlan, step: _Step, places: int) -> None:
        """Claim for a task; it is left to be looked at again where only places were lacking."""
        if self._services is not None and not self._services.is_ready(plan):
            return  # it is rung for when they are
        room = places - len(step.claims)
        found: list[Claim] = []
        if room > 0:
            now = self._registry.clock()
            found = claiming.claim(tx, now, self._circuit, plan, self._owner, room, LEASE)
            step.claims += found
        if len(found) == room:
            step.left.add(plan.name)

    def _due_now(self) -> set[str]:
        """Tasks whose time has come; the bell is held."""
        now = time.time_ns() // 1000
        due = {name for name, at in self._due.items() if at <= now}
        for name in due:
            del self._due[name]
        while self._retries and self._retries[0][0] <= now:
            due.add(heapq.heappop(self._retries)[1])
        return due

    def _pause(self) -> float:
        """Seconds until there may be something to do without a ring; the bell is held."""
        soonest = min([*self._due.values(), *(at for at, _ in self._retries[:1])], default=None)
        if soonest is None:
            return _SWEEP
        return max(0.0, min(_SWEEP, soonest / 1e6 - time.time()))

    # The sweep

    def _recover(self, tx: Transaction) -> list[tuple[int, str]]:
        """Take up what a dead runner had claimed; tell when which task has a snapshot to be tried again."""
        retries: list[tuple[int, str]] = []
        for plan in self._circuit.tasks.values():
            now = self._registry.clock()
            for snapshot in snapshots.orphans(tx, plan.id, self._owner):
                claiming.lose(tx, now, plan, snapshot)
            retries += [(due, plan.name) for due in snapshots.dues(tx, plan.id, now)]
        return retries

    def _sweep(self, tx: Transaction) -> set[str]:
        """Take up claims whose lease is over; tell which tasks have snapshots that are due."""
        now = self._registry.clock()
        found = set()
        for plan in self._circuit.tasks.values():
            for snapshot in snapshots.expired(tx, plan.id, now):
                claiming.lose(tx, now, plan, snapshot)
            due = snapshots.next_due(tx, plan.id)
            if due is not None and due <= now:
                found.add(plan.name)
        return found

    def _beat(self, tx: Transaction) -> None:
        """Extend the leases of what runs here."""
        with self._bell:
            active = list(self._active.values())
        until = self._registry.clock() + round(LEASE * claiming.SECOND)
        for claim in active:
            snapshots.renew(tx, claim.rid, claim.fence, until)

    # The workers

    def _serve(self) -> None:
        while (claim := self._work.get()) is not None:
            following: Claim | None = claim
            while following is not None:
                following = self._run(following)

    def _run(self, claim: Claim) -> Claim | None:
        """Execute a claim; return one that was made in the same transaction, to go on with."""
        executed: Executed | None = None
        try:
            if self._stopping:
                self._registry.transact(lambda tx: claiming.release(tx, self._registry.clock(), claim))
            else:
                follow = partial(self._following, claim.plan)
                executed = self._executor.execute(claim, self._cancel, follow)
        except Exception as error:
            self._trouble(error)
            executed = self._failed(claim, error)
        self._finished(claim, executed)
        if executed is None:
            return None
        self._ended(executed)
        return executed.following

    def _failed(self, claim: Claim, error: Exception) -> Executed | None:
        """Put an attempt on record that we could not bring to an end ourselves.

        Where not even that can be written the claim is not renewed any more: the sweep takes it up.
        """
        message = f"it could not be brought to an end: {error!r}".encode(errors="backslashreplace").decode()
        ending = Ending(claim.plan.code.version, reason="trouble", message=message)
        try:
            due = self._registry.transact(lambda tx: claiming.fail(tx, self._registry.clock(), claim, ending))
        except (KoaljaError, claiming.Fenced):
            return None
        return Executed(claim, "dead" if due is None else "failed", ending, due=due)

    def _following(self, plan: TaskPlan, tx: Transaction) -> Claim | None:
        """The task's next snapshot for the same worker, unless others wait for a place."""
        if self._stopping or self._ready - {plan.name}:
            return None
        plan = self._circuit.tasks[plan.name]  # its code may be newer than that of the execution that ends
        if self._services is not None and not self._services.is_ready(plan):
            return None
        if self._freshness is not None and not self._freshness.is_fresh(plan.code):
            return None  # the dispatcher takes it up, with the new code
        now = self._registry.clock()
        found = claiming.claim(tx, now, self._circuit, plan, self._owner, 1, LEASE)
        return found[0] if found else None

    def _finished(self, claim: Claim, executed: Executed | None) -> None:
        plan = claim.plan
        with self._bell:
            self._active.pop(claim.rid, None)
            if executed is None or executed.following is None:
                self._ready.add(plan.name)
            else:
                self._active[executed.following.rid] = executed.following
            if plan.spec.elastic:
                self._rung.add(plan.name)
            self._ready |= self._producers.get(plan.name, set())
            if executed is not None:
                self._rung |= {reader.name for reader in self._circuit.readers(executed.wires)}
                if executed.due is not None:
                    heapq.heappush(self._retries, (executed.due, plan.name))
            # Waking a thread for nothing costs as much as a tenth of an execution.
            if self._rung or self._claimable():
                self._bell.notify()

    # Idleness

    def _is_idle(self) -> bool:
        """Whether nothing can happen without new values; the bell is held."""
        if self._rung or self._ready or self._active or self._dispatching or self._retries:
            return False
        if self._services is not None and self._services.busy:
            return False
        return not any(self._will_form(name, at) for name, at in self._due.items())

    def _will_form(self, name: str, at: int) -> bool:
        """Whether time alone will form a snapshot of a task: then it is worth waiting for."""
        plan = self._circuit.tasks[name]
        remembered = self._remembered.get(name)
        if remembered is None:
            return False
        state, outcomes = advance(plan.spec, remembered.state, [Time(at)])
        return any(isinstance(outcome, Formed) for outcome in outcomes) or eager(plan.spec, state)

    def ring_tasks(self, names: Iterable[str]) -> None:
        """There may be something to do for some tasks, or other code of theirs."""
        with self._bell:
            self._rung.update(names)
            self._bell.notify()


def _keep_version(now: int, plan: TaskPlan, tx: Transaction) -> None:
    records.keep_version(tx, plan.id, plan.code.version, plan.task.run or "", now)


def _rotated(names: set[str], by: int) -> list[str]:
    """The names in an order that begins elsewhere each time, so that none is always last."""
    ordered = sorted(names)
    if not ordered:
        return ordered
    shift = by % len(ordered)
    return ordered[shift:] + ordered[:shift]


def _producers(circuit: CircuitPlan) -> dict[str, set[str]]:
    """For each task with a backlog, the tasks that its inputs come from."""
    found: dict[str, set[str]] = {}
    for plan in circuit.tasks.values():
        if plan.task.backlog is None:
            continue
        writers = (circuit.circuit.writer(wire) for wire in plan.spec.wires)
        found[plan.name] = {writer.name for writer in writers if writer is not None}
    return found
