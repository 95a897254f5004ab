"""`koalja-fn pack`: each task of a circuit an image, by Cloud Native Buildpacks."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from koalja_fn.commands.shared import emit_json, reports_errors
from koalja_fn.errors import UsageError

if TYPE_CHECKING:
    from koalja_fn.pack.packing import Outcome


@click.command()
@reports_errors
@click.argument("path", type=click.Path(path_type=Path), default=".")
@click.option("--to", metavar="REGISTRY/PREFIX", help="Push to REGISTRY/PREFIX/CIRCUIT-TASK:latest.")
@click.option(
    "--packer",
    type=click.Choice(["auto", "pack", "embedded"]),
    default="auto",
    show_default=True,
    help="The real pack, the embedded platform, or whichever can be used.",
)
@click.option("--run-image", metavar="REF", help="What images are built upon.  [default: python:3.12-slim]")
@click.option("--builder", metavar="REF", help="A builder image, whose buildpacks look after languages.")
@click.option(
    "--buildpack",
    "buildpacks",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A buildpack's folder, in place of ours for languages; may be repeated.",
)
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="A variable for the build.")
@click.option("--task", "tasks", multiple=True, metavar="T", help="Only this task; may be repeated.")
@click.option("-j", "--jobs", type=click.IntRange(1, 64), help="Tasks at once.  [default: one for each core]")
@click.option("--insecure", is_flag=True, help="Speak plain HTTP to registries that are not on this machine.")
@click.option("-v", "--verbose", is_flag=True, help="Show what the buildpacks say.")
@click.option(
    "-o", "--output", "outputs", multiple=True, metavar="oci:DIR|json|text",
    help="`oci:DIR`: into a folder instead of a registry. `json`: for programs.",
)  # fmt: skip
def pack(
    path: Path,
    to: str | None,
    packer: str,
    run_image: str | None,
    builder: str | None,
    buildpacks: tuple[Path, ...],
    variables: tuple[str, ...],
    tasks: tuple[str, ...],
    jobs: int | None,
    insecure: bool,
    verbose: bool,
    outputs: tuple[str, ...],
) -> None:
    """Make an image of each task of the circuit in PATH, and push it. What did not change is not packed.

    No Dockerfile, and neither a container engine nor root is needed. Images are the same, bit for bit,
    wherever they are made.

    \b
    Examples:
      koalja-fn pack ./mycode --to ghcr.io/me
      koalja-fn pack ./mycode --output oci:images --run-image oci:base
      koalja-fn pack ./mycode --to 127.0.0.1:5000/me --task average -o json

    \b
    Exit status: 0 all is packed; 2 wrong call; 3 the wiring has errors; 7 no such circuit or task;
    9 a task could not be packed (the others were).
    """
    with _collector_spared():
        from koalja_fn.pack import packing
        from koalja_fn.pack.ground import Choice, Ground
        from koalja_fn.pack.oci.client import RegistryClient
        from koalja_fn.program.folder import open_circuit

        opened = open_circuit(path)
    folder, form = _outputs(outputs)
    where = packing.destination(to, folder)
    choice = Choice(run_image or "", builder or "", buildpacks, _variables(variables))
    if opened.circuit is None:
        from koalja_fn.local.workplace import findings_error

        raise findings_error(opened)
    named = packing.chosen(opened, tasks)
    with RegistryClient(insecure=insecure) as client:
        listener = _listener(verbose=verbose)
        ground = Ground(choice, client, listener.say)
        name, why, way = _way(packer, where, choice, ground, client)
        listener.say(f"packer: {name} ({why})")
        with listener:
            outcome = packing.pack_circuit(
                opened, named, where, ground, way, listener, jobs=jobs or len(os.sched_getaffinity(0))
            )
    _report(outcome, form, name, why)


@contextmanager
def _collector_spared() -> Iterator[None]:
    """Importing makes many objects and no garbage: to look for some is a tenth of a call that packs nothing.

    At the end of the process all goes at once, so it need not be looked through then, either.
    """
    atexit.register(gc.freeze)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _way(wanted: str, where: Any, choice: Any, ground: Any, client: Any) -> tuple[str, str, Any]:
    from koalja_fn.pack import foreign, packing

    name, why = foreign.choose(
        wanted, layout=where.layout is not None, run_image=bool(choice.run_image and not choice.builder)
    )
    way = foreign.packer(choice, client) if name == "pack" else packing.embedded(ground)
    return name, why, way


def _outputs(outputs: tuple[str, ...]) -> tuple[str | None, str]:
    layout, form = None, "text"
    for word in outputs:
        if word in ("json", "text"):
            form = word
        elif word.startswith("oci:"):
            layout = word
        else:
            raise UsageError(f"--output {word} is not known", cure="oci:DIR, json or text")
    return layout, form


def _variables(words: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"--env {word} has no value", cure=f"--env {word}=VALUE")
        found[name] = value
    return found


def _listener(*, verbose: bool) -> Any:
    from koalja_fn.pack import telling

    live = telling.fits(sys.stderr) and not verbose
    return telling.Live() if live else telling.Plain(verbose=verbose)


def _report(outcome: Outcome, form: str, packer: str, why: str) -> None:
    if form == "json":
        emit_json(
            {
                "packer": packer,
                "why": why,
                "tasks": [asdict(one) for one in outcome.packed],
                "failures": [
                    {
                        "task": f.task,
                        "phase": f.phase,
                        "what": f.what,
                        "why": f.why,
                        "cure": f.cure,
                        "output": f.output,
                    }
                    for f in outcome.failures
                ],
            }
        )
    for failure in outcome.failures:
        click.echo(f"koalja-fn: {failure}", err=True)
    if form == "text":
        for one in outcome.packed:
            click.echo(f"{one.image}@{one.digest}")
    if outcome.failures:
        sys.exit(9)
