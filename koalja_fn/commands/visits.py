"""`visits`: the visitor log of a task."""

from __future__ import annotations

from pathlib import Path

import click

from koalja_fn.commands.asking import choose_folder, exactly_one, folder_option, last_option, opened
from koalja_fn.commands.shared import emit_json, output_option, reports_errors
from koalja_fn.story.visits import visits as visitor_log
from koalja_fn.story.visits import visits_text


@click.command()
@reports_errors
@click.argument("words", nargs=-1, required=True, metavar="[DIR] TASK")
@last_option(20)
@click.option("--anomalies", is_flag=True, help="Only visits with something unusual about them.")
@folder_option
@output_option
def visits(words: tuple[str, ...], last: int, anomalies: bool, folder: Path | None, output: str) -> None:
    """Tell who came through a task, when, and what was done.

    \b
    Examples:
      koalja-fn visits average
      koalja-fn visits weather average --last 100
      koalja-fn visits average --anomalies -o json
    """
    where, rest = choose_folder(words, folder, needed=1)
    task = exactly_one(rest, "TASK")
    with opened(where) as registry:
        told = registry.read(lambda tx: visitor_log(tx, task, last, anomalies=anomalies))
    if output == "json":
        emit_json(told.to_json())
    else:
        click.echo(visits_text(told))
