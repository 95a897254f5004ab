"""The verb `ghost`: a walk through a circuit with values that have no payload, and the report of it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from koalja_fn.commands.clusters import cluster_options, reached, told
from koalja_fn.commands.shared import emit_json, output_option, reports_errors
from koalja_fn.errors import Refused, UsageError

if TYPE_CHECKING:
    from koalja_fn.engine.ghosting import Shape
    from koalja_fn.local.opening import Where
    from koalja_fn.registry import Registry
    from koalja_fn.story.ghosts import Walk

_LOOK = 0.2
_REFUSED, _SILENT = Refused.exit_status, 10


@click.command()
@reports_errors
@click.argument("path", metavar="[DIR]", type=click.Path(path_type=Path), required=False)
@click.argument("wires", nargs=-1, metavar="[WIRE]...")
@click.option(
    "--value",
    metavar="TYPE/SIZE/NAME",
    default="",
    help="What the value would be: its media type, bytes (500, 20kB, 3GB), file's name; any may be left out.",
)
@click.option("--probe", is_flag=True, help="Connect to services outside (`at`), and send them nothing.")
@click.option("--cluster", "on_cluster", is_flag=True, help="DIR is the name of a circuit on a cluster.")
@cluster_options
@click.option("--follow", metavar="WALK", help="Tell of a walk that has begun, and wait for its end.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, 3600),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long links of a deployed circuit have to answer.",
)
@output_option
def ghost(
    path: Path | None,
    wires: tuple[str, ...],
    value: str,
    probe: bool,
    on_cluster: bool,
    namespace: str | None,
    context: str | None,
    follow: str | None,
    timeout: float,
    output: str,
) -> None:
    """Show where data would go, without any: ghosts walk all roads from WIRE, or from all ways in.

    No program is run. Any window counts as filled, passive and implicit inputs as present, and each link is
    taken once. What would stop real data is told, with the cure. The walk is kept: `koalja-fn trace GHOST`.

    On a cluster the ghosts go by the entry, the broker and the tasks' own pods, which are started for it.

    Exit status 5: something would be refused. 10: links of a deployed circuit did not answer in time.

    \b
    Examples:
      koalja-fn ghost weather
      koalja-fn ghost weather wind --value application/json/20MB/wind.json
      koalja-fn ghost weather --probe -o json
      koalja-fn ghost --cluster weather wind -n prod --timeout 120
    """
    if follow:
        walk = _followed(path, follow, timeout)
    elif on_cluster:
        sys.exit(_on_cluster(path, wires, value, namespace, context, timeout, output))
    else:
        walk = _walked(path or Path(), wires, value, probe)
    _show(walk, output)


def _walked(path: Path, wires: tuple[str, ...], value: str, probe: bool) -> Walk:
    from koalja_fn.local import ghosting
    from koalja_fn.local.holding import state_of
    from koalja_fn.local.offering import check_wire
    from koalja_fn.local.opening import open_registry
    from koalja_fn.program.folder import open_circuit

    shape = shape_of(value)
    opened = open_circuit(path)
    circuit = ghosting.circuit_to_walk(opened)
    for wire in wires:
        check_wire(circuit, wire)
    folder = opened.folder.resolve()
    store = ghosting.store_of(folder, state_of(folder))
    looks = ghosting.looks_of(opened, circuit, store=store, probe=probe)
    registry = open_registry(folder)
    try:
        named = ghosting.walk(registry, circuit, looks, wires, shape, folder=folder, store=store)
        return _load(registry, named)
    finally:
        registry.close()


def _followed(path: Path | None, word: str, timeout: float) -> Walk:
    """A walk on record, once it is complete or its time is over."""
    from koalja_fn.local.opening import find_folder, open_registry, shared

    where: Where = path or shared() or find_folder(Path.cwd())
    until = time.monotonic() + timeout
    registry = open_registry(where)
    try:
        while True:
            walk = _load(registry, word)
            if walk.complete or time.monotonic() >= until:
                return walk
            time.sleep(_LOOK)
    finally:
        registry.close()


def _load(registry: Registry, word: str) -> Walk:
    from koalja_fn.story import ghosts

    return registry.read(lambda tx: ghosts.the_walk(tx, word))


def _on_cluster(
    path: Path | None,
    wires: tuple[str, ...],
    value: str,
    namespace: str | None,
    context: str | None,
    timeout: float,
    output: str,
) -> int:
    """Have the entry begin a walk, then follow it from the circuit's console."""
    from koalja_fn.cluster import console
    from koalja_fn.cluster.ghosting import begin

    cluster, where = reached(context, namespace)
    circuit = console.the_circuit(cluster, where, str(path or ""))
    with told() as teller:
        pod = console.console_of(cluster, where, circuit, teller)
    named = begin(pod, circuit, wires, shape_of(value))
    words = ["ghost", "--follow", named, "--timeout", f"{timeout:g}", "-o", output]
    ended = pod.command(words)
    sys.stdout.buffer.write(ended.out)
    sys.stdout.flush()
    sys.stderr.buffer.write(ended.err)
    return ended.status


def _show(walk: Walk, output: str) -> None:
    from koalja_fn.story.ghosts import report

    if output == "json":
        emit_json(walk.to_json())
    else:
        click.echo(report(walk))
    if not walk.complete:
        sys.exit(_SILENT)
    if walk.refused:
        sys.exit(_REFUSED)


_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


def shape_of(text: str) -> Shape:
    """Read TYPE/SIZE/NAME: parts are told apart by what they look like, and any may be left out.

    Raises:
        UsageError: A part is nothing of the kind.
    """
    from koalja_fn.engine.ghosting import Shape
    from koalja_fn.events import media_type

    parts = [part for part in text.split("/") if part]
    sizes = [n for n, part in enumerate(parts) if _size(part) is not None]
    # The type is two parts before the size, or at the beginning; the name is what follows the size.
    at = sizes[0] if sizes else min(len(parts), 2)
    head, tail = parts[:at], parts[at + 1 :] if sizes else parts[at:]
    if len(head) not in (0, 2) or len(tail) > 1:
        if not sizes and len(parts) == 1:
            return Shape(name=parts[0])
        raise UsageError(
            f"--value {text!r} is not of the form TYPE/SIZE/NAME",
            cure="for example application/json/20MB/wind.json, 20MB, text/csv, or 5MB/table.csv",
        )
    try:
        kind = media_type("/".join(head)) if head else ""
    except Refused as error:
        raise UsageError(f"--value {text!r}: {error.what}", why=error.why, cure=error.cure) from error
    return Shape(kind, (_size(parts[at]) or 0) if sizes else 0, tail[0] if tail else "")


def _size(text: str) -> int | None:
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = text[len(digits) :].lower()
    if not digits.isascii() or not digits.isdigit() or len(digits) > 15 or unit not in _UNITS:
        return None
    return int(digits) * _UNITS[unit]
