"""`koalja-fn diff`: what deploying would change."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from koalja_fn.commands.clusters import cluster_options, reached
from koalja_fn.commands.deploy import opened_for, packing_of, show_plan
from koalja_fn.commands.shared import output_option, reports_errors


@click.command()
@reports_errors
@click.argument("path", type=click.Path(path_type=Path), default=".")
@cluster_options
@click.option("--images", metavar="REGISTRY/PREFIX", help="Where images go.  [default: the namespace's]")
@click.option("--run-image", metavar="REF", help="What images are built upon.  [default: python:3.12-slim]")
@click.option("--insecure", is_flag=True, help="Speak plain HTTP to registries that are not on this machine.")
@output_option
def diff(
    path: Path,
    namespace: str | None,
    context: str | None,
    images: str | None,
    run_image: str | None,
    insecure: bool,
    output: str,
) -> None:
    """Show what `deploy` would change on the cluster, field by field; nothing is changed or packed.

    \b
    Examples:
      koalja-fn diff ./mycode
      koalja-fn diff ./mycode -n weather -o json

    \b
    Exit status: 0 nothing would change; 1 something would; others as for deploy.
    """
    from koalja_fn.cluster import deploying

    opened, _ = opened_for(path)
    cluster, where = reached(context, namespace)
    place = deploying.Place.of(cluster, where)
    if show_plan(place, opened, packing_of(place, images, run_image, insecure), output):
        sys.exit(1)
