"""`failures`, `retry`, `skip`: dead letters and refused events, and what to do about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from koalja_fn.commands.asking import choose_folder, folder_option, last_option, none_left, opened
from koalja_fn.commands.shared import emit_json, output_option, reports_errors
from koalja_fn.engine import letters
from koalja_fn.errors import NotFound, UsageError
from koalja_fn.local.ringing import ring
from koalja_fn.registry import Registry, Transaction, stories
from koalja_fn.registry.rows import FormedRow
from koalja_fn.story.failures import Failures, Letter, dead_rids
from koalja_fn.story.failures import failures as all_failures
from koalja_fn.story.finding import find
from koalja_fn.story.telling import outcome, window_texts
from koalja_fn.story.visits import find_task
from koalja_fn.story.words import local, plural, short

_TAIL = 10


@click.command()
@reports_errors
@click.argument("words", nargs=-1, metavar="[DIR]")
@click.option("-t", "--task", metavar="TASK", help="Only this task's.")
@last_option(50)
@folder_option
@output_option
def failures(words: tuple[str, ...], task: str | None, last: int, folder: Path | None, output: str) -> None:
    """List dead letters (what a program failed with, for good) and events that were refused.

    \b
    Examples:
      koalja-fn failures
      koalja-fn failures weather --task average
      koalja-fn failures -o json
    """
    where, rest = choose_folder(words, folder)
    none_left(rest)
    with opened(where) as registry:
        told = registry.read(lambda tx: _failures(tx, task, last))
    if output == "json":
        emit_json(told.to_json())
    else:
        click.echo("\n".join(_lines(told)))


@click.command()
@reports_errors
@click.argument("words", nargs=-1, metavar="[DIR] [ID]...")
@click.option("-t", "--task", metavar="TASK", help="All dead letters of this task.")
@click.option("--all", "every", is_flag=True, help="All dead letters.")
@folder_option
@output_option
def retry(words: tuple[str, ...], task: str | None, every: bool, folder: Path | None, output: str) -> None:
    """Run dead letters again: each is ready at once and has all its attempts before it.

    ID is that of a dead letter's snapshot, or its first characters. What was tried stays on record.

    \b
    Examples:
      koalja-fn retry 5a340410
      koalja-fn retry --task average
      koalja-fn retry weather --all
    """
    where, rest = choose_folder(words, folder)
    with opened(where) as registry:
        rids = registry.read(lambda tx: _wanted(tx, rest, task, every))
        done = registry.transact(lambda tx: letters.retry(tx, registry.clock(), rids))
        _report(registry, done, output, "retried", "to be run again")
    ring(where)


@click.command()
@reports_errors
@click.argument("words", nargs=-1, metavar="[DIR] [ID]...")
@click.option("-t", "--task", metavar="TASK", help="All dead letters of this task.")
@click.option("--all", "every", is_flag=True, help="All dead letters.")
@click.option(
    "--reason", default="by hand", show_default=True, metavar="TEXT", help="Why; it goes on record."
)
@folder_option
@output_option
def skip(
    words: tuple[str, ...], task: str | None, every: bool, reason: str, folder: Path | None, output: str
) -> None:
    """Give dead letters up, on record: they are not run again, and a strict task goes on.

    \b
    Examples:
      koalja-fn skip 5a340410 --reason "the sensor was broken"
      koalja-fn skip --task average
    """
    where, rest = choose_folder(words, folder)
    with opened(where) as registry:
        rids = registry.read(lambda tx: _wanted(tx, rest, task, every))
        done = registry.transact(lambda tx: letters.skip(tx, registry.clock(), rids, reason))
        _report(registry, done, output, "skipped", "given up")
    ring(where)


def _failures(tx: Transaction, task: str | None, last: int) -> Failures:
    if task is not None:
        find_task(tx, task)
    return all_failures(tx, task, last)


def _wanted(tx: Transaction, words: Sequence[str], task: str | None, every: bool) -> list[int]:
    """Rows of the dead letters that are meant.

    Raises:
        UsageError: None is named, or a named one is no dead letter.
        NotFound: There is no such snapshot or task.
    """
    if sum((bool(words), task is not None, every)) != 1:
        raise UsageError("say which: ID..., --task TASK or --all", cure="koalja-fn failures lists them")
    if not words:
        if task is not None:
            find_task(tx, task)
        return dead_rids(tx, task)
    return [_dead(tx, word).rid for word in words]


def _dead(tx: Transaction, word: str) -> FormedRow:
    found = find(tx, word)
    formed = stories.formed_by_id(tx, found.id) if found.kind == "snapshot" else None
    if formed is None:
        raise NotFound(f"{word} is no snapshot", cure="koalja-fn failures lists the dead letters")
    if formed.state != "dead":
        raise UsageError(
            f"{formed.name}, snapshot {formed.number + 1} ({short(formed.id)}), is no dead letter",
            why=f"it is {formed.state}",
            cure="koalja-fn failures lists the dead letters",
        )
    return formed


def _report(registry: Registry, rids: list[int], output: str, verb: str, words: str) -> None:
    if output == "json":
        rows = registry.read(lambda tx: [row for rid in rids if (row := stories.formed(tx, rid))])
        told = [{"snapshot": row.id, "task": row.name, "number": row.number + 1} for row in rows]
        emit_json({verb: told})
    else:
        click.echo(f"{plural(len(rids), 'dead letter')} {words}")


def _lines(told: Failures) -> Iterator[str]:
    if not told.letters and not told.refusals:
        yield "no dead letters, no refused events"
    for letter in told.letters:
        yield from _letter(letter)
    if told.more:
        yield f"and {plural(told.more, 'more dead letter')}; --last tells more"
    for refusal in told.refusals:
        event = f"event {refusal.event_id!r} of {refusal.event_source!r}"
        yield f"{local(refusal.at)} | {refusal.wire}: {event} refused"
        yield f"    why: {refusal.reason}"


def _letter(letter: Letter) -> Iterator[str]:
    visit = letter.visit
    formed = visit.formed
    when = local(formed.finished or formed.formed)
    yield f"{when} | {formed.name}, snapshot {formed.number + 1} ({short(formed.id)})"
    yield from (f"    {text}" for window in visit.windows for text in window_texts(window))
    if visit.attempts:
        last = visit.attempts[-1]
        yield f"    {plural(len(visit.attempts), 'attempt')}; the last one: {outcome(last)}"
        yield from (f"    | {line}" for line in last.stderr.rstrip().splitlines()[-_TAIL:])
    yield f"    try: {letter.cure}"
