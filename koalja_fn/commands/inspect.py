"""`list` and `describe`: what there is, how far it has come, and all about one thing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from koalja_fn.commands.asking import (
    choose_folder,
    exactly_one,
    folder_option,
    last_option,
    opened,
    own_circuit,
)
from koalja_fn.commands.designs import design_of
from koalja_fn.commands.shared import emit_json, nearest, output_option, reports_errors
from koalja_fn.errors import NotFound, UsageError
from koalja_fn.registry import Transaction, ghosts, overview
from koalja_fn.story import listing
from koalja_fn.story.describing import describe as description
from koalja_fn.story.ghosts import GHOSTS_HEAD, ghost_json, ghosts_rows
from koalja_fn.story.overview import (
    TaskLine,
    WireLine,
    circuits,
    latest_snapshots,
    latest_values,
    purged,
    task_lines,
    wire_lines,
)
from koalja_fn.story.passport import formed_json, value_json
from koalja_fn.story.visits import find_task

L = TypeVar("L", TaskLine, WireLine)
_KINDS = ("circuits", "tasks", "wires", "values", "snapshots", "ghosts")


@click.command(name="list")
@reports_errors
@click.argument("words", nargs=-1, metavar="[DIR] [circuits|tasks|wires|values|snapshots|ghosts]")
@click.option("-w", "--wire", metavar="WIRE", help="Only the values of this wire.")
@click.option("-t", "--task", metavar="TASK", help="Only the snapshots of this task.")
@last_option(20)
@folder_option
@output_option
def list_(
    words: tuple[str, ...], wire: str | None, task: str | None, last: int, folder: Path | None, output: str
) -> None:
    """List what there is; without a kind, all tasks and wires with their counts.

    WAITING counts values that are in no snapshot yet, the other numbers are of snapshots. Ghosts are in none
    of these counts; `list ghosts` has those of the latest walks.

    \b
    Examples:
      koalja-fn list
      koalja-fn list weather values --wire mean --last 5
      koalja-fn list snapshots --task average -o json
    """
    where, rest = choose_folder(words, folder, known=_KINDS)
    kind = _kind(rest, wire, task)
    with opened(where) as registry:
        told, lines = registry.read(lambda tx: _list(tx, kind, wire, task, last))
    if output == "json":
        emit_json(told)
    else:
        click.echo("\n".join(lines))


@click.command()
@reports_errors
@click.argument("words", nargs=-1, required=True, metavar="[DIR] NAME|ID")
@folder_option
@output_option
def describe(words: tuple[str, ...], folder: Path | None, output: str) -> None:
    """Tell all about one task, wire, circuit, value or snapshot.

    NAME is that of a task, a wire or a circuit; ID is that of a value or a snapshot, or its first characters.

    \b
    Examples:
      koalja-fn describe average
      koalja-fn describe weather wind
      koalja-fn describe 3fa9c2d1 -o json
    """
    where, rest = choose_folder(words, folder, needed=1)
    word = exactly_one(rest, "NAME or ID")
    with opened(where) as registry:
        told = registry.read(lambda tx: description(tx, word, design_of))
    if output == "json":
        emit_json(told.to_json())
    else:
        click.echo("\n".join(told.lines))


def _kind(words: list[str], wire: str | None, task: str | None) -> str:
    """What is to be listed: as said, or as the options mean it."""
    if not words:
        return "values" if wire else "snapshots" if task else "overview"
    if words[0] not in _KINDS or len(words) > 1:
        guess = nearest(words[0], _KINDS) if words[0] not in _KINDS else None
        raise UsageError(
            f"can't list {' '.join(words)!r}",
            why=f"neither a folder nor one of {', '.join(_KINDS)}",
            cure=f"did you mean {guess!r}?" if guess else "",
        )
    return words[0]


def _list(
    tx: Transaction, kind: str, wire: str | None, task: str | None, last: int
) -> tuple[dict[str, Any], Iterator[str]]:
    """A list for programs, under the name of its kind, and its lines for people."""
    if kind == "circuits":
        rows = circuits(tx)
        return {kind: [row.to_json() for row in rows]}, listing.circuits_table(rows)
    if kind == "tasks":
        tasks = _own(task_lines(tx))
        return {kind: [line.to_json() for line in tasks]}, listing.tasks_table(tasks)
    if kind == "wires":
        wires = _own(wire_lines(tx, design_of))
        return {kind: [line.to_json() for line in wires]}, listing.wires_table(wires)
    if kind == "values":
        _check_wire(tx, wire)
        values = latest_values(tx, wire, last)
        gone = purged(tx, values)
        told_values = [{**value_json(value), "purged": value.digest in gone} for value in values]
        return {kind: told_values}, listing.values_table(values, gone)
    if kind == "snapshots":
        if task is not None:
            find_task(tx, task)
        formed = latest_snapshots(tx, task, last)
        return {kind: [formed_json(row) for row in formed]}, listing.snapshots_table(formed)
    if kind == "ghosts":
        some = ghosts.latest(tx, last)
        return {kind: [ghost_json(one) for one in some]}, listing.table(GHOSTS_HEAD, ghosts_rows(some))
    tasks, wires = _own(task_lines(tx)), _own(wire_lines(tx, design_of))
    told = {"tasks": [line.to_json() for line in tasks], "wires": [line.to_json() for line in wires]}
    return told, iter([*listing.tasks_table(tasks), "", *listing.wires_table(wires)])


def _own(lines: list[L]) -> list[L]:
    """In the console of a circuit, only that one's."""
    mine = own_circuit()
    return [line for line in lines if not mine or line.circuit == mine]


def _check_wire(tx: Transaction, name: str | None) -> None:
    names = [wire.name for circuit in overview.circuits(tx) for wire in overview.wires(tx, circuit.id)]
    if name is not None and name not in names:
        raise NotFound(f"no wire {name!r}", why=f"there are: {', '.join(names) or 'none'}")
