"""Working while a request is open: form, claim, execute, commit with the next claim, until nothing is left.

On a cluster a request is a worker: the autoscaler sees it, and stops no pod that is at work. A process has a
few *places* for executions, each taken by a claim; a request that finds none leaves at once, and whoever
works looks again before it leaves, so that nothing falls between the two (DESIGN, sections 7 and 11).
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial

from koalja_fn.engine import claiming, forming, sweeping
from koalja_fn.engine.claiming import Claim, Ending
from koalja_fn.engine.executing import Executed, Executor, nothing
from koalja_fn.engine.plans import CircuitPlan, TaskPlan
from koalja_fn.engine.replaying import Remembered
from koalja_fn.engine.ringing import Bells, News, source_of
from koalja_fn.errors import KoaljaError
from koalja_fn.program.cancel import Cancel
from koalja_fn.registry import Registry, snapshots, standing
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.standing import Standing

LEASE = 30.0
# What is due so soon is waited for inside the open request; the sweep rings for what is later.
_PATIENCE = 60.0
# A request that finds no place here while the task could do more waits so long: the load is to be seen.
_HOLD = 4.0
_HOLDERS = 4
_SAMPLES = 200
_NOTING = 1.0
_GLANCE = 0.25


@dataclass(frozen=True, slots=True)
class Post:
    """The task that a process works on, as of one install of its circuit.

    `current` says that the code at hand is the installed one: an older one neither forms nor claims.
    """

    circuit: CircuitPlan
    plan: TaskPlan
    installs: int
    current: bool
    executor: Executor


@dataclass(slots=True)
class Span:
    """An open request: when it began and must end, on the monotonic clock, and what it has claimed."""

    began: float
    until: float
    claimed: int = 0


@dataclass(slots=True)
class _Running:
    """A claim that is executed here; it is given back when `until` has come."""

    claim: Claim
    cancel: Cancel
    until: float


@dataclass(frozen=True, slots=True)
class _Step:
    """What one transaction of forming and claiming found; `left` is what others could claim besides."""

    claim: Claim | None
    formed: int
    more: bool
    left: int


class _Outdated(Exception):
    """The circuit was installed anew since this process attached to it."""


@dataclass(slots=True)
class _Places:
    """Places for executions; `missed` says that somebody came while there was none."""

    free: int
    bell: threading.Condition = field(default_factory=threading.Condition)
    missed: bool = False
    holders: int = 0

    def take(self) -> bool:
        with self.bell:
            if self.free > 0:
                self.free -= 1
                return True
            self.missed = True
            return False

    def give_back(self, *, asked: bool = False) -> bool:
        """Leave a place; with `asked`, stay (False) where somebody came meanwhile who found none."""
        with self.bell:
            if asked and self.missed:
                self.missed = False
                return False
            self.free += 1
            self.bell.notify()
            return True

    def wait(self, seconds: float, given_up: Callable[[], bool]) -> bool:
        """Take a place as soon as there is one; False where there was none in this time."""
        until = time.monotonic() + seconds
        with self.bell:
            while not self.free and not given_up() and time.monotonic() < until:
                self.bell.wait(_GLANCE)  # nobody rings where it is given up, in a signal handler
            taken = self.free > 0 and not given_up()
            self.free -= taken
            return taken

    def look(self) -> None:
        """A place is taken, and what came so far will be seen by its look at the registry."""
        with self.bell:
            self.missed = False


class Worker:
    """Works on one task of a circuit; called from as many threads at once as there are requests.

    Args:
        registry: Where everything is.
        attach: Tells the task's post, as the circuit is installed now; called again after each install.
        bells: Whom to tell of news.
        places: How many programs may run here at once.
        lease: Seconds that a claim holds without a heartbeat.
        ended: Called after each attempt.
        trouble: Called with what went wrong in the engine itself.
    """

    def __init__(
        self,
        registry: Registry,
        attach: Callable[[], Post],
        bells: Bells,
        *,
        places: int,
        lease: float = LEASE,
        ended: Callable[[Executed], None] = lambda _: None,
        trouble: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        self._registry = registry
        self._attach = attach
        self._bells = bells
        self._places = _Places(places)
        self._lease = lease
        self._ended = ended
        self._trouble = trouble
        self._owner = f"{os.uname().nodename}:{os.getpid()}:{time.time_ns()}"
        self._post = attach()
        self._attaching = threading.Lock()
        self._remembered: Remembered | None = None
        self._running: dict[int, _Running] = {}
        self._guests: set[Cancel] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._giving_back = False
        self._seconds: deque[float] = deque(maxlen=_SAMPLES)
        self._glance = _Shared(self._stand)
        self._together = _Together(self._form_and_claim_for)
        self._seen_lease: int | None = None
        self._waiters: list[int] = []
        self._noted = 0.0
        self._beating: threading.Thread | None = None

    @property
    def post(self) -> Post:
        """What is worked on, as of the last look."""
        return self._post

    def looked(self) -> Post:
        """What is to be worked on, as the circuit is installed now."""
        if self._glance.look().installs != self._post.installs:
            self._attach_anew()
        return self._post

    def work(self, span: Span) -> int:
        """Work until there is nothing left to do for now, or the request's time is up; how many it ran."""
        before = span.claimed
        while not self._stopping.is_set():
            stands = self._glance.look()
            if stands.installs != self._post.installs:
                self._attach_anew()
                continue
            post = self._post
            if not post.current:
                break
            if self._worth_a_step(post, stands):
                again = self._with_a_place(post, span) if self._places.take() else self._without(post, span)
                if again:
                    continue
                stands = self._glance.look()
            if not self._wait(_soonest(stands, self._registry.clock()), span):
                break
        return span.claimed - before

    def work_once(self, span: Span) -> bool:
        """Run one snapshot, if one may be claimed now; whether there was one."""
        post = self._post
        if not post.current or not self._places.take():
            return False
        try:
            more = True
            while more:
                step = self._step(post, span, places=1)
                more = step.more and step.claim is None
            if step.claim is None:
                return False
            self._execute(post, step.claim, span, alone=True)
            return True
        finally:
            self._places.give_back()

    @contextmanager
    def lent(self, until: float) -> Iterator[Cancel | None]:
        """A place for a program that is no claim's, with what cancels it; None where none is free by then."""
        if not self._places.wait(until - time.monotonic(), self._stopping.is_set):
            yield None
            return
        cancel = Cancel()
        with self._lock:
            self._guests.add(cancel)
            if self._giving_back:
                cancel.set()
        try:
            yield cancel
        finally:
            with self._lock:
                self._guests.discard(cancel)
            cancel.close()
            if not self._places.give_back(asked=True):  # who found none has gone, and nobody has looked since
                self._places.give_back()
                self._bells.call(self._post.plan.name)

    def stop(self) -> None:
        """Claim nothing more; safe in a signal handler."""
        self._stopping.set()

    def give_back(self) -> None:
        """End the programs that run, and make their snapshots ready for somebody else."""
        with self._lock:
            self._giving_back = True
            for running in self._running.values():
                running.cancel.set()
            for cancel in self._guests:
                cancel.set()

    @property
    def busy(self) -> bool:
        """Whether programs run."""
        return bool(self._running or self._guests)

    def close(self) -> None:
        """Write what was noticed; nothing may be under way."""
        self.stop()
        noticing = self._post.executor.noticing
        if noticing.changed:
            with suppress(KoaljaError):
                self._registry.transact(noticing.write)

    # Looking

    def _stand(self) -> Standing:
        stands = self._registry.peek(lambda tx: standing.of_task(tx, self._post.plan.id))
        self._seen_lease = stands.lease
        return stands

    def _worth_a_step(self, post: Post, stands: Standing) -> bool:
        now = self._registry.clock()
        if any(at is not None and at <= now for at in (stands.due, stands.startable, stands.lease)):
            return True
        idle = stands.running == 0 and stands.startable is None
        return stands.unread or (post.plan.spec.elastic and idle)

    def _attach_anew(self) -> None:
        with self._attaching:
            self._note(self._post)
            post = self._attach()
            if post.plan.generation != self._post.plan.generation:
                self._remembered = None
            self._post = post

    # Working

    def _with_a_place(self, post: Post, span: Span) -> bool:
        """Work on a place that was taken; whether to look again at once."""
        while True:
            self._places.look()
            try:
                step = self._step(post, span, places=1)
            except _Outdated:
                self._places.give_back()
                return True
            except BaseException:
                self._places.give_back()
                raise
            self._share(step)
            if step.claim is not None:
                try:
                    self._run(post, step.claim, span)
                except BaseException:
                    self._places.give_back()
                    raise
            elif not step.more and self._places.give_back(asked=True):
                return False
            elif self._stopping.is_set():
                self._places.give_back()
                return False

    def _without(self, post: Post, span: Span) -> bool:
        """Form without a place to run; wait for one where the task could do more than it does."""
        try:
            step = self._step(post, span, places=0)
        except _Outdated:
            return True
        if step.more:
            return True
        if not step.left:
            return False
        with self._places.bell:
            if self._places.holders >= _HOLDERS:
                return False
            self._places.holders += 1
            try:
                self._places.bell.wait_for(
                    lambda: self._places.free > 0 or self._stopping.is_set(),
                    min(_HOLD, span.until - time.monotonic()),
                )
                free = self._places.free > 0
            finally:
                self._places.holders -= 1
        if not free and not self._stopping.is_set():
            self._bells.call(post.plan.name)  # somewhere else there may be a place by now
        return free

    def _step(self, post: Post, span: Span, places: int) -> _Step:
        """Take up what was lost, form, and claim, in one transaction that who comes meanwhile shares."""
        late = span.claimed > 0 and not self._fits(span)
        wanted = 0 if late or self._stopping.is_set() else places
        step = self._together.step(post, wanted)
        if late and step.left:
            self._bells.call(post.plan.name)
            span.until = 0.0
        return step

    def _form_and_claim_for(self, post: Post, wanted: Sequence[int]) -> list[_Step]:
        """One transaction for several requests, each of which wants 0 or 1 claims."""
        most = sum(wanted)
        formation, claims, left = self._registry.transact(lambda tx: self._form_and_claim(tx, post, most))
        if formation.remembered is not None:
            self._remembered = formation.remembered
        rest = iter(claims)
        steps = []
        for number, places in enumerate(wanted):
            claim = next(rest, None) if places else None
            formed = formation.formed if number == 0 else 0
            steps.append(_Step(claim, formed, formation.more, left))
        return steps

    def _form_and_claim(
        self, tx: Transaction, post: Post, places: int
    ) -> tuple[forming.Formation, list[Claim], int]:
        plan, clock = post.plan, self._registry.clock
        if standing.installs(tx, post.circuit.id) != post.installs:
            raise _Outdated
        try:
            formation = forming.form(tx, clock, plan, self._remembered)
        except forming.Stale:
            raise _Outdated from None
        now = clock()
        if self._seen_lease is not None and self._seen_lease <= now:
            for snapshot in snapshots.expired(tx, plan.id, now):
                claiming.lose(tx, now, plan, snapshot)
        claims: list[Claim] = []
        if places:
            claims = claiming.claim(tx, clock(), post.circuit, plan, self._owner, places, self._lease)
        every = bool(places) and formation.formed <= len(claims)
        return formation, claims, 0 if every else self._left(tx, post)

    def _left(self, tx: Transaction, post: Post) -> int:
        """Ready snapshots for which the task has free places, here or elsewhere."""
        free = post.plan.task.concurrency - standing.of_task(tx, post.plan.id).running
        if free <= 0 or not sweeping.may_start(tx, post.circuit, post.plan, self._registry.clock()):
            return 0
        return standing.startable(tx, post.plan.id, self._registry.clock(), free)

    def _share(self, step: _Step) -> None:
        """Have others called for what was formed and is left, so that the autoscaler sees the load."""
        if step.formed and step.claim is not None and step.left:
            self._bells.call(self._post.plan.name, step.left)

    def _run(self, post: Post, claim: Claim, span: Span) -> None:
        """Execute a claim and what is claimed with each commit."""
        following: Claim | None = claim
        while following is not None:
            following = self._execute(post, following, span)

    def _execute(self, post: Post, claim: Claim, span: Span, *, alone: bool = False) -> Claim | None:
        first = span.claimed == 0
        span.claimed += 1
        left = max(1.0, round(span.until - time.monotonic(), 1))
        if first and not alone:  # it has all the time there is: what is too long even so is told as such
            task = claim.plan.task
            claim = replace(
                claim, plan=replace(claim.plan, task=replace(task, timeout=min(left, task.timeout or left)))
            )
        executed: Executed | None = None
        with self._held(claim, None if first else span.until) as cancel:
            try:
                follow = nothing if alone else partial(self._follow, post, span)
                executed = post.executor.execute(claim, cancel, follow)
            except Exception as error:
                self._trouble(error)
                executed = self._failed(claim, error)
        if executed is None:
            return None
        if executed.outcome in ("done", "failed", "dead"):
            self._seconds.append(executed.ending.seconds)
        self._tell(post, executed)
        return executed.following

    def _follow(self, post: Post, span: Span, tx: Transaction) -> Claim | None:
        """The task's next snapshot for the same request, if it is likely to fit."""
        if self._stopping.is_set() or not self._fits(span):
            return None
        if standing.installs(tx, post.circuit.id) != post.installs:
            return None
        now = self._registry.clock()
        found = claiming.claim(tx, now, post.circuit, post.plan, self._owner, 1, self._lease)
        return found[0] if found else None

    def _fits(self, span: Span) -> bool:
        """Whether an execution of usual length would end before the request has to."""
        usual = sorted(self._seconds)
        if not usual:
            return False
        longest = usual[min(len(usual) - 1, round(0.95 * len(usual)))]
        return time.monotonic() + longest < span.until

    def _failed(self, claim: Claim, error: Exception) -> Executed | None:
        """Put an attempt on record that we could not bring to an end ourselves; else its lease runs out."""
        message = f"it could not be brought to an end: {error!r}".encode(errors="backslashreplace").decode()
        ending = Ending(claim.plan.code.version, reason="trouble", message=message)
        try:
            due = self._registry.transact(lambda tx: claiming.fail(tx, self._registry.clock(), claim, ending))
        except (KoaljaError, claiming.Fenced):
            return None
        return Executed(claim, "dead" if due is None else "failed", ending, due=due)

    def _tell(self, post: Post, executed: Executed) -> None:
        """Ring for what an execution has made, and for who waited until it was over."""
        source = source_of(post.circuit.circuit.name, post.plan.name)
        newest: dict[str, News] = {}
        for value in executed.ending.values if executed.wires else ():
            news = News(value.wire, value.id, source, value.digest, value.size)
            newest[value.wire] = news.after(newest[value.wire]) if value.wire in newest else news
        if newest:
            self._bells.news(newest.values())
            self._guarded(
                lambda: sweeping.form_jobs(self._registry, post.circuit, set(newest), but=post.plan.name)
            )
        self._call_producers(post)
        self._note(post)
        self._ended(executed)

    def _call_producers(self, post: Post) -> None:
        """With a backlog there is room for more now: call the tasks that had to wait for it."""
        for name in sweeping.producers(post.circuit).get(post.plan.name, ()):
            plan = post.circuit.tasks[name]

            def waits(tx: Transaction, plan: TaskPlan = plan) -> bool:
                stands = standing.of_task(tx, plan.id)
                return not stands.running and sweeping.may_start(
                    tx, post.circuit, plan, self._registry.clock()
                )

            try:
                if self._registry.read(waits):
                    self._bells.call(name)
            except KoaljaError as error:  # the sweep makes it good
                self._trouble(error)

    def _note(self, post: Post) -> None:
        """Write what is usual now and then: it is no part of the truth."""
        now = time.monotonic()
        if now - self._noted > _NOTING and post.executor.noticing.changed:
            self._noted = now
            self._guarded(lambda: self._registry.transact(post.executor.noticing.write))

    def _guarded(self, step: Callable[[], object]) -> None:
        try:
            step()
        except KoaljaError as error:  # the sweep makes it good
            self._trouble(error)

    # Waiting

    def _wait(self, at: int | None, span: Span) -> bool:
        """Wait for a time that is near, if nobody here does already; whether it has come."""
        if at is None:
            return False
        pause = (at - self._registry.clock()) / 1e6
        if pause > _PATIENCE:
            return False
        if time.monotonic() + pause > span.until:
            if span.until > 0:
                self._bells.call(self._post.plan.name)
            return False
        with self._lock:
            if any(other <= at for other in self._waiters):
                return False
            self._waiters.append(at)
        try:
            return not self._stopping.wait(max(0.0, pause))
        finally:
            with self._lock:
                self._waiters.remove(at)

    # Leases

    @contextmanager
    def _held(self, claim: Claim, until: float | None) -> Iterator[Cancel]:
        """Renew a claim's lease while it is executed, and cancel it when its time is up."""
        cancel = Cancel()
        with self._lock:
            self._running[claim.rid] = _Running(claim, cancel, until or float("inf"))
            if self._giving_back:
                cancel.set()
            if self._beating is None:
                self._beating = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
                self._beating.start()
        try:
            yield cancel
        finally:
            with self._lock:
                del self._running[claim.rid]
            cancel.close()

    def _beat(self) -> None:
        """Until nothing runs any more: renew leases, cancel what is over its time or lost."""
        beaten = time.monotonic()
        while True:
            time.sleep(min(1.0, self._lease / 6))
            now = time.monotonic()
            with self._lock:
                if not self._running:
                    self._beating = None
                    return
                for running in self._running.values():
                    if now > running.until and not running.cancel.is_set:
                        running.cancel.set()
                claims = [running.claim for running in self._running.values()]
            if now - beaten > self._lease / 3:
                beaten = now
                self._guarded(lambda claims=claims: self._renew(claims))  # type: ignore[misc]

    def _renew(self, claims: Collection[Claim]) -> None:
        until = self._registry.clock() + round(self._lease * claiming.SECOND)

        def step(tx: Transaction) -> list[int]:
            return [c.rid for c in claims if not snapshots.renew(tx, c.rid, c.fence, until)]

        lost = set(self._registry.transact(step))
        with self._lock:
            for rid in lost & set(self._running):
                running = self._running[rid]
                if running.claim in claims and not running.cancel.is_set:
                    running.cancel.set()


def _soonest(stands: Standing, now: int) -> int | None:
    """When time alone will give the task something to do; what could not be claimed by now is not ours."""
    return min((at for at in (stands.due, stands.startable) if at is not None and at > now), default=None)


class _Shared:
    """A look that concurrent callers share; each gets one that began after it asked."""

    def __init__(self, look: Callable[[], Standing]) -> None:
        self._look = look
        self._bell = threading.Condition()
        self._begun = 0
        self._looking = False
        self._seen: tuple[int, Standing] | None = None

    def look(self) -> Standing:
        with self._bell:
            wanted = self._begun + 1
            while True:
                if self._seen is not None and self._seen[0] >= wanted:
                    return self._seen[1]
                if not self._looking:
                    break
                self._bell.wait()
            self._looking = True
            self._begun += 1
            number = self._begun
        try:
            found = self._look()
        except BaseException:
            with self._bell:
                self._looking = False
                self._bell.notify_all()
            raise
        with self._bell:
            self._seen = (number, found)
            self._looking = False
            self._bell.notify_all()
        return found


@dataclass(slots=True)
class _Wish:
    """A request that waits for a step; `found` is its share of it, or what went wrong."""

    post: Post
    places: int
    found: _Step | BaseException | None = None


class _Together:
    """Steps of concurrent requests, taken in one transaction: the task's lock is held once for all."""

    def __init__(self, take: Callable[[Post, Sequence[int]], list[_Step]]) -> None:
        self._take = take
        self._bell = threading.Condition()
        self._wishes: list[_Wish] = []
        self._taking = False

    def step(self, post: Post, places: int) -> _Step:
        """One request's share of a step that began after it asked."""
        wish = _Wish(post, places)
        with self._bell:
            self._wishes.append(wish)
            self._bell.wait_for(lambda: wish.found is not None or not self._taking)
            if wish.found is None:
                self._taking = True
                group = [other for other in self._wishes if other.post is post]
                self._wishes = [other for other in self._wishes if other.post is not post]
        if wish.found is None:
            self._take_for(group)
        if isinstance(wish.found, _Step):
            return wish.found
        assert wish.found is not None
        raise wish.found

    def _take_for(self, group: list[_Wish]) -> None:
        found: Sequence[_Step | BaseException]
        try:
            found = self._take(group[0].post, [wish.places for wish in group])
        except BaseException as error:
            found = [error] * len(group)
        with self._bell:
            for wish, share in zip(group, found, strict=True):
                wish.found = share
            self._taking = False
            self._bell.notify_all()
