"""`get`: the payload of a value, made again from its recipe where it was purged."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import click

from koalja_fn.commands.asking import choose_folder, exactly_one, folder_option, opened
from koalja_fn.commands.shared import reports_errors
from koalja_fn.errors import StoreError, UsageError
from koalja_fn.local.fetching import payload
from koalja_fn.local.opening import open_payloads
from koalja_fn.model import AnnotatedValue
from koalja_fn.registry import Transaction, stories, values
from koalja_fn.story.finding import find
from koalja_fn.story.making import find_made


@click.command()
@reports_errors
@click.argument("words", nargs=-1, metavar="[DIR] ID", required=True)
@click.option(
    "--to",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write it there instead of to standard output.",
)
@folder_option
def get(words: tuple[str, ...], target: Path | None, folder: Path | None) -> None:
    """Print the payload of a value.

    ID is the value's, or its first characters. A payload that was purged is made again: by the same version
    of the code from the same inputs, which are made again in turn. If that version is not here any more, or
    other bytes come out, it is said, and nothing is printed.

    \b
    Examples:
      koalja-fn get 3fa9c2d1
      koalja-fn get weather 3fa9c2d1 --to mean.json

    \b
    Exit status: 0 fine; 7 no such value; 8 it is purged and can't be made again, or disk trouble.
    """
    where, rest = choose_folder(words, folder, needed=1)
    word = exactly_one(rest, "ID")
    with opened(where) as registry, closing(open_payloads(where, registry)) as store:
        value = registry.read(lambda tx: _value(tx, word))
        with payload(where, registry, store, value) as source:
            if target is None:
                shutil.copyfileobj(source, sys.stdout.buffer)
                sys.stdout.buffer.flush()
            else:
                _write(source, target)


def _value(tx: Transaction, word: str) -> AnnotatedValue:
    if not stories.value_ids(tx, word.lower(), 1):
        made = find_made(tx, word)
        if made is not None:
            return made
    found = find(tx, word)
    value = values.by_id(tx, found.id) if found.kind == "value" else None
    if value is None:
        raise UsageError(
            f"{word} is a snapshot, which has no payload", cure=f"koalja-fn trace {word} --forward"
        )
    return value


def _write(source: BinaryIO, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with temporary.open("xb") as file:
            shutil.copyfileobj(source, file)
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StoreError(f"{target} can't be written", why=error.strerror or str(error)) from error
