"""`trace`: the passport of a value, back to its sources or forward to all that it influenced."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from koalja_fn.commands.asking import choose_folder, exactly_one, folder_option, opened
from koalja_fn.commands.shared import emit_json, output_option, reports_errors
from koalja_fn.errors import NotFound
from koalja_fn.local.opening import Where, find_folder
from koalja_fn.registry import Transaction, stories
from koalja_fn.registry.ghosts import GhostRow
from koalja_fn.story import ghosts
from koalja_fn.story.backward import backward
from koalja_fn.story.finding import find, find_payload
from koalja_fn.story.forward import forward
from koalja_fn.story.ghosts import Walk
from koalja_fn.story.making import MadeStory, find_made, find_made_payload, made_text, story_of
from koalja_fn.story.passport import Limits, Passport
from koalja_fn.story.telling import passport_text
from koalja_fn.story.words import plural


@click.command()
@reports_errors
@click.argument("words", nargs=-1, required=True, metavar="[DIR] ID|FILE")
@click.option("--forward", "ahead", is_flag=True, help="Tell what it influenced, not where it came from.")
@click.option("--depth", type=click.IntRange(0), metavar="N", help="Go N snapshots far, no farther.")
@click.option("--full", is_flag=True, help="Tell every value of wide windows, however many.")
@folder_option
@output_option
def trace(
    words: tuple[str, ...], ahead: bool, depth: int | None, full: bool, folder: Path | None, output: str
) -> None:
    """Tell where a value came from: each stop with times, versions of code, attempts and remarks.

    ID is the id of a value or of a snapshot, or the first characters of one, at least four. FILE is a file
    with the content of a value: one in an out-tray, or a copy of it. Values that `koalja-fn make` made are
    found as well, and ghosts, which say that they are.

    \b
    Examples:
      koalja-fn trace 3fa9c2d1
      koalja-fn trace outbox/mean.json
      koalja-fn trace 3fa9c2d1 --forward --depth 2
      koalja-fn trace -C weather 3fa9 --full -o json
    """
    where, rest = _place(words, folder)
    word = exactly_one(rest, "ID or FILE")
    limits = Limits(depth=depth, wide=None, most=None) if full else Limits(depth=depth)
    with opened(where) as registry:
        ghost = registry.read(lambda tx: _ghost(tx, word))
        if ghost is not None:
            _tell_ghost(*ghost, ahead=ahead, output=output)
            return
        made = None if ahead else registry.read(lambda tx: _made(tx, word))
        if made is None:
            passport, others = registry.read(lambda tx: _passport(tx, word, ahead, limits))
    if made is not None:
        emit_json(made.to_json()) if output == "json" else click.echo(made_text(made))
        return
    if output == "json":
        emit_json(passport.to_json())
        return
    if others:
        click.echo(f"{plural(others, 'other value')} with the same content; this is the latest", err=True)
    click.echo(passport_text(passport))


def _ghost(tx: Transaction, word: str) -> tuple[Walk, GhostRow | None] | None:
    """The ghost, or the walk, of that id, where no value or snapshot has it."""
    if (
        Path(word).is_file()
        or stories.value_ids(tx, word.lower(), 1)
        or stories.snapshot_ids(tx, word.lower(), 1)
    ):
        return None
    return ghosts.find(tx, word)


def _tell_ghost(walk: Walk, ghost: GhostRow | None, *, ahead: bool, output: str) -> None:
    if output == "json":
        emit_json(ghosts.passport_json(walk, ghost, ahead=ahead) if ghost else walk.to_json())
    elif ghost is None:
        click.echo(ghosts.report(walk))
    else:
        click.echo("\n".join(ghosts.passport_lines(walk, ghost, ahead=ahead)))


def _place(words: tuple[str, ...], folder: Path | None) -> tuple[Where, list[str]]:
    """The circuit's folder and the other words: a file may tell the folder by where it lies."""
    word = Path(words[-1])
    if folder is None and len(words) == 1 and word.is_file():
        try:
            return find_folder(word), list(words)
        except NotFound:
            pass
    return choose_folder(words, folder, needed=1)


def _passport(tx: Transaction, word: str, ahead: bool, limits: Limits) -> tuple[Passport, int]:
    others = 0
    if Path(word).is_file():
        known = find_payload(tx, _digest(Path(word)))
        # Files of an out-tray may have the id in their names; contents alone may be several values'.
        named = [value.id for value in known if value.id in Path(word).name]
        start, others = (named or [known[0].id])[0], 0 if named else len(known) - 1
    else:
        start = find(tx, word).id
    told = (forward if ahead else backward)(tx, start, limits)
    if told is None:
        raise NotFound(f"nothing is known of {start}")
    return told, others


def _made(tx: Transaction, word: str) -> MadeStory | None:
    """The story of a value that `make` made, also where it was published."""
    if Path(word).is_file():
        digest = _digest(Path(word))
        value = None if stories.with_digest(tx, digest, 1) else find_made_payload(tx, digest)
    else:
        there = stories.value_ids(tx, word.lower(), 2)
        value = find_made(tx, word) if len(there) < 2 else None
        if there and value is not None and value.id != there[0]:
            value = None
    return story_of(tx, value) if value is not None else None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
