"""Recompute in a folder: a lane is begun or gone on with, run to its end, and put in force.

A process that has the folder for itself does it with a caller and services of its own (`recompute`); a `run`
does it beside its other work, with those that it has (`driven`, see `updating.py`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

from koalja_fn.engine import claiming
from koalja_fn.engine.attaching import moved
from koalja_fn.engine.claiming import Claim
from koalja_fn.engine.executing import Executed
from koalja_fn.engine.lane.beginning import Options, Prospect, begin, prospect
from koalja_fn.engine.lane.choosing import reach
from koalja_fn.engine.lane.driving import Usurped
from koalja_fn.engine.lane.recorded import Recorded
from koalja_fn.engine.lane.running import Lane, Progress
from koalja_fn.engine.plans import CircuitPlan, TaskPlan, asked_wires
from koalja_fn.engine.serving import Services, Talk, services_of
from koalja_fn.engine.sinking import Sinks
from koalja_fn.errors import Busy, ProgramError
from koalja_fn.local.workplace import Workplace
from koalja_fn.lookups import Proxy
from koalja_fn.program.calling import Caller
from koalja_fn.program.cancel import Cancel
from koalja_fn.program.freshness import Freshness
from koalja_fn.registry import Registry, lanes, snapshots
from koalja_fn.registry.lanes import Recompute
from koalja_fn.registry.registry import Transaction
from koalja_fn.store import Store

_LOOK = 0.1


@dataclass(frozen=True, slots=True)
class Ears:
    """Whom a recompute tells: of settled snapshots, of attempts, and what a person should know."""

    settled: Callable[[Progress], None]
    ended: Callable[[Executed], None]
    say: Callable[[str], None]


def unfinished(registry: Registry, plan: CircuitPlan) -> Recompute | None:
    """The recompute that an earlier process has left, if it still fits the wiring; else it is given up."""

    def look(tx: Transaction) -> Recompute | None:
        found = lanes.unfinished(tx, plan.id)
        if found is None or _fits(tx, plan, found):
            return found
        lanes.end(tx, found.id, "given up", registry.clock(), {"why": "the wiring was changed"})
        return None

    # A look costs nothing; most have none.
    if registry.read(lambda tx: lanes.unfinished(tx, plan.id)) is None:
        return None
    return registry.transact(look)


def _fits(tx: Transaction, plan: CircuitPlan, found: Recompute) -> bool:
    reached = reach(plan.circuit, Options.from_json(found.options).roots)
    part = {task.name for task in lanes.lane_tasks(tx, found.id)}
    wires = {wire.name for wire in lanes.lane_wires(tx, found.id)}
    return part == set(reached.tasks) and wires == set(reached.wires)


def begun(registry: Registry, plan: CircuitPlan, wanted: Prospect) -> Recompute:
    """A new recompute."""
    return registry.transact(lambda tx: begin(tx, registry.clock(), plan, wanted))


def before_run(
    workplace: Workplace, say: Callable[[str], None], stop: threading.Event, jobs: int
) -> Workplace | None:
    """What `on-update = recompute` asks for, before a run takes new values; None where stopped before.

    A recompute that was interrupted is gone on with, whoever began it.
    """
    registry, plan = workplace.registry, workplace.plan
    found = unfinished(registry, plan)
    among = [name for name, one in plan.tasks.items() if one.task.on_update == "recompute"]
    if found is None and among:
        wanted = registry.read(lambda tx: prospect(tx, plan, among=among))
        for one in wanted.tasks:
            say(f"recompute: {one.task}: {one.why}")
        found = begun(registry, plan, wanted) if wanted.tasks else None
    if found is None:
        return workplace
    say(f"recompute {found.epoch} comes first; values are taken from then on")
    cancel = Cancel()
    over = threading.Event()
    watcher = threading.Thread(target=_pass_on, args=(stop, over, cancel), daemon=True)
    watcher.start()

    def ended_badly(executed: Executed) -> None:
        if executed.outcome in ("failed", "dead"):
            say(f"recompute: {executed.claim.plan.name}: {executed.ending.message or executed.ending.reason}")

    try:
        done = recompute(workplace, found, Ears(lambda _: None, ended_badly, say), cancel, jobs)
    except (Busy, Usurped) as busy:
        say(f"recompute {found.epoch} is done elsewhere: {busy.why}")
        return workplace
    finally:
        over.set()
        watcher.join()
        cancel.close()
    if done is None:
        return None
    say(f"recompute {found.epoch} is in force")
    return replace(workplace, plan=registry.read(partial(moved, plan=plan)))


def _pass_on(stop: threading.Event, over: threading.Event, cancel: Cancel) -> None:
    while not over.is_set():
        if stop.wait(_LOOK):
            cancel.set()
            return


def recompute(
    workplace: Workplace, found: Recompute, ears: Ears, stop: Cancel, jobs: int
) -> Recompute | None:
    """Bring a recompute to its end in a folder in which nothing else runs; None where stopped before.

    At most `jobs` programs run at once.

    Raises:
        Busy: Another process is at it.
        ProgramError: A service that is asked has no process.
    """
    registry, store, plan = workplace.registry, workplace.store, workplace.plan
    caller = Caller(store, workplace.state / "scratch")
    registry.transact(partial(_take_up, registry, plan))
    services = None
    try:
        if not Options.from_json(found.options).replay_lookups:
            services = _services(registry, store, caller, plan, found, ears)
        hands = Hands(registry, store, caller, services, workplace.freshness)
        if not driven(hands, plan, found, ears, stop, jobs):
            return None
    finally:
        if services is not None:
            services.stop()
        caller.close()
    now = registry.read(partial(moved, plan=plan))
    Sinks(registry, store, now, endpoint=workplace.endpoint).flush()
    return ended(registry, plan, found)


def _take_up(registry: Registry, plan: CircuitPlan, tx: Transaction) -> None:
    """Whoever had the folder before is gone: what it had claimed is not being executed."""
    for one in plan.tasks.values():
        now = registry.clock()
        for snapshot in snapshots.orphans(tx, one.id, ""):
            claiming.lose(tx, now, one, snapshot)


@dataclass(frozen=True, slots=True)
class Hands:
    """What a lane's programs are run with; `services` answer them, and are up."""

    registry: Registry
    store: Store
    caller: Caller
    services: Services | None
    freshness: Freshness | None


def driven(hands: Hands, plan: CircuitPlan, found: Recompute, ears: Ears, stop: Cancel, jobs: int) -> bool:
    """Bring a recompute to its end; False where stopped before.

    Raises:
        Busy: Another process is at it.
        Usurped: It is at its end, or another process is at it since.
    """
    plan, fresh = _code_of_now(plan, hands.freshness)
    lane = Lane(hands.registry, found, plan, ears.settled, jobs, fresh)
    recorded = Recorded(hands.registry, hands.store) if lane.options.replay_lookups else None
    try:
        executor = lane.executor(hands.store, hands.caller, recorded or hands.services)

        def execute(claim: Claim, cancel: Cancel | None) -> Executed:
            executed = executor.execute(claim, cancel)
            ears.ended(executed)
            return executed

        return lane.drive(execute, stop)
    finally:
        if recorded is not None:
            recorded.stop()


def ended(registry: Registry, plan: CircuitPlan, found: Recompute) -> Recompute:
    """How a recompute came out."""
    known = registry.read(lambda tx: lanes.all_of(tx, plan.id))
    return next(one for one in known if one.id == found.id)


def part_of(plan: CircuitPlan, found: Recompute) -> tuple[str, ...]:
    """The tasks that take part in a recompute."""
    return reach(plan.circuit, Options.from_json(found.options).roots).tasks


def askers(plan: CircuitPlan, found: Recompute) -> list[TaskPlan]:
    """Those that ask services."""
    return [plan.tasks[name] for name in part_of(plan, found) if asked_wires(plan.tasks[name])]


def _code_of_now(
    plan: CircuitPlan, freshness: Freshness | None
) -> tuple[CircuitPlan, Callable[[TaskPlan], TaskPlan]]:
    """A plan with the tasks' code as it is now, and what tells later what it has become by then."""
    if freshness is None:
        return plan, lambda one: one
    own = freshness.twin({name: one.code for name, one in plan.tasks.items()})
    known = {name: own.again(one.task, one.code) for name, one in plan.tasks.items()}
    looking = threading.Lock()

    def fresh(one: TaskPlan) -> TaskPlan:
        with looking:
            if not own.is_fresh(known[one.name]):
                known[one.name] = own.again(one.task, known[one.name])
            return replace(one, code=known[one.name])

    tasks = {name: replace(one, code=known[name]) for name, one in plan.tasks.items()}
    return replace(plan, tasks=tasks), fresh


def _services(
    registry: Registry, store: Store, caller: Caller, plan: CircuitPlan, found: Recompute, ears: Ears
) -> Services | None:
    """The services that the lane's tasks ask, with their processes; None where they ask none.

    Raises:
        ProgramError: One has no process.
    """
    asking = askers(plan, found)
    services = services_of(registry, lambda: Proxy(store, registry.clock), caller, plan) if asking else None
    if services is None:
        return None
    trouble: list[BaseException] = []
    services.start(Talk(ears.ended, ears.say, trouble.append, lambda _: None))
    try:
        await_services(services, asking)
    except BaseException:
        services.stop()
        raise
    return services


def await_services(
    services: Services, asking: Iterable[TaskPlan], stopped: Callable[[], bool] = lambda: False
) -> None:
    """Wait until all services that some tasks ask have a process, or until stopped.

    Raises:
        ProgramError: One will have none.
    """
    asking = list(asking)
    while not all(services.is_ready(one) for one in asking) and not stopped():
        if not services.busy:
            why = "; ".join(f"{name}: {text}" for name, text in services.waiting().items())
            raise ProgramError(
                "a service that is asked on the way is not up", why=why, cure="koalja-fn failures tells more"
            )
        time.sleep(_LOOK)
