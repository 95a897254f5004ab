"""`recompute`: results of old code are made again with the new, with all that lies downstream."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from koalja_fn.commands.shared import emit_json, output_option, reports_errors
from koalja_fn.errors import Busy, NotFound, UsageError

if TYPE_CHECKING:
    from koalja_fn.engine.executing import Executed
    from koalja_fn.engine.lane.beginning import Prospect
    from koalja_fn.engine.lane.running import Progress
    from koalja_fn.engine.plans import CircuitPlan
    from koalja_fn.local.workplace import Workplace
    from koalja_fn.program.cancel import Cancel
    from koalja_fn.registry import Registry
    from koalja_fn.registry.lanes import Recompute
    from koalja_fn.registry.registry import Transaction


# A run that was killed has the folder for a moment longer.
_PATIENCE = 5.0


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
@click.option(
    "--cluster", hidden=True, is_flag=False, flag_value="", metavar="CIRCUIT", help="Not on a cluster."
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
    cluster: str | None,
    output: str,
) -> None:
    """Make old results again with the code as it is now, and all that was made from them.

    Without --task: all tasks whose results another version of their code made. The recorded logs are
    replayed beside what is there, so that the same values come together in the same order; at the end
    the new results take the old ones' place, and the old ones are kept: `trace` tells of both. Results
    whose inputs come out as they were are kept. It may be interrupted: run it again, and it goes on.

    A `run` that has the folder need not be stopped: it does the recompute beside its other work, and takes
    values meanwhile.

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

    \b
    Exit status: 0 fine, or nothing to do; 3 the wiring has errors; 4 some results are dead letters now;
    6 something else than a run has the folder; 7 no such task, value or snapshot; 130 interrupted.
    """
    if cluster is not None:
        raise UsageError(
            "results of a deployed circuit can't be made again in this version",
            why="a recompute runs all programs in one place, and on a cluster each is in an image of its own",
            cure="recompute in a folder, or deploy under a new name and send the sources again",
        )
    _refuse_shared(path)
    asked = Asked(task, since, only_failed, effects, replay_lookups)
    with _cancelled_by_signals() as stop:
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
                found = begun or _begun(path, workplace.registry, workplace.plan, asked, talk)
                if found is None:
                    return None
                return _run(workplace, found, stop, talk)
        except Busy:
            beside = Beside.of(path)
            if beside is None:
                raise
        with beside:
            begun = begun or _begun(path, beside.registry, beside.plan, asked, talk)
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


def _begun(path: Path, registry: Registry, plan: CircuitPlan, asked: Asked, talk: _Talk) -> Recompute | None:
    """A recompute to be done: one that was left, or a new one; None where there is nothing to do.

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
                cure=f"koalja-fn recompute {path}, without options, goes on with it",
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
    for note in wanted.notes:
        _say(talk.quiet, f"note: {note}")
    return recomputing.begun(registry, plan, wanted)


def _refuse_shared(path: Path) -> None:
    """A folder that shares its registry with others has nothing of its own to make again.

    Raises:
        UsageError: It is such a folder.
    """
    from koalja_fn.local.opening import shared, state_folder

    folder = path if path.is_dir() else path.parent
    if shared() is not None and not (state_folder(folder) / "registry.db").is_file():
        raise UsageError(
            "results in a shared registry can't be made again in this version",
            why="KOALJA_REGISTRY is set, and others may be at work there while results are replaced",
            cure="recompute in a folder with a registry of its own; unset KOALJA_REGISTRY for that",
        )


def _run(workplace: Workplace, found: Recompute, stop: Cancel, talk: _Talk) -> Recompute:
    from koalja_fn.local import recomputing
    from koalja_fn.local.display import line

    def settled(progress: Progress) -> None:
        if not talk.quiet and (progress.left % 100 == 0):
            click.echo(f"{progress.task}: {progress.left} left", err=True)

    def ended(executed: Executed) -> None:
        if executed.outcome not in ("done", "listening") and not stop.is_set:
            click.echo(line(executed), err=True)

    ears = recomputing.Ears(settled, ended, lambda text: click.echo(text, err=True))
    done = recomputing.recompute(workplace, found, ears, stop, talk.jobs)
    if done is None:
        click.echo("koalja-fn: interrupted; run it again, and it goes on", err=True)
        sys.exit(130)
    return done


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
