"""`log`: what happened in a circuit, in order of time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import click

from koalja_fn.commands.asking import choose_folder, folder_option, last_option, none_left, opened
from koalja_fn.commands.shared import emit_json, output_option, reports_errors
from koalja_fn.registry import Registry, Transaction
from koalja_fn.story.log import Entry, Marks, latest, marks, since
from koalja_fn.story.visits import find_task

_PAUSE = 0.3


@click.command()
@reports_errors
@click.argument("words", nargs=-1, metavar="[DIR]")
@click.option("-t", "--task", metavar="TASK", help="Only this task and the wires that it reads.")
@last_option(50)
@click.option("-f", "--follow", is_flag=True, help="Go on as things happen, until ^C; JSON line by line.")
@folder_option
@output_option
def log(
    words: tuple[str, ...], task: str | None, last: int, follow: bool, folder: Path | None, output: str
) -> None:
    """Tell what happened: arrivals, snapshots and why they formed, executions, failures, rewirings, remarks.

    \b
    Examples:
      koalja-fn log
      koalja-fn log weather --task average --last 200
      koalja-fn log -f
    """
    where, rest = choose_folder(words, folder)
    none_left(rest)
    with opened(where) as registry:
        entries, end = registry.read(lambda tx: (_begin(tx, last, task), marks(tx)))
        if not follow and output == "json":
            emit_json([entry.to_json() for entry in entries])
            return
        _show(entries, output)
        if follow:
            _follow(registry, end, task, output)


def _begin(tx: Transaction, last: int, task: str | None) -> list[Entry]:
    if task is not None:
        find_task(tx, task)
    return latest(tx, last, task)


def _follow(registry: Registry, end: Marks, task: str | None, output: str) -> None:
    seen = -1
    while True:
        version = registry.changed_elsewhere()
        if version == seen:
            time.sleep(_PAUSE)
            continue
        before = end
        entries, end = registry.read(partial(since, before=before, task=task))
        _show(entries, output)
        # All was told only when nothing more is found.
        seen = version if end == before else -1


def _show(entries: Iterable[Entry], output: str) -> None:
    for entry in entries:
        text = json.dumps(entry.to_json(), ensure_ascii=False) if output == "json" else entry.line()
        click.echo(text)
