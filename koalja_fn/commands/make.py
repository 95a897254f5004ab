"""`make`: ask for a wire, and only what changed on the way to it is made again."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from koalja_fn.commands.shared import emit_json, output_option, reports_errors, signals_call
from koalja_fn.errors import ProgramError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from koalja_fn.program.cancel import Cancel
    from koalja_fn.pull.asking import Answer

_SHOWN = 5  # values of each wire
_WIRES = 20
_TAIL = 20  # lines of standard error


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
    quiet: bool,
    output: str,
) -> None:
    """Bring wires of a circuit up to date, as `make` does; all its ends where none is named.

    Sources are the files that `from` names in the wiring. A program runs only if its code, its run line, its
    environment or one of its input files is not what it was; if what it makes is the same as before, nothing
    behind it runs.

    \b
    Examples:
      koalja-fn make build
      koalja-fn make build program -j 4
      koalja-fn make build --dry-run
      koalja-fn make build program --publish

    \b
    Exit status: 0 fine; 3 the wiring has errors; 4 a program failed; 6 another run has the folder;
    7 no such wire, or no files for a source; 8 disk or registry trouble; 130 interrupted.
    """
    from koalja_fn.pull.asking import Options, ask

    def tell(text: str) -> None:
        if not (quiet or dry_run):
            click.echo(text, err=True)

    options = Options(jobs or len(os.sched_getaffinity(0)), dry_run, keep_going, sample, tell, publish)
    with _until_signalled() as stop:
        answer = ask(path, wires, options, stop, patience=wait)
    if output == "json":
        _find_paths(path, [value for values in answer.wires.values() for value in values])
        emit_json(_document(answer))
    else:
        _say(answer, path, dry_run)
    if answer.interrupted:
        sys.exit(130)
    if answer.failures:
        sys.exit(ProgramError.exit_status)


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


def _say(answer: Answer, path: Path, dry: bool) -> None:
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


def _say_wire(path: Path, wire: str, values: list[dict[str, Any]]) -> None:
    if not values:
        click.echo(f"{wire}: nothing")
    _find_paths(path, values[:_SHOWN])
    for value in values[:_SHOWN]:
        click.echo(f"{wire}  {value['id'][:12]}  {os.path.relpath(value['path'])}")
    if len(values) > _SHOWN:
        click.echo(f"{wire}  and {len(values) - _SHOWN} more")


def _find_paths(path: Path, values: list[dict[str, Any]]) -> None:
    """What `to` has put nowhere has a path in the store."""
    if not all(value["path"] for value in values):
        from koalja_fn.pull.make import with_paths

        with_paths(path, values)


def _say_plan(answer: Answer) -> None:
    for task, number, why in answer.made:
        click.echo(f"{task}{f'[{number}]' if number > 1 else ''}: would run: {why}")
    for task in answer.held_up:
        click.echo(f"{task}: would run if what comes before it comes out differently")
    click.echo(f"{answer.cached} up to date" if answer.cached else "nothing is up to date", err=True)
