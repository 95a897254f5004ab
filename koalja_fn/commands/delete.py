"""`koalja-fn delete`: takes a circuit off the cluster."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from koalja_fn.commands.clusters import cluster_options, reached, timeout_option, told
from koalja_fn.commands.shared import emit_json, output_option, reports_errors
from koalja_fn.errors import ClusterError, NotFound

if TYPE_CHECKING:
    from koalja_fn.cluster.console import Console


@click.command()
@reports_errors
@click.argument("circuit")
@cluster_options
@click.option("--keep-data", is_flag=True, help="Keep its values and its story: deploying it again goes on.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@timeout_option
@output_option
def delete(
    circuit: str,
    namespace: str | None,
    context: str | None,
    keep_data: bool,
    yes: bool,
    timeout: float,
    output: str,
) -> None:
    """Take a circuit off the cluster, and its values and their story out of the registry.

    What is at work gets the time to end. Payloads stay in the store: other circuits may have the same ones.

    \b
    Examples:
      koalja-fn delete weather --keep-data
      koalja-fn delete weather -n prod --yes
    """
    from koalja_fn.cluster import deleting
    from koalja_fn.cluster.console import console_of

    cluster, where = reached(context, namespace)
    if not keep_data and not yes:
        click.confirm(
            f"Delete circuit {circuit} in namespace {where} with all its values?", abort=True, err=True
        )
    with told() as teller:
        # The console has the image of the entry, so it is opened while that is there.
        console = None if keep_data else console_of(cluster, where, circuit, teller)
        forget = partial(_forget, console, circuit) if console else None
        count = deleting.delete_circuit(cluster, where, circuit, teller, timeout=timeout, forget=forget)
    if not count:
        raise NotFound(f"there is no circuit {circuit} in namespace {where}")
    if output == "json":
        emit_json({"circuit": circuit, "namespace": where, "objects": count, "data": not keep_data})
    else:
        kept = "; its values and their story are kept" if keep_data else ""
        click.echo(f"circuit {circuit} is deleted{kept}")


def _forget(console: Console, circuit: str) -> None:
    ended = console.forget(circuit)
    if ended.status != 0:
        raise ClusterError(
            f"what the registry knows of circuit {circuit} could not be deleted",
            why=ended.err.decode("utf-8", "replace").strip(),
            cure="call it again, or with --keep-data",
        )
