"""`why`: why a value or a snapshot exists, or was made again."""

from __future__ import annotations

from pathlib import Path

import click

from koalja_fn.commands.asking import choose_folder, exactly_one, folder_option, opened
from koalja_fn.commands.shared import emit_json, output_option, reports_errors
from koalja_fn.registry import Transaction
from koalja_fn.story.comparing import Reason, reason_of, reason_text
from koalja_fn.story.finding import find_any


@click.command()
@reports_errors
@click.argument("words", nargs=-1, required=True, metavar="[DIR] ID")
@folder_option
@output_option
def why(words: tuple[str, ...], folder: Path | None, output: str) -> None:
    """Tell why a value or a snapshot exists: what formed it, and what differs from the visit before.

    What differs is an input, the version of the code, its run line, what it was told on the side. What a
    recompute made is compared with what was in its place, what `make` made with the execution before it.

    \b
    Examples:
      koalja-fn why 3fa9c2d1
      koalja-fn why -C weather 3fa9 -o json
    """
    where, rest = choose_folder(words, folder, needed=1)
    word = exactly_one(rest, "ID")

    def look(tx: Transaction) -> Reason:
        found = find_any(tx, word)
        return reason_of(tx, found.kind, found.id)

    with opened(where) as registry:
        told = registry.read(look)
    if output == "json":
        emit_json(told.to_json())
    else:
        click.echo("\n".join(reason_text(told)))
