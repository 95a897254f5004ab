"""Recompute in a folder: a lane is begun or gone on with, run to its end, and put in force."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from koalja_fn.engine.executing import Executed, Lookups
from koalja_fn.engine.lane.beginning import Options, Prospect, begin, prospect
from koalja_fn.engine.lane.choosing import reach
from koalja_fn.engine.lane.recorded import Recorded
from koalja_fn.engine.lane.running import Lane, Progress
from koalja_fn.engine.plans import CircuitPlan
from koalja_fn.engine.serving import Services, Talk, services_of
from koalja_fn.engine.sinking import Sinks
from koalja_fn.errors import ProgramError
from koalja_fn.local.workplace import Workplace
from koalja_fn.lookups import Proxy
from koalja_fn.program.calling import Caller
from koalja_fn.program.cancel import Cancel
from koalja_fn.registry import Registry, lanes, tasks
from koalja_fn.registry.lanes import Recompute
from koalja_fn.registry.registry import Transaction

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
    finally:
        over.set()
        watcher.join()
        cancel.close()
    if done is None:
        return None
    say(f"recompute {found.epoch} is in force")
    return replace(workplace, plan=switched(registry, plan))


def _pass_on(stop: threading.Event, over: threading.Event, cancel: Cancel) -> None:
    while not over.is_set():
        if stop.wait(_LOOK):
            cancel.set()
            return


def switched(registry: Registry, plan: CircuitPlan) -> CircuitPlan:
    """A circuit's plan with the rows that its tasks and wires have now."""

    def look(tx: Transaction) -> CircuitPlan:
        wires = tasks.wires(tx, plan.id)
        rows = {row.name: row.id for row in tasks.of_circuit(tx, plan.id)}
        plans = {
            name: replace(one, id=rows[name], wires={wire: wires[wire] for wire in one.wires})
            for name, one in plan.tasks.items()
        }
        return replace(plan, wires={name: wires[name] for name in plan.wires}, tasks=plans)

    return registry.read(look)


def recompute(
    workplace: Workplace, found: Recompute, ears: Ears, stop: Cancel, jobs: int
) -> Recompute | None:
    """Bring a recompute to its end in a folder in which nothing else runs; None where stopped before.

    At most `jobs` programs run at once.

    Raises:
        ProgramError: A service that is asked has no process.
    """
    registry, store, plan = workplace.registry, workplace.store, workplace.plan
    lane = Lane(registry, found, plan, ears.settled, jobs)
    caller = Caller(store, workplace.state / "scratch")
    lookups: Services | Recorded | None
    if lane.options.replay_lookups:
        lookups = Recorded(registry, store)
    else:
        lookups = _services(registry, store, caller, plan, lane, ears)
    try:
        execute = _executing(lane, store, caller, lookups, ears)
        while not lane.switch():
            if not lane.catch_up(execute, stop):
                return None
    finally:
        if lookups is not None:
            lookups.stop()
        caller.close()
    Sinks(registry, store, lane.plan, endpoint=workplace.endpoint).flush()
    return ended(registry, plan, found)


def _executing(
    lane: Lane, store: Any, caller: Caller, lookups: Lookups | None, ears: Ears
) -> Callable[..., Executed]:
    executor = lane.executor(store, caller, lookups)

    def execute(claim: Any, stop: Cancel | None) -> Executed:
        executed = executor.execute(claim, stop)
        ears.ended(executed)
        return executed

    return execute


def ended(registry: Registry, plan: CircuitPlan, found: Recompute) -> Recompute:
    """How a recompute came out."""
    known = registry.read(lambda tx: lanes.all_of(tx, plan.id))
    return next(one for one in known if one.id == found.id)


def _services(
    registry: Registry, store: Any, caller: Caller, plan: CircuitPlan, lane: Lane, ears: Ears
) -> Services | None:
    """The services that the lane's tasks ask, with their processes; None where they ask none.

    Raises:
        ProgramError: One has no process.
    """
    asking = [lane.plan.tasks[name] for name in lane.names if _asks(lane.plan, name)]
    if not asking:
        return None
    services = services_of(registry, lambda: Proxy(store, registry.clock), caller, plan)
    if services is None:
        return None
    bell = threading.Event()
    trouble: list[BaseException] = []
    services.start(Talk(ears.ended, ears.say, trouble.append, lambda _: bell.set()))
    while not all(services.is_ready(one) for one in asking):
        if not services.busy:
            why = "; ".join(f"{name}: {text}" for name, text in services.waiting().items())
            services.stop()
            raise ProgramError(
                "a service that is asked on the way is not up", why=why, cure="koalja-fn failures tells more"
            )
        bell.wait(0.1)
        bell.clear()
    return services


def _asks(plan: CircuitPlan, name: str) -> bool:
    return any(item.implicit for item in plan.tasks[name].task.inputs)
