"""`koalja-fn diff`: what deploying would change; or, with two ids, in what two results differ."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from koalja_fn.commands.clusters import cluster_options, reached
from koalja_fn.commands.shared import emit_json, output_option, reports_errors
from koalja_fn.errors import KoaljaError, UsageError

if TYPE_CHECKING:
    from koalja_fn.local.opening import Where
    from koalja_fn.registry.registry import Transaction
    from koalja_fn.story.comparing import Comparison


@click.command()
@reports_errors
@click.argument("words", nargs=-1, metavar="[DIR] | [DIR] ID ID")
@cluster_options
@click.option("--images", metavar="REGISTRY/PREFIX", help="Where images go.  [default: the namespace's]")
@click.option("--run-image", metavar="REF", help="What images are built upon.  [default: python:3.12-slim]")
@click.option("--insecure", is_flag=True, help="Speak plain HTTP to registries that are not on this machine.")
@click.option(
    "-C",
    "--dir",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="With two ids: the circuit's folder, instead of this one or the nearest above it.",
)
@output_option
def diff(
    words: tuple[str, ...],
    namespace: str | None,
    context: str | None,
    images: str | None,
    run_image: str | None,
    insecure: bool,
    folder: Path | None,
    output: str,
) -> None:
    """Show what `deploy` would change on the cluster, field by field; nothing is changed or packed.

    With two ids of values or snapshots: in what these two differ. That is what they were made from: inputs,
    versions of code, run lines, environment, answers of look-ups; and, if they are short texts, the lines.

    \b
    Examples:
      koalja-fn diff ./mycode
      koalja-fn diff ./mycode -n weather -o json
      koalja-fn diff 3fa9c2d1 77ab01e4

    \b
    Exit status: 0 nothing would change, or nothing differs; 1 something would, or does; others as for deploy.
    """
    if len(words) > 1 or folder is not None:
        if any((namespace, context, images, run_image, insecure)):
            raise UsageError(
                "two ids are compared in a folder, not on a cluster", cure="leave these options out"
            )
        sys.exit(_compare(words, folder, output))
    from koalja_fn.cluster import deploying
    from koalja_fn.commands.deploy import opened_for, packing_of, show_plan

    opened, _ = opened_for(Path(words[0]) if words else Path())
    cluster, where = reached(context, namespace)
    place = deploying.Place.of(cluster, where)
    if show_plan(place, opened, packing_of(place, images, run_image, insecure), output):
        sys.exit(1)


def _compare(words: Sequence[str], folder: Path | None, output: str) -> int:
    from koalja_fn.commands.asking import choose_folder, opened
    from koalja_fn.story.comparing import comparison_text

    where, rest = choose_folder(words, folder, needed=2)
    if len(rest) != 2:
        raise UsageError(
            "two ids are compared", cure="koalja-fn diff ID ID, or koalja-fn diff DIR; see --help"
        )
    with opened(where) as registry:
        told = registry.read(lambda tx: _comparison(tx, rest, where))
    if output == "json":
        emit_json(told.to_json())
    else:
        click.echo("\n".join(comparison_text(told)))
    return 1 if told.found else 0


def _comparison(tx: Transaction, words: Sequence[str], where: Where) -> Comparison:
    from koalja_fn.local.opening import open_payloads
    from koalja_fn.story.comparing import compare, side_of
    from koalja_fn.story.finding import find_any

    one, two = (side_of(tx, found.kind, found.id) for found in (find_any(tx, word) for word in words))

    def payload(digest: str) -> bytes | None:
        try:
            store = open_payloads(where)
            try:
                return store.read(digest)
            finally:
                store.close()
        except KoaljaError:
            return None

    return compare(one, two, payload)
