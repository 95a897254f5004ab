"""Making on a deployed circuit: the sources are what has arrived, the programs run in their tasks' pods.

All else is as in a folder: the same course, the same keys, the same tables. Where a key has the interpreter's
bytes in a folder, it has the image's digest here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from koalja_fn.engine.attaching import attach
from koalja_fn.engine.plans import CircuitPlan
from koalja_fn.errors import UsageError
from koalja_fn.local.opening import Shared, open_payloads, open_registry
from koalja_fn.local.pods import Place
from koalja_fn.model import is_address
from koalja_fn.program.cancel import Cancel
from koalja_fn.pull.asking import Answer, Options
from koalja_fn.pull.building import repeated
from koalja_fn.pull.claims import Claims
from koalja_fn.pull.course import Course, Site
from koalja_fn.pull.errands import Errands
from koalja_fn.pull.history import History
from koalja_fn.pull.keys import Code
from koalja_fn.pull.make import answer_of
from koalja_fn.pull.opening import Compiled
from koalja_fn.pull.planning import Plan, plan
from koalja_fn.pull.pool import Pool
from koalja_fn.pull.publishing import place_all
from koalja_fn.pull.runs import Built
from koalja_fn.pull.writing import Sinks
from koalja_fn.registry import errands, making
from koalja_fn.registry.registry import Transaction


def make_deployed(
    circuit: str,
    wanted: Sequence[str],
    places: Mapping[str, Place],
    where: Shared,
    options: Options,
    stop: Cancel,
) -> Answer:
    """Bring wires of a deployed circuit up to date; `places` says where its tasks are.

    Raises:
        NotFound: The circuit is not deployed there, it has no such wire, or nothing has arrived on a source.
        UsageError: It can't be asked for that.
        StoreError, RegistryError: Trouble with what is shared.
        ClusterError: A task does not answer.
    """
    with closing(open_payloads(where)) as store, closing(open_registry(where)) as registry:
        whole = registry.read(lambda tx: attach(tx, circuit, {}, Path("/"))).plan
        goal = plan(whole.circuit, wanted)
        _check(goal, places)
        located = {name: one.code for name, one in whole.tasks.items()}
        found = Compiled(whole.circuit, whole.folder, located, {}, fresh=False)
        site = Site(registry, store, found, options, stop, Claims(registry))
        sinks = Sinks(_addressed(found), store)
        if options.dry:
            return answer_of(circuit, _built(site, whole, goal, places, sinks, 0), {})

        def begin(tx: Transaction) -> int:
            errands.drop_old(tx, registry.clock())
            return making.begin_run(tx, circuit, registry.clock(), dict.fromkeys([*goal.wanted, *wanted]))

        run = registry.transact(begin)
        built = _built(site, whole, goal, places, sinks, run)
        answer = answer_of(circuit, built, sinks.written)
        if options.publish:
            count = place_all(site, whole, built.values)
            options.told(f"{count} published: readers take them up within a minute")
        registry.transact(
            lambda tx: making.end_run(
                tx, run, registry.clock(), len(answer.made), answer.cached, len(answer.failures)
            )
        )
        return answer


def _check(goal: Plan, places: Mapping[str, Place]) -> None:
    for task in goal.tasks:
        if task.mode == "job":
            raise UsageError(
                f"task {task.name} runs as a job (`mode = job`)",
                why="`make` asks pods that answer requests, and a job's pods answer none",
                cure="ask for a wire before it, or make it in the folder: koalja-fn make DIR",
            )
        if task.name not in places:
            raise UsageError(
                f"it is not known where task {task.name} runs",
                why="it was deployed after this command looked, or is being removed",
                cure="try again",
            )


def _built(
    site: Site, whole: CircuitPlan, goal: Plan, places: Mapping[str, Place], sinks: Sinks, run: int
) -> Built:
    codes = {
        task.name: Code(site.found.located[task.name], {}, places[task.name].image) for task in goal.tasks
    }

    def one_pass() -> Built:
        history = History(site.registry, whole, most=site.options.most)
        sent = Errands(site, places, run)
        strict = not site.options.keep_going
        with Pool(lambda one, answer: answer(sent.execute(one)), site.options.jobs, strict=strict) as pool:
            return Course(site, goal, codes, history, pool, sinks, run).go()

    return repeated(site, sinks, one_pass)


def _addressed(found: Compiled) -> Compiled:
    """The circuit without `to` that names files, which a cluster has not."""
    wires = {
        name: wire if wire.sink and is_address(wire.sink) else replace(wire, sink=None)
        for name, wire in found.circuit.wires.items()
    }
    return replace(found, circuit=replace(found.circuit, wires=wires))
