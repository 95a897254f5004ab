"""`gc`: payloads that nobody needs any more are deleted; what is known of them stays."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import click

from koalja_fn.commands.asking import choose_folder, folder_option, none_left, opened
from koalja_fn.commands.shared import emit_json, output_option, reports_errors
from koalja_fn.engine.purging import GRACE, Freed, Purger, Round
from koalja_fn.errors import Busy, KoaljaError, UsageError
from koalja_fn.local.holding import hold
from koalja_fn.local.opening import Shared, Where, open_payloads, payloads_of, state_folder
from koalja_fn.model import Circuit
from koalja_fn.program.folder import open_circuit
from koalja_fn.story.words import plural, size
from koalja_fn.wiring.values import BadValue, read_duration


@click.command()
@reports_errors
@click.argument("words", nargs=-1, metavar="[DIR]")
@click.option("-n", "--dry-run", is_flag=True, help="Tell what would be freed; change nothing.")
@click.option(
    "--older-than",
    metavar="DURATION",
    help="In place of `keep`: what nobody has needed for so long, if it can be made again.",
)
@click.option(
    "--orphans",
    is_flag=True,
    help="Also what nothing names, in a store that several could share: only this registry may use it.",
)
@click.option("--wait", is_flag=True, help="While others are at work: wait until it is safe to delete.")
@folder_option
@output_option
def gc(
    words: tuple[str, ...],
    dry_run: bool,
    older_than: str | None,
    orphans: bool,
    wait: bool,
    folder: Path | None,
    output: str,
) -> None:
    """Delete payloads that no reader needs and whose time (`keep` in the wiring) is over.

    Values, snapshots and all else that is known stay. Where others are at work, payloads are marked first,
    and deleted two minutes later: by the next gc, by `run`, or by this one with --wait.

    \b
    Examples:
      koalja-fn gc --dry-run
      koalja-fn gc weather
      koalja-fn gc weather --older-than 30d -o json
    """
    where, rest = choose_folder(words, folder)
    none_left(rest)
    older = _microseconds(older_than)
    with _alone(where) as alone, opened(where) as registry, closing(open_payloads(where, registry)) as store:
        private = not isinstance(where, Shared) and payloads_of(state_folder(where)) is None
        named = folder or (Path(words[0]) if words else None)
        circuit = _wiring(named if isinstance(where, Shared) else where)
        purger = Purger(registry, store, grace=0.0 if alone else GRACE, beside=circuit)
        if dry_run:
            done = purger.look(older=older, orphans=orphans or private)
        else:
            done = purger.round(older=older, orphans=orphans or private)
            if wait and done.waiting:
                click.echo(f"{plural(done.waiting, 'payload')} marked; deleted in {GRACE:.0f} s", err=True)
                time.sleep(GRACE + 1)
                purger.delete(done, older=older)
    if output == "json":
        emit_json(_document(done, dry_run))
    else:
        _say(done, dry_run)


@contextmanager
def _alone(where: Where) -> Iterator[bool]:
    """Whether nobody else can write there as long as we are here."""
    if isinstance(where, Shared):
        yield False
        return
    try:
        held = hold(where)
        held.__enter__()
    except Busy:
        yield False
        return
    try:
        yield True
    finally:
        held.__exit__(None, None, None)


def _wiring(folder: Path | None) -> Circuit | None:
    """The circuit of a folder, as far as it can be read: `make` does not install it."""
    if folder is None:
        return None
    try:
        return open_circuit(folder).circuit
    except KoaljaError:
        return None


def _microseconds(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return round(read_duration(text) * 1e6)
    except BadValue as bad:
        raise UsageError(f"--older-than: {bad}", cure="such as 12h or 30d") from bad


def _document(done: Round, dry: bool) -> dict[str, Any]:
    return {
        "dryRun": dry,
        "wouldFree" if dry else "freed": _rows(done.marked if dry else done.freed),
        "spared": done.spared,
        "waiting": done.waiting,
    }


def _rows(freed: Mapping[tuple[str, str], Freed]) -> list[dict[str, Any]]:
    return [
        {"circuit": circuit or None, "wire": wire or None, "payloads": one.payloads, "bytes": one.bytes}
        for (circuit, wire), one in sorted(freed.items())
    ]


def _say(done: Round, dry: bool) -> None:
    freed = done.marked if dry else done.freed
    for (_, wire), one in sorted(freed.items()):
        name = wire or "(of no stream)"
        click.echo(f"{name:<24} {plural(one.payloads, 'payload'):>16} {size(one.bytes):>12}")
    total = sum(one.bytes for one in freed.values())
    count = plural(sum(one.payloads for one in freed.values()), "payload")
    click.echo(f"{count}, {size(total)}, would be freed" if dry else f"{count}, {size(total)}, freed")
    if done.waiting:
        click.echo(
            f"{plural(done.waiting, 'payload')} marked: deleted in {GRACE:.0f} s at the earliest", err=True
        )
