"""Services: which snapshot each one runs, its process, and what becomes of it when a new snapshot forms.

A service's snapshot is done once its process listens; it stays the one to run until a newer one listens.
Then requests go there, and the old process is ended after those that it still has. A process that dies is on
record as a failed attempt, and is started again after the task's `backoff`; after `retries` its snapshot is a
dead letter.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from koalja_fn import ids
from koalja_fn.engine import claiming
from koalja_fn.engine.asking import LONGEST, Asked, asks
from koalja_fn.engine.calls import job_of
from koalja_fn.engine.claiming import SECOND, Claim, Ending, Fenced
from koalja_fn.engine.executing import Executed
from koalja_fn.engine.keys import Answering
from koalja_fn.engine.plans import CircuitPlan, TaskPlan
from koalja_fn.errors import KoaljaError, StoreError
from koalja_fn.lookups import Asking, Proxy, Switch, Target, Upstream
from koalja_fn.program.calling import Caller
from koalja_fn.program.serving import Fault, Serving
from koalja_fn.registry import Registry, lookups, records, services, snapshots, standing, tasks
from koalja_fn.registry.lookups import Lookup
from koalja_fn.registry.records import Attempt
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.snapshots import New, Stored
from koalja_fn.registry.tasks import LogRecord

LISTENING = "listening"
_HOST = "127.0.0.1"
_AGAIN = 1.0
# A process that went on so long had come up well: what ends it is not counted with what ended others before.
_STEADY = 60.0
_NOTICE = 10.0


@dataclass(frozen=True, slots=True)
class Talk:
    """Whom services tell: of attempts, of what a person should know, of trouble, of tasks to look at."""

    ended: Callable[[Executed], None]
    say: Callable[[str], None]
    trouble: Callable[[BaseException], None]
    ring: Callable[[Iterable[str]], None]


@dataclass(frozen=True, slots=True)
class _Live:
    """A process that listens, and the claim that it came from."""

    claim: Claim
    serving: Serving
    target: Target
    asking: Asking | None


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """How the services of a circuit work together that run in different places.

    `upstreams` are where the services are asked that do not run here. `lease` is how many seconds a claim
    holds without a heartbeat, so that a process that is being started by somebody who is killed is started
    by somebody else. `outdated` says that the circuit was installed anew: nothing is claimed by then.
    """

    upstreams: Mapping[str, Upstream]
    lease: float
    outdated: Callable[[Transaction], bool]


class Services:
    """The services of a circuit that run here, and the look-ups of the programs that run here.

    Nothing costs anything before `start`; a circuit that has neither services nor look-ups needs none of it.
    """

    def __init__(
        self,
        registry: Registry,
        proxy: Proxy,
        caller: Caller,
        circuit: CircuitPlan,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self.circuit = circuit
        self.elsewhere = elsewhere
        self._registry = registry
        distant = elsewhere.upstreams if elsewhere else {}
        self._services = {
            plan.name: _Service(registry, caller, plan, self)
            for plan in circuit.tasks.values()
            if plan.task.service and plan.name not in distant
        }
        here = {name: service.switch for name, service in self._services.items()}
        self._asked = Asked(proxy, circuit, {**distant, **here})

    def start(self, talk: Talk) -> None:
        """Start what is to run, and take notice of what forms from now on."""
        for service in self._services.values():
            service.start(talk)

    def stop(self) -> None:
        """End all processes; none of them is a failure. Programs that ask have ended before."""
        for service in self._services.values():
            service.halt()
        for service in self._services.values():
            service.join()
        self._asked.close()

    def wake(self, names: Iterable[str]) -> None:
        """Tasks may have new snapshots; those that are no services are passed over."""
        for name in names:
            if name in self._services:
                self._services[name].wake()

    def renew(self, circuit: CircuitPlan, elsewhere: Elsewhere | None) -> None:
        """The circuit was installed anew, or moved: what is started from now on is started so."""
        self.circuit, self.elsewhere = circuit, elsewhere
        for name, service in self._services.items():
            if name in circuit.tasks:
                service.plan = circuit.tasks[name]
        self.wake(self._services)

    def switch(self, name: str) -> Switch:
        """Where the requests of a service that runs here go."""
        return self._services[name].switch

    def is_ready(self, plan: TaskPlan) -> bool:
        """Whether all services that a task asks have a process, so that its snapshots may be claimed."""
        asked = self.circuit.asked(plan)
        here = [self._services[one.name] for one in asked if one.name in self._services]
        if not all(service.switch.is_up for service in here):
            return False
        distant = [one.id for one in asked if one.name not in self._services]
        return not distant or self._registry.read(lambda tx: services.are_up(tx, distant))

    @property
    def busy(self) -> bool:
        """Whether a process is being started, or will be without anything new."""
        return any(service.busy for service in self._services.values())

    def open(self, claim: Claim) -> Asking | None:
        """Begin to take the look-ups of one execution, as `Asked.open` does."""
        return self._asked.open(claim)

    def answering(self, plan: TaskPlan) -> Answering | None:
        """Who answers a task's look-ups now, as `Asked.answering` tells it."""
        return self._asked.answering(plan)

    def askers(self, plan: TaskPlan) -> list[str]:
        """The tasks that ask a service."""
        return [one.name for one in self.circuit.tasks.values() if plan in self.circuit.asked(one)]

    def waiting(self) -> Mapping[str, str]:
        """For each service without a process, why it has none."""
        return {name: one.why for name, one in self._services.items() if not one.switch.is_up}


class _Service:
    """One service: a thread that starts, watches and ends its processes."""

    def __init__(self, registry: Registry, caller: Caller, plan: TaskPlan, all_of: Services) -> None:
        self.plan = plan
        self.switch = Switch(plan.name)
        self.why = "no snapshot of it has formed yet"
        self._registry = registry
        self._caller = caller
        self._all = all_of
        self._owner = f"{os.uname().nodename}:{os.getpid()}:{time.time_ns()}:{plan.name}"
        self._stop = threading.Event()
        self._bell = threading.Condition()
        self._wakes = 1
        self._seen = 0
        self._live: _Live | None = None
        self._retiring: list[threading.Thread] = []
        self._thread: threading.Thread | None = None

    def start(self, talk: Talk) -> None:
        self._talk = talk
        self._thread = threading.Thread(target=self._run, name=f"serving-{self.plan.name}", daemon=True)
        self._thread.start()

    def halt(self) -> None:
        self._stop.set()
        self.wake()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join()
        for thread in self._retiring:
            thread.join()

    def wake(self) -> None:
        with self._bell:
            self._wakes += 1
            self._bell.notify()

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._seen != self._wakes

    def _run(self) -> None:
        lonely = not self.plan.streams and self.plan.task.every is None
        while not self._stop.is_set():
            wakes = self._wakes
            try:
                if lonely:
                    self._registry.transact(self._form_only)
                    lonely = False
                pause = self._step()
            except Exception as error:
                self._talk.trouble(error)
                pause = _AGAIN
            with self._bell:
                if pause is None:
                    self._seen = wakes
                    self._talk.ring(())  # whoever waits for idleness looks again
                self._bell.wait_for(lambda seen=wakes: self._wakes != seen, pause)  # type: ignore[misc]
        if self._live is not None:
            self._put_down(self._live)

    def _step(self) -> float | None:
        """Look once; return the seconds after which to look again, None where there is nothing to do."""
        if self._live is not None and self._live.serving.is_over:
            live, self._live = self._live, None
            self.switch.down(live.target)
            if live.claim.plan.id == self.plan.id:
                self._died(live)
            else:
                self._put_down(live)
        if not self._all.is_ready(self.plan):
            self.why = "a service that it asks has no process"
            return None
        found = self._registry.transact(self._take)
        if isinstance(found, Claim):
            self._begin(found)
            return 0.0
        if found is None:
            self._tell_askers()
            return None
        self.switch.refuse("")
        return max(0.0, (found - self._registry.clock()) / SECOND)

    def _tell_askers(self) -> None:
        """Where nothing runs and nothing will be tried again, requests need not wait."""
        if self._live is None:
            dead = self._registry.read(lambda tx: services.newest(tx, self.plan.id, "dead"))
            if dead is not None:
                self.why = f"its snapshot {dead.number + 1} is a dead letter; koalja-fn failures tells why"
            self.switch.refuse(self.why)

    # Steps of the registry

    def _form_only(self, tx: Transaction) -> None:
        """A service without inputs has one snapshot, of the moment at which it was first started."""
        row = tasks.lock(tx, self.plan.id)
        if row.generation != self.plan.generation or services.formed_any(tx, self.plan.id):
            return
        now = max(self._registry.clock(), row.latest + 1)
        named = ids.scheduled_snapshot(self.plan.circuit, self.plan.name, row.epoch, row.generation, now)
        tasks.append(tx, row.id, [LogRecord(row.log_head + 1, "due", now)], {})
        snapshots.insert(tx, row, now, [New(named, row.formed, {"time": now}, [])])
        tasks.advance(tx, row.id, row.log_head + 1, row.formed + 1, None, None, now)

    def _take(self, tx: Transaction) -> Claim | int | None:
        """Claim the newest snapshot that is to be started; else tell when there will be one (µs), or None."""
        plan, elsewhere = self.plan, self._all.elsewhere
        if elsewhere is not None:
            if elsewhere.outdated(tx):
                return None
            for lost in snapshots.expired(tx, plan.id, self._registry.clock()):
                claiming.lose(tx, self._registry.clock(), plan, lost)
        at_hand = snapshots.at_hand(tx, plan.id, 1, strict=False)
        if at_hand.generation != plan.generation:
            return None
        now = max(self._registry.clock(), at_hand.latest)
        found, live = services.newest(tx, plan.id, "ready"), self._live
        if live is not None and live.claim.plan.id != plan.id:
            live = None  # a recompute has replaced what it serves: it goes on until there is another
        if found is not None and live is not None and found.number < live.claim.number:
            self._supersede(tx, live.claim.number, now)
            return None
        if found is None:
            found = self._last(tx, now) if live is None and not at_hand.running else None
        if found is None:
            # Somebody else is starting it; if that one was killed its claim runs out.
            waits = elsewhere is not None and live is None
            return standing.of_task(tx, plan.id).lease if waits else None
        if found.due > now:
            return found.due
        lease = elsewhere.lease if elsewhere else (plan.task.timeout or LONGEST) + LONGEST
        until = now + round(lease * SECOND)
        snapshots.claim(tx, found.rid, self._owner, plan.code.version, now, until)
        return Claim(
            plan, found.rid, found.id, found.number, found.attempts + 1, found.fence + 1, now, found.formed
        )

    def _last(self, tx: Transaction, now: int) -> Stored | None:
        """The snapshot that ran last, in an earlier run or before a newer one failed: to be started again."""
        last = services.newest(tx, self.plan.id, "done")
        if last is None or not services.reopen(tx, last.rid, now, attempts=0):
            return None
        claiming.settle(tx, self.plan, last.rid, -1)
        return snapshots.by_rid(tx, last.rid)

    def _came_up(self, tx: Transaction, claim: Claim, seconds: float) -> None:
        tasks.hold(tx, self.plan.id)
        now = self._registry.clock()
        if not snapshots.finish(tx, claim.rid, claim.fence, "done", now):
            raise Fenced
        claiming.settle(tx, self.plan, claim.rid, 1)
        began = now - round(seconds * SECOND)
        self._record(tx, claim, Attempt(*self._of(claim), started=began, ended=now, outcome=LISTENING))
        self._supersede(tx, claim.number, now)

    def _supersede(self, tx: Transaction, number: int, now: int) -> None:
        for rid in services.supersede(tx, self.plan.id, number, now):
            claiming.settle(tx, self.plan, rid, 1)
            text = f"not started: snapshot {number + 1} is newer"
            records.remark(tx, self.plan.id, rid, now, "superseded", text)

    def _went_down(self, tx: Transaction, live: _Live, fault: Fault, asked: Sequence[Lookup]) -> int | None:
        """Record that a process died; return when it is started again.

        None where its snapshot is a dead letter now.
        """
        claim, task = live.claim, self.plan.task
        tasks.hold(tx, self.plan.id)
        now = self._registry.clock()
        steady = live.serving.seconds > _STEADY
        due = None
        if steady or claim.attempt <= task.retries:
            tries = 0 if steady else claim.attempt - 1
            due = now + min(3600 * SECOND, round(task.backoff * 2 ** min(tries, 30) * SECOND))
            if services.reopen(tx, claim.rid, due, attempts=0 if steady else None):
                claiming.settle(tx, self.plan, claim.rid, -1)
        else:
            services.bury(tx, claim.rid, now)
        attempt = Attempt(
            *self._of(claim),
            started=now - round(live.serving.seconds * SECOND),
            ended=now,
            outcome="failed",
            reason=fault.reason,
            status=fault.status,
            message=fault.message,
            stderr=fault.stderr,
        )
        self._record(tx, claim, attempt, asked)
        return due

    def _of(self, claim: Claim) -> tuple[int, int, int, str]:
        return self.plan.id, claim.rid, claim.attempt, self.plan.code.version

    def _record(self, tx: Transaction, claim: Claim, attempt: Attempt, asked: Sequence[Lookup] = ()) -> None:
        records.attempted(tx, attempt)
        lookups.record(tx, self.plan.id, claim.rid, claim.attempt, asked)

    # Processes

    def _begin(self, claim: Claim) -> None:
        """Start a process on a snapshot; once it listens, requests go there."""
        try:
            asking = self._all.open(claim)
        except OSError as error:
            self._not_up(claim, Fault("trouble", f"no port for its look-ups: {error}"), 0.0, [])
            return
        serving = self._started(claim, asking)
        fault = self._await(claim, serving)
        seconds = serving.seconds
        if fault is None:
            target = Target(_HOST, serving.port, answered=claim.rid, version=self.plan.code.version)
            live = _Live(claim, serving, target, asking)
            try:
                self._registry.transact(lambda tx: self._came_up(tx, claim, seconds))
            except BaseException:
                self._put_down(live)
                raise
            self._switch(live)
            ending = Ending(self.plan.code.version, seconds, message=f"{_HOST}:{serving.port}")
            self._talk.ended(Executed(claim, LISTENING, ending))
            return
        serving.end()
        asked = _asked_of(asking)
        if self._stop.is_set():
            self._registry.transact(lambda tx: claiming.release(tx, self._registry.clock(), claim))
        else:
            self._not_up(claim, fault, seconds, asked)

    def _started(self, claim: Claim, asking: Asking | None) -> Serving:
        members = self._registry.peek(lambda tx: snapshots.members(tx, claim.rid))
        job = job_of(self._all.circuit, claim, members, asking.env if asking else ())
        return Serving(self._caller, job, self.wake)

    def _await(self, claim: Claim, serving: Serving) -> Fault | None:
        """Wait until a process listens; say so where that takes long."""
        said = threading.Timer(
            _NOTICE,
            self._talk.say,
            [f"{self.plan.name}: does not listen on 127.0.0.1:{serving.port} ($PORT) yet"],
        )
        said.daemon = True
        said.start()
        try:
            with self._held(claim):
                return serving.wait_until_listening(self._stop)
        finally:
            said.cancel()

    @contextmanager
    def _held(self, claim: Claim) -> Iterator[None]:
        """Renew a claim while its process is started; where nobody else could claim it, it needs none."""
        elsewhere = self._all.elsewhere
        if elsewhere is None:
            yield
            return
        over = threading.Event()

        def beat() -> None:
            while not over.wait(elsewhere.lease / 3):
                until = self._registry.clock() + round(elsewhere.lease * SECOND)
                try:
                    self._registry.transact(partial(_renew, claim, until))
                except KoaljaError as error:
                    self._talk.trouble(error)

        thread = threading.Thread(target=beat, name=f"heartbeat-{self.plan.name}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _not_up(self, claim: Claim, fault: Fault, seconds: float, asked: Sequence[Lookup]) -> None:
        ending = _ending(self.plan, fault, seconds, asked)
        due = self._registry.transact(lambda tx: claiming.fail(tx, self._registry.clock(), claim, ending))
        self.why = f"it does not come up: {fault.message.splitlines()[0]}"
        self._talk.ended(Executed(claim, "dead" if due is None else "failed", ending, due=due))

    def _switch(self, live: _Live) -> None:
        old, self._live = self._live, live
        self.switch.switch(live.target)
        if old is not None:
            thread = threading.Thread(target=self._retire, args=(old,), name=f"retiring-{self.plan.name}")
            self._retiring = [one for one in self._retiring if one.is_alive()] + [thread]
            thread.start()
        askers = self._all.askers(self.plan)
        self._all.wake(askers)
        self._talk.ring(askers)

    def _retire(self, old: _Live) -> None:
        """End a process after the requests that it still has."""
        until = time.monotonic() + (self.plan.task.timeout or LONGEST)
        while not self._stop.is_set() and time.monotonic() < until:
            if old.serving.is_over or self.switch.drain(old.target, 0.2):
                break
        self._put_down(old)

    def _put_down(self, live: _Live) -> None:
        self.switch.down(live.target)
        live.serving.end()
        asked = _asked_of(live.asking)
        if asked:
            claim = live.claim
            self._registry.transact(
                lambda tx: lookups.record(tx, claim.plan.id, claim.rid, claim.attempt, asked)
            )

    def _died(self, live: _Live) -> None:
        """A process has ended that nobody ended."""
        live.serving.end()
        found = live.serving.fault()
        message = f"died after {live.serving.seconds:.3g} s: {found.message}"
        fault = Fault(found.reason, message, found.status, found.stderr)
        asked = _asked_of(live.asking)
        due = self._registry.transact(lambda tx: self._went_down(tx, live, fault, asked))
        self.why = f"it {fault.message.splitlines()[0]}"
        ending = _ending(self.plan, fault, live.serving.seconds, asked)
        self._talk.ended(Executed(live.claim, "dead" if due is None else "failed", ending, due=due))


def _ending(plan: TaskPlan, fault: Fault, seconds: float, asked: Sequence[Lookup]) -> Ending:
    return Ending(
        plan.code.version,
        seconds,
        fault.reason,
        fault.status,
        fault.message,
        fault.stderr,
        permanent=fault.permanent,
        lookups=asked,
    )


def _asked_of(asking: Asking | None) -> Sequence[Lookup]:
    """What a process asked; its bodies are no reason to fail."""
    if asking is None:
        return ()
    try:
        return asking.close()
    except StoreError:
        return ()


def _renew(claim: Claim, until: int, tx: Transaction) -> bool:
    return snapshots.renew(tx, claim.rid, claim.fence, until)


def services_of(
    registry: Registry, proxy: Callable[[], Proxy], caller: Caller, circuit: CircuitPlan
) -> Services | None:
    """The services of a circuit; None where it has none, and nobody asks any."""
    if any(plan.task.service or asks(plan) for plan in circuit.tasks.values()):
        return Services(registry, proxy(), caller, circuit)
    return None
