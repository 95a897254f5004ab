"""`koalja-fn deploy`: a circuit onto a cluster."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from koalja_fn.commands.clusters import cluster_options, reached, timeout_option, told
from koalja_fn.commands.shared import emit_json, output_option, reports_errors
from koalja_fn.errors import UsageError

if TYPE_CHECKING:
    from koalja_fn.cluster.deploying import Deployment, Place
    from koalja_fn.cluster.imaging import Packing
    from koalja_fn.model import Circuit
    from koalja_fn.program.folder import Opened


@click.command()
@reports_errors
@click.argument("path", type=click.Path(path_type=Path), default=".")
@cluster_options
@click.option("--images", metavar="REGISTRY/PREFIX", help="Where images go.  [default: the namespace's]")
@click.option("--run-image", metavar="REF", help="What images are built upon.  [default: python:3.12-slim]")
@click.option("--insecure", is_flag=True, help="Speak plain HTTP to registries that are not on this machine.")
@click.option(
    "--discard", "discards", multiple=True, metavar="TASK", help="Drop what waits for a removed task."
)
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@timeout_option
@output_option
def deploy(
    path: Path,
    namespace: str | None,
    context: str | None,
    images: str | None,
    run_image: str | None,
    insecure: bool,
    discards: tuple[str, ...],
    dry_run: bool,
    timeout: float,
    output: str,
) -> None:
    """Deploy the circuit in PATH: pack what changed, apply what differs, wait until all is ready.

    What is no longer in the wiring is taken away. It may be interrupted at any time and called again; a
    second call with nothing changed changes nothing. With KOALJA_REGISTRY set the registry is brought in
    line from here, else from a pod.

    \b
    Examples:
      koalja-fn deploy ./mycode
      koalja-fn deploy ./mycode -n weather --dry-run
      koalja-fn deploy ./mycode --images ghcr.io/me -o json

    \b
    Exit status: 0 it runs; 2 wrong call; 3 the wiring has errors; 7 the namespace is not installed;
    9 something could not be packed; 10 the cluster refuses something, or it does not get ready.
    """
    from koalja_fn.cluster import deploying, imaging
    from koalja_fn.pack import telling

    opened, circuit = opened_for(path)
    cluster, where = reached(context, namespace)
    place = deploying.Place.of(cluster, where)
    how = packing_of(place, images, run_image, insecure)
    if dry_run:
        show_plan(place, opened, how, output)
        return
    listener = telling.Live() if telling.fits(sys.stderr) else telling.Plain()
    with listener:
        packed = imaging.pack(opened, how, listener)
    with told() as teller:
        done = deploying.deploy(
            place,
            circuit,
            opened.file.read_text(encoding="utf-8") if opened.file else "",
            packed,
            teller,
            registry=os.environ.get("KOALJA_REGISTRY", ""),
            discard=discards,
            timeout=timeout,
        )
    if output == "json":
        emit_json(done.to_json(circuit, packed))
        return
    for line in _told(place, circuit, done):
        click.echo(line)


def opened_for(path: Path) -> tuple[Opened, Circuit]:
    """The circuit, checked.

    Raises:
        WiringError: It has errors.
    """
    from koalja_fn.local.workplace import findings_error
    from koalja_fn.program.folder import open_circuit

    opened = open_circuit(path)
    if opened.circuit is None:
        raise findings_error(opened)
    return opened, opened.circuit


def packing_of(place: Place, images: str | None, run_image: str | None, insecure: bool) -> Packing:
    """How to pack.

    Raises:
        UsageError: Nobody says where images go.
    """
    from koalja_fn.cluster.imaging import Packing

    prefix = images or place.settings.images
    if not prefix:
        raise UsageError(
            "where shall the images go?",
            why=f"neither --images nor the settings of namespace {place.namespace} say it",
            cure=f"koalja-fn install -n {place.namespace} --images REGISTRY/PREFIX",
        )
    base = run_image or os.environ.get("KOALJA_RUN_IMAGE", "")
    return Packing(prefix, run_image=base, insecure=insecure)


def show_plan(place: Place, opened: Opened, how: Packing, output: str) -> bool:
    """Show what would change; whether anything would."""
    from koalja_fn.cluster import deploying, imaging

    assert opened.circuit is not None
    images = imaging.look_up(opened, how)
    with told() as teller:
        plan = deploying.plan_of(place, opened.circuit, images, teller)
    if output == "json":
        emit_json({"packed": list(images.changed), "objects": [step.to_json() for step in plan.steps]})
        return not plan.empty
    for name in images.changed:
        click.echo(f"pack   {name}")
    for line in plan.lines():
        click.echo(line.replace(imaging.TO_BE_PACKED, "(to be packed)"))
    return not plan.empty


def _told(place: Place, circuit: Circuit, done: Deployment) -> Iterator[str]:
    """Where data go in, and how to see what comes out."""
    name, where = circuit.name, f" -n {place.namespace}"
    quiet = done.plan.empty and not done.changes
    yield f"{name} runs in namespace {place.namespace}" + ("; nothing was to be changed" if quiet else "")
    wires = circuit.sources
    if wires and not quiet:
        yield "the first value:"
        yield f"  koalja-fn send --cluster {name} {wires[0]} FILE{where}"
        if done.entry:
            yield f"  curl --data-binary @FILE {done.entry}/{name}/{wires[0]}"
        yield "what comes of it:"
        yield f"  koalja-fn list --cluster {name}{where}"
