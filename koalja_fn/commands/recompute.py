"""`recompute`: results of old code are made again with the new, with all that lies downstream."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from koalja_fn.commands.shared import emit_json, output_option, reports_errors
from koalja_fn.errors import Busy, NotFound, UsageError

if TYPE_CHECKING:
    from koalja_fn.engine.executing import Executed
    from koalja_fn.engine.lane.beginning import Prospect
    from koalja_fn.engine.lane.running import Progress
    from koalja_fn.engine.plans import CircuitPlan
    from koalja_fn.local.recomputing import Ears
    from koalja_fn.local.workplace import Workplace
    from koalja_fn.program.cancel import Cancel
    from koalja_fn.registry import Registry
    from koalja_fn.registry.lanes import Recompute
    from koalja_fn.registry.registry import Transaction


# A run that was killed has the folder for a moment longer.
_PATIENCE = 5.0
_AT_ONCE = 64  # executions in pods; each task's own `concurrency` is less, mostly


@click.command()
@reports_errors
@click.argument("path", type=click.Path(path_type=Path), default=".")
@click.option("-t", "--task", metavar="TASK", help="This task, whether its code has changed or not.")
@click.option(
    "--since",
    metavar="TIME|ID|POSITION",
    help="Only snapshots that formed since then: a time, a value or snapshot, a position on the first input.",
)
@click.option("--only-failed", is_flag=True, help="Only what failed for good: dead letters.")
@click.option("--effects", is_flag=True, help="Run effects again: tasks without outputs, and `to`.")
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1, 1024),
    help="How many programs may run at once, of each task as many as `concurrency` says."
    "  [default: 4 for each core]",
)
@click.option("--replay-lookups", is_flag=True, help="Answer look-ups from the record; ask no services.")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be done again, and why; do nothing.")
@click.option("-q", "--quiet", is_flag=True, help="Tell of trouble only.")
@click.option("--cluster", "on_cluster", is_flag=True, help="PATH is the name of a circuit on a cluster.")
@click.option("--namespace", metavar="NAME", help="Where on the cluster, if not in the current one.")
@click.option("--context", metavar="NAME", help="Of the kubeconfig.  [default: the current one]")
@click.option(
    "--deployed", is_flag=True, hidden=True, help="In a console: where tasks are is told on standard input."
)
@output_option
def recompute(
    path: Path,
    task: str | None,
    since: str | None,
    only_failed: bool,
    effects: bool,
    jobs: int | None,
    replay_lookups: bool,
    dry_run: bool,
    quiet: bool,
    on_cluster: bool,
    namespace: str | None,
    context: str | None,
    deployed: bool,
    output: str,
) -> None:
    """Make old results again with the code as it is now, and all that was made from them.

    Without --task: all tasks whose results another version of their code made. The recorded logs are
    replayed beside what is there, so that the same values come together in the same order; at the end
    the new results take the old ones' place, and the old ones are kept: `trace` tells of both. Results
    whose inputs come out as they were are kept. It may be interrupted: run it again, and it goes on.

    A `run` that has the folder need not be stopped: it does the recompute beside its other work, and takes
    values meanwhile. So does a deployed circuit (--cluster): each program is run by a pod of its task.

    Programs that ask services ask them anew; with --replay-lookups they are told what is on record for
    their snapshots, and no service is started or asked. A request that was not made then has no answer:
    its snapshot becomes a dead letter, which says so.

    \b
    Examples:
      koalja-fn recompute ./mycode --dry-run
      koalja-fn recompute ./mycode
      koalja-fn recompute ./mycode --task average --since 2026-07-01
      koalja-fn recompute ./mycode --only-failed
      koalja-fn recompute ./mycode --replay-lookups
      koalja-fn recompute --cluster weather --namespace prod

    \b
    Exit status: 0 fine, or nothing to do; 3 the wiring has errors; 4 some results are dead letters now;
    6 something else than a run has the folder; 7 no such task, value or snapshot; 10 trouble with
    the cluster; 130 interrupted.
    """
    asked = Asked(task, since, only_failed, effects, replay_lookups)
    if on_cluster:
        words = _words(asked, jobs, output, dry_run=dry_run, quiet=quiet)
        sys.exit(_on_cluster(str(path), words, namespace, context))
    with _cancelled_by_signals() as stop:
        if deployed:
            talk = _Talk(dry_run, quiet, output, jobs or _AT_ONCE)
            done = _deployed(str(path), asked, talk, stop)
        elif _is_shared(path):
            done = _shared(path, asked, _Talk(dry_run, quiet, output, places_of(jobs)), stop)
        else:
            done = _recomputed(path, asked, _Talk(dry_run, quiet, output, places_of(jobs)), stop)
    if done is None:
        return
    _report(done, output)
    if any(counts.get("dead") for counts in done.told["tasks"].values()):
        sys.exit(4)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options ask for."""

    task: str | None
    since: str | None
    only_failed: bool
    effects: bool
    replay_lookups: bool


@dataclass(frozen=True, slots=True)
class _Talk:
    """How it is done, and told."""

    dry_run: bool
    quiet: bool
    output: str
    jobs: int


def places_of(jobs: int | None) -> int:
    """How many programs may run at once."""
    from koalja_fn.local.session import places

    return places(jobs)


def _recomputed(path: Path, asked: Asked, talk: _Talk, stop: Cancel) -> Recompute | None:
    """How it came out; None where there was nothing to do, or nothing is to be done.

    Who has the folder does it: this process, or the `run` that serves it. Where that is killed meanwhile,
    this process goes on with it.
    """
    from koalja_fn.local.beside import Beside
    from koalja_fn.local.workplace import open_workplace

    begun: Recompute | None = None
    while True:
        try:
            with open_workplace(path, patience=_PATIENCE if begun else 0.0) as workplace:
                found = begun or _begun(str(path), workplace.registry, workplace.plan, asked, talk)
                if found is None:
                    return None
                return _run(workplace, found, stop, talk)
        except Busy:
            beside = Beside.of(path)
            if beside is None:
                raise
        with beside:
            begun = begun or _begun(str(path), beside.registry, beside.plan, asked, talk)
            if begun is None:
                return None
            _say(talk.quiet, "the run that has the folder does it")
            done = beside.wait(begun, stop, lambda left: _say(talk.quiet, f"{left} to go"))
        if stop.is_set:
            click.echo("koalja-fn: nobody waits for it any more, but the run goes on with it", err=True)
            sys.exit(130)
        if done is not None and done.state != "done":
            raise UsageError(
                f"recompute {done.epoch} was {done.state}",
                why=str(done.told.get("why", "")),
                cure=f"koalja-fn recompute {path} begins a new one",
            )
        if done is not None:
            return done


def _begun(
    named: str,
    registry: Registry,
    plan: CircuitPlan,
    asked: Asked,
    talk: _Talk,
    check: Callable[[Sequence[str]], None] = lambda _: None,
) -> Recompute | None:
    """A recompute to be done: one that was left, or a new one; None where there is nothing to do.

    `check` is told the tasks that take part, before it is begun.

    Raises:
        UsageError: One was left, and something else is asked for.
    """
    from koalja_fn.engine.lane.beginning import prospect
    from koalja_fn.local import recomputing

    left = recomputing.unfinished(registry, plan)
    if left is not None and not talk.dry_run:
        if any(astuple(asked)):
            raise UsageError(
                f"recompute {left.epoch} is not at its end",
                cure=f"koalja-fn recompute {named}, without options, goes on with it",
            )
        _say(talk.quiet, f"recompute {left.epoch} goes on where it was")
        return left

    def look(tx: Transaction) -> Prospect:
        at = _since(tx, plan, asked.task, asked.since) if asked.since else 0
        return prospect(
            tx,
            plan,
            task=asked.task,
            since=at,
            only_failed=asked.only_failed,
            effects=asked.effects,
            replay_lookups=asked.replay_lookups,
        )

    wanted = registry.read(look)
    if talk.dry_run or not wanted.tasks:
        _show(wanted, talk.output)
        return None
    check(wanted.reach.tasks)
    for note in wanted.notes:
        _say(talk.quiet, f"note: {note}")
    return recomputing.begun(registry, plan, wanted)


def _words(asked: Asked, jobs: int | None, output: str, *, dry_run: bool, quiet: bool) -> list[str]:
    """The options as words, for the console."""
    words = ["-o", output]
    words += ["--task", asked.task] if asked.task else []
    words += ["--since", asked.since] if asked.since else []
    words += ["-j", str(jobs)] if jobs else []
    flags = {
        "--only-failed": asked.only_failed,
        "--effects": asked.effects,
        "--replay-lookups": asked.replay_lookups,
        "--dry-run": dry_run,
        "--quiet": quiet,
    }
    return [*words, *(name for name, given in flags.items() if given)]


def _on_cluster(name: str, words: Sequence[str], namespace: str | None, context: str | None) -> int:
    """Have the circuit's console drive it: that reaches the registry, the store and the tasks."""
    from koalja_fn.cluster import console
    from koalja_fn.cluster.making import places_of as places_on
    from koalja_fn.commands.clusters import reached, told
    from koalja_fn.commands.remote import passed_on

    cluster, where = reached(context, namespace)
    circuit = console.the_circuit(cluster, where, "" if name == "." else name)
    with told() as teller:
        pod = console.console_of(cluster, where, circuit, teller)
    places = json.dumps(places_on(cluster, where, circuit)).encode()
    return passed_on(pod, ["recompute", "--deployed", *words, "--", circuit], places)


def _deployed(circuit: str, asked: Asked, talk: _Talk, stop: Cancel) -> Recompute | None:
    """What the console does; where the tasks are it is told on standard input.

    Raises:
        UsageError: This is no console.
    """
    from koalja_fn.engine.attaching import attach
    from koalja_fn.local import afield
    from koalja_fn.local.opening import open_payloads, open_registry, shared
    from koalja_fn.local.pods import Place
    from koalja_fn.local.recomputing import part_of

    where = shared()
    if where is None:
        raise UsageError("--deployed is for consoles", cure="koalja-fn recompute --cluster CIRCUIT")
    places = {name: Place(**place) for name, place in json.load(sys.stdin).items()}
    with closing(open_payloads(where)) as store, closing(open_registry(where)) as registry:
        plan = registry.read(lambda tx: attach(tx, circuit, {}, Path("/"))).plan
        found = _begun(
            f"--cluster {circuit}", registry, plan, asked, talk, lambda part: afield.check(plan, part, places)
        )
        if found is None:
            return None
        afield.check(plan, part_of(plan, found), places)
        done = afield.recompute_afield(
            registry, store, plan, found, places, _ears(stop, talk), stop, talk.jobs
        )
    return done or _interrupted()


def _is_shared(path: Path) -> bool:
    """Whether a folder has nothing of its own, and the environment names a registry that is shared."""
    from koalja_fn.local.opening import shared, state_folder

    folder = path if path.is_dir() else path.parent
    return shared() is not None and not (state_folder(folder) / "registry.db").is_file()


def _shared(path: Path, asked: Asked, talk: _Talk, stop: Cancel) -> Recompute | None:
    """Over a registry and a store that others work on; programs run here, from this folder."""
    from koalja_fn.local.sharing import open_shared

    with open_shared(path) as site:
        found = _begun(
            str(path),
            site.registry,
            site.plan,
            asked,
            talk,
            lambda part: site.check(part, replayed=asked.replay_lookups),
        )
        if found is None:
            return None
        return site.recompute(found, _ears(stop, talk), stop, talk.jobs) or _interrupted()


def _run(workplace: Workplace, found: Recompute, stop: Cancel, talk: _Talk) -> Recompute:
    from koalja_fn.local import recomputing

    return recomputing.recompute(workplace, found, _ears(stop, talk), stop, talk.jobs) or _interrupted()


def _ears(stop: Cancel, talk: _Talk) -> Ears:
    from koalja_fn.local.display import line
    from koalja_fn.local.recomputing import Ears

    def settled(progress: Progress) -> None:
        if not talk.quiet and (progress.left % 100 == 0):
            click.echo(f"{progress.task}: {progress.left} left", err=True)

    def ended(executed: Executed) -> None:
        if executed.outcome not in ("done", "listening", "cancelled") and not stop.is_set:
            click.echo(line(executed), err=True)

    return Ears(settled, ended, lambda text: click.echo(text, err=True))


def _interrupted() -> NoReturn:
    click.echo("koalja-fn: interrupted; run it again, and it goes on", err=True)
    sys.exit(130)


def _say(quiet: bool, text: str) -> None:
    if not quiet:
        click.echo(text, err=True)


def _show(wanted: Prospect, output: str) -> None:
    if output == "json":
        emit_json(wanted.to_json())
        return
    if not wanted.tasks:
        click.echo("nothing to do: all results are by the code as it is now")
    for one in wanted.tasks:
        count = f"{one.count}" if one.certain else f"at most {one.count}"
        click.echo(f"{one.task}: {count} snapshots: {one.why}")
    for note in wanted.notes:
        click.echo(f"note: {note}")


def _report(done: Recompute, output: str) -> None:
    if output == "json":
        emit_json({"recompute": done.epoch, "state": done.state, "tasks": done.told["tasks"]})
        return
    from koalja_fn.story.superseding import counted

    for task, counts in done.told["tasks"].items():
        click.echo(f"{task}: {counted(counts)}")
    click.echo(f"recompute {done.epoch} is in force; what was there before is kept, and told by trace")


def _since(tx: Transaction, plan: CircuitPlan, task: str | None, text: str) -> int:
    """When snapshots formed at the earliest, µs: of a time, a value or snapshot, or a position.

    Raises:
        UsageError: A position without --task.
        NotFound: Nothing is known by that.
    """
    from koalja_fn.registry import stories, values
    from koalja_fn.story.finding import find

    if text.isdigit() and len(text) < 8:
        if task is None:
            raise UsageError("--since with a position needs --task", cure="--task TASK --since POSITION")
        if task not in plan.tasks or not plan.tasks[task].streams:
            raise NotFound(f"no task {task!r} that reads a wire")
        one = plan.tasks[task]
        wire = one.wires[one.spec.wires[0]]
        there = values.between(tx, wire, int(text) - 1, int(text) - 1)
        if not there:
            raise NotFound(f"{one.spec.wires[0]} has no value at position {text}")
        return there[0].arrived
    try:
        moment = datetime.fromisoformat(text)
        return round(moment.timestamp() * 1_000_000)
    except ValueError:
        pass
    found = find(tx, text)
    if found.kind == "value":
        value = values.by_id(tx, found.id)
        assert value is not None
        return value.arrived
    formed = stories.formed_by_id(tx, found.id)
    assert formed is not None
    return formed.formed


@contextmanager
def _cancelled_by_signals() -> Iterator[Cancel]:
    """A flag that ^C and SIGTERM set; a second ^C ends at once."""
    from koalja_fn.program.cancel import Cancel

    stop = Cancel()

    def end(number: int, _frame: Any) -> None:
        if stop.is_set and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stop.close()
