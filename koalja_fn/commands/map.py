"""`map`: the concept map of a circuit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from koalja_fn.commands.asking import choose_folder, folder_option, opened, own_circuit
from koalja_fn.commands.designs import design_of
from koalja_fn.commands.shared import emit_json, nearest, reports_errors
from koalja_fn.errors import NotFound, UsageError
from koalja_fn.registry import Transaction, overview
from koalja_fn.registry.overview import CircuitRow
from koalja_fn.story.concept_map import ConceptMap, concept_map
from koalja_fn.story.map_text import map_dot, map_text


@click.command()
@reports_errors
@click.argument("words", nargs=-1, metavar="[DIR] [CIRCUIT]")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "dot", "json"]),
    default="text",
    show_default=True,
    help="For people, for graphviz, or for programs.",
)
@folder_option
def map(words: tuple[str, ...], output: str, folder: Path | None) -> None:  # noqa: A001 - the verb
    """Draw the circuit: tasks and wires, what they promise, what usually happens, what was odd.

    \b
    Examples:
      koalja-fn map
      koalja-fn map weather -o dot | dot -Tsvg > weather.svg
      koalja-fn map -C weather -o json
    """
    where, rest = choose_folder(words, folder)
    with opened(where) as registry:
        told = registry.read(lambda tx: _map(tx, rest))
    if output == "json":
        emit_json(told.to_json())
    else:
        click.echo(map_dot(told) if output == "dot" else map_text(told))


def _map(tx: Transaction, words: Sequence[str]) -> ConceptMap:
    circuit = _choose(overview.circuits(tx), words)
    return concept_map(tx, circuit, design_of(circuit))


def _choose(circuits: list[CircuitRow], words: Sequence[str]) -> CircuitRow:
    """The circuit of that name; without a name the only one, or the console's, or the one wired up last."""
    if len(words) > 1:
        raise UsageError(f"unexpected {' '.join(words[1:])!r}", cure="see --help")
    if not words:
        if not circuits:
            raise NotFound("no circuit was wired up here", cure="koalja-fn run")
        return max(circuits, key=lambda circuit: (circuit.name == own_circuit(), circuit.created))
    named = next((circuit for circuit in circuits if circuit.name == words[0]), None)
    if named is None:
        guess = nearest(words[0], [circuit.name for circuit in circuits])
        raise NotFound(
            f"no circuit {words[0]!r}",
            why=f"there are: {', '.join(circuit.name for circuit in circuits) or 'none'}",
            cure=f"did you mean {guess!r}?" if guess else "",
        )
    return named
