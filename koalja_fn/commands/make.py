"""`make`: ask for a wire, and only what changed on the way to it is made again."""

from __future__ import annotations

import gc
import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from koalja_fn.commands.shared import emit_json, output_option, reports_errors, signals_call
from koalja_fn.errors import ProgramError, StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from koalja_fn.program.cancel import Cancel
    from koalja_fn.pull.asking import Answer, Options

_SHOWN = 5  # values of each wire
_WIRES = 20
_TAIL = 20  # lines of standard error
_YOUNG = 100_000  # objects between two rounds of the collector
_AT_ONCE = 64  # executions in pods; each task's own `concurrency` is less, mostly


@click.command()
@reports_errors
@click.argument("path", type=click.Path(path_type=Path), default=".")
@click.argument("wires", nargs=-1, metavar="[WIRE]...")
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1, 1024),
    help="How many programs may run at once.  [default: one for each core]",
)
@click.option(
    "-k", "--keep-going", is_flag=True, help="After a failure, make all that does not depend on it."
)
@click.option("-n", "--dry-run", is_flag=True, help="Tell what would be run, and why; run nothing.")
@click.option(
    "--sample", type=click.IntRange(1), metavar="N", help="Take the first N files of each source only."
)
@click.option(
    "--wait", type=click.FloatRange(0), default=0.0, metavar="SECONDS", help="Wait for who has the folder."
)
@click.option("--publish", is_flag=True, help="Place the results on their wires, where `run` sees them.")
@click.option("--cluster", "on_cluster", is_flag=True, help="PATH is the name of a circuit on a cluster.")
@click.option("--namespace", metavar="NAMESPACE", help="Where.  [default: the context's namespace]")
@click.option("--context", metavar="NAME", help="Another context of the kubeconfig than the current one.")
@click.option("--deployed", is_flag=True, hidden=True, help="As the console's pod does it.")
@click.option("-q", "--quiet", is_flag=True, help="Tell of results and trouble only.")
@output_option
def make(
    path: Path,
    wires: tuple[str, ...],
    jobs: int | None,
    keep_going: bool,
    dry_run: bool,
    sample: int | None,
    wait: float,
    publish: bool,
    on_cluster: bool,
    namespace: str | None,
    context: str | None,
    deployed: bool,
    quiet: bool,
    output: str,
) -> None:
    """Bring wires of a circuit up to date, as `make` does; all its ends where none is named.

    Sources are the files that `from` names in the wiring. A program runs only if its code, its run line, its
    environment or one of its input files is not what it was; if what it makes is the same as before, nothing
    behind it runs.

    On a cluster the sources are the values that have arrived, and each program runs in a pod of its task.

    \b
    Examples:
      koalja-fn make build
      koalja-fn make build program -j 4
      koalja-fn make build --dry-run
      koalja-fn make build program --publish
      koalja-fn make --cluster weather forecast --namespace prod

    \b
    Exit status: 0 fine; 3 the wiring has errors; 4 a program failed; 6 another run has the folder;
    7 no such wire, or nothing for a source; 8 disk or registry trouble; 10 trouble with the cluster;
    130 interrupted.
    """
    if on_cluster:
        words = _words(jobs, sample, output, k=keep_going, n=dry_run, publish=publish, q=quiet)
        sys.exit(_on_cluster(str(path), wires, words, namespace, context))
    from koalja_fn.pull.asking import Options, ask

    gc.set_threshold(_YOUNG)  # nearly all that is made here stays until the end

    def tell(text: str) -> None:
        if not (quiet or dry_run):
            click.echo(text, err=True)

    most = _AT_ONCE if deployed else len(os.sched_getaffinity(0))
    options = Options(jobs or most, dry_run, keep_going, sample, tell, publish)
    with _until_signalled() as stop:
        if deployed:
            answer = _deployed(str(path), wires, options, stop)
        else:
            answer = ask(path, wires, options, stop, patience=wait)
            try:
                _find_paths(path, answer, output)  # the only look at the store where nothing has changed
            except StoreError:
                if not answer.unchanged:
                    raise
                tell("a result is not in the store any more: all is looked at anew")
                answer = ask(path, wires, options, stop, patience=wait, trusting=False)
                _find_paths(path, answer, output)
    folder = None if deployed else path
    if output == "json":
        emit_json(_document(answer))
    else:
        _say(answer, folder, dry_run)
    if answer.interrupted:
        sys.exit(130)
    if answer.failures:
        sys.exit(ProgramError.exit_status)


def _words(jobs: int | None, sample: int | None, output: str, **flags: bool) -> list[str]:
    """The options as words, for the console."""
    words = [f"--{name}" if len(name) > 1 else f"-{name}" for name, given in flags.items() if given]
    words += ["-j", str(jobs)] if jobs else []
    words += ["--sample", str(sample)] if sample else []
    return [*words, "-o", output]


def _on_cluster(
    name: str, wires: Sequence[str], words: Sequence[str], namespace: str | None, context: str | None
) -> int:
    """Have the circuit's console make it: it reaches the registry, the store and the tasks."""
    from koalja_fn.cluster import console
    from koalja_fn.cluster.making import places_of
    from koalja_fn.commands.clusters import reached, told
    from koalja_fn.commands.remote import passed_on

    cluster, where = reached(context, namespace)
    circuit = console.the_circuit(cluster, where, "" if name == "." else name)
    with told() as teller:
        pod = console.console_of(cluster, where, circuit, teller)
    places = json.dumps(places_of(cluster, where, circuit)).encode()
    return passed_on(pod, ["make", "--deployed", *words, "--", circuit, *wires], places)


def _deployed(circuit: str, wires: Sequence[str], options: Options, stop: Cancel) -> Answer:
    """What the console does; where the tasks are it is told on standard input.

    Raises:
        UsageError: This is no console.
    """
    from koalja_fn.local.opening import shared
    from koalja_fn.local.pods import Place
    from koalja_fn.pull.deployed import make_deployed

    where = shared()
    if where is None:
        raise UsageError("--deployed is for consoles", cure="koalja-fn make --cluster CIRCUIT")
    places = {name: Place(**place) for name, place in json.load(sys.stdin).items()}
    return make_deployed(circuit, wires, places, where, options, stop)


@contextmanager
def _until_signalled() -> Iterator[Cancel]:
    """A flag that ^C, SIGTERM and SIGHUP set: programs are ended, and what was finished is kept."""
    from koalja_fn.program.cancel import Cancel

    stop = Cancel()
    try:
        with signals_call(lambda _: stop.set()):
            yield stop
    finally:
        stop.close()


def _document(answer: Answer) -> dict[str, Any]:
    return {
        "circuit": answer.circuit,
        "wires": answer.wires,
        "made": [{"task": task, "number": number, "why": why} for task, number, why in answer.made],
        "cached": answer.cached,
        "heldUp": answer.held_up,
        "left": answer.left,
        "failures": [
            {
                "task": failure.task,
                "number": failure.number + 1,
                "message": failure.message,
                "stderr": failure.stderr,
                "scratch": str(failure.scratch) if failure.scratch else None,
            }
            for failure in answer.failures
        ],
    }


def _say(answer: Answer, path: Path | None, dry: bool) -> None:
    if dry:
        _say_plan(answer)
        return
    for failure in answer.failures:
        which = f"[{failure.number + 1}]" if failure.number else ""
        click.echo(f"{failure.task}{which} {failure.message}", err=True)
        for line in failure.stderr.splitlines()[-_TAIL:]:
            click.echo(f"    {line}", err=True)
        if failure.scratch:
            click.echo(f"    its folder is kept: {failure.scratch}", err=True)
    if answer.held_up:
        click.echo(f"not made, since they need what failed: {', '.join(answer.held_up)}", err=True)
    for task, left in answer.left.items():
        for name, count in left.items():
            values = "value is" if count == 1 else "values are"
            click.echo(f"{task}: {count} {values} in no snapshot of input {name}", err=True)
    for wire, found in list(answer.wires.items())[:_WIRES]:
        _say_wire(path, wire, found)
    if len(answer.wires) > _WIRES:
        click.echo(f"and {len(answer.wires) - _WIRES} more wires; -o json has all")
    if answer.interrupted:
        click.echo("interrupted: what was finished is kept", err=True)
    elif not answer.made and not answer.failures:
        click.echo(f"nothing to do: {answer.cached} up to date", err=True)
    else:
        click.echo(f"{len(answer.made)} made, {answer.cached} were up to date", err=True)


def _say_wire(path: Path | None, wire: str, values: list[dict[str, Any]]) -> None:
    """`path` is the circuit's folder; without one the values are in a store that has no paths."""
    if not values:
        click.echo(f"{wire}: nothing")
    for value in values[:_SHOWN]:
        place = value["path"] if path is None else os.path.relpath(value["path"])
        click.echo(f"{wire}  {value['id'][:12]}  {place or _bytes(value)}")
    if len(values) > _SHOWN:
        click.echo(f"{wire}  and {len(values) - _SHOWN} more")


def _bytes(value: dict[str, Any]) -> str:
    return " ".join(text for text in (f"{value['size']} bytes", value["type"], value["name"]) if text)


def _find_paths(path: Path, answer: Answer, output: str) -> None:
    """What `to` has put nowhere has a path in the store; what is told gets it.

    Raises:
        StoreError: A payload is not there any more.
    """
    every = output == "json"
    wires = list(answer.wires.values())[: None if every else _WIRES]
    values = [value for some in wires for value in some[: None if every else _SHOWN]]
    if not all(value["path"] for value in values):
        from koalja_fn.pull.make import with_paths

        with_paths(path, values)


def _say_plan(answer: Answer) -> None:
    for task, number, why in answer.made:
        click.echo(f"{task}{f'[{number}]' if number > 1 else ''}: would run: {why}")
    for task in answer.held_up:
        click.echo(f"{task}: would run if what comes before it comes out differently")
    click.echo(f"{answer.cached} up to date" if answer.cached else "nothing is up to date", err=True)
