"""`koalja-fn simulate`: which snapshots a task would form, before any code exists."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from koalja_fn.commands.shared import emit_json, nearest, output_option, reports_errors
from koalja_fn.errors import NotFound, UsageError, WiringError

if TYPE_CHECKING:
    from koalja_fn.model import Circuit, Task
    from koalja_fn.snapshots import Spec
    from koalja_fn.snapshots.simulation import Step, Token

_DRAWN = 200  # a longer list of arrivals is not drawn
_WIDTH = 96


@click.command()
@reports_errors
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-t", "--task", help="Which task; may be left out where there is only one.")
@click.option("-a", "--arrive", required=True, help="What arrives, in order: wires, and what is said below.")
@output_option
def simulate(file: Path, task: str | None, arrive: str, output: str) -> None:
    """Show which snapshots a task of FILE would form if values arrived so.

    FILE is a .koalja file or a folder with one. The task needs no code. A word in the list is

    \b
      a            a value on wire a
      a*3          three of them
      a:key=k1     one with that key, and :index=N, for policy align
      a:seq=3      one with that sequence number, and :source=S, for ordered inputs
      +5s          five seconds pass
      busy, free   the task is at work from here on, or has nothing to do again

    \b
    Examples:
      koalja-fn simulate weather.koalja --task average --arrive "wind wind temp wind"
      koalja-fn simulate . -t average -a "wind*12 temp" -o json
    """
    from koalja_fn.snapshots import simulation, spec_of

    chosen = _task(_circuit(file), task)
    spec = spec_of(chosen)
    tokens = simulation.read_tokens(arrive, spec)
    steps = list(simulation.simulate(spec, tokens))
    found = simulation.document(spec, steps)
    if output == "json":
        emit_json(found)
        return
    click.echo(f"{chosen.name}: {_described(spec)}")
    if len(tokens) <= _DRAWN:
        click.echo("\n".join(["", *_picture(spec, tokens, steps)]))
    click.echo("\n".join(["", *_table(found)]))


def _circuit(path: Path) -> Circuit:
    from koalja_fn.wiring import has_errors, read, render

    file = _wiring_file(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} can't be read.", why=str(error)) from error
    reading = read(text, file=str(file), default_name=file.absolute().parent.name or file.stem)
    if reading.circuit is None:
        assert has_errors(reading.findings), "no circuit without an error"
        raise WiringError("\n".join(render(f) for f in reading.findings if f.severity == "error"))
    return reading.circuit


def _wiring_file(path: Path) -> Path:
    if not path.exists():
        raise NotFound(f"There is no {path}.", cure="name a .koalja file or a folder with one")
    if not path.is_dir():
        return path
    files = sorted(file for file in path.glob("*.koalja") if file.is_file())
    if len(files) != 1:
        there = ", ".join(f.name for f in files) or "none"
        raise UsageError(
            f"{path} has not one .koalja file.", why=f"there: {there}", cure="name the file itself"
        )
    return files[0]


def _task(circuit: Circuit, name: str | None) -> Task:
    names = [t.name for t in circuit.tasks if t.streams]
    if name is None:
        if len(names) == 1:
            name = names[0]
        else:
            raise UsageError("Which task is meant?", cure=f"--task with one of: {', '.join(names) or 'none'}")
    task = circuit.task(name)
    if task is None:
        guess = nearest(name, names)
        cure = f"did you mean '{guess}'?" if guess else f"one of: {', '.join(names)}"
        raise NotFound(f"There is no task '{name}' in {circuit.name}.", cure=cure)
    if not task.streams:
        raise UsageError(f"Task '{name}' has no inputs that carry values.", cure="name another task")
    return task


def _described(spec: Spec) -> str:
    """The inputs and the policy as the core sees them, in one line."""
    from koalja_fn.model import Buffer

    inputs = []
    for i in spec.inputs:
        wires = i.wires[0] if len(i.wires) == 1 else f"({' + '.join(i.wires)})"
        words = f"{' ordered' * i.ordered}{' passive' * i.passive}"
        alias = f" as {i.name}" if i.name != i.wires[0] else ""
        inputs.append(f"{wires}{Buffer(i.least, i.most, i.slide)}{words}{alias}")
    limits = [
        f"{word} {_seconds(µs)}" for word, µs in (("one each", spec.interval), ("within", spec.within)) if µs
    ]
    return ", ".join([f"({', '.join(inputs)})", spec.policy, *limits])


def _seconds(µs: int) -> str:
    return f"{µs / 1_000_000:g}s"


def _picture(spec: Spec, tokens: list[Token], steps: list[Step]) -> Iterator[str]:
    """A row for each wire with its values' numbers, and below in which snapshots they resulted."""
    from koalja_fn.snapshots import Formed

    rows: dict[str, list[str]] = {wire: [] for wire in spec.wires}
    extra: list[str] = []
    formed: list[str] = []
    counts = dict.fromkeys(spec.wires, 0)
    number = 0
    by_token = {n: list(some) for n, some in groupby(steps, key=lambda step: step.token)}
    for n, token in enumerate(tokens):
        if token.wire:
            counts[token.wire] += 1
        for wire, row in rows.items():
            row.append(str(counts[wire]) if wire == token.wire else "")
        extra.append("" if token.wire else token.text)
        new = sum(isinstance(o, Formed) for step in by_token.get(n, ()) for o in step.outcomes)
        formed.append(_numbers(list(range(number + 1, number + new + 1)), "#"))
        number += new
    lines = {**rows, **({"": extra} if any(extra) else {}), "snapshot": formed}
    yield from _columns(lines)


def _columns(lines: dict[str, list[str]]) -> Iterator[str]:
    """Rows below one another in columns as wide as they need, wrapped."""
    margin = max(len(name) for name in lines) + 4
    cells = list(zip(*lines.values(), strict=True))
    widths = [max(1, *(len(cell) for cell in column)) + 2 for column in cells]
    start = 0
    while start < len(cells):
        end, room = start, _WIDTH - margin
        while end < len(cells) and (end == start or room >= widths[end]):
            room -= widths[end]
            end += 1
        if start:
            yield ""
        for name, row in lines.items():
            drawn = "".join(row[c].rjust(widths[c]) for c in range(start, end))
            yield f"  {name:<{margin - 4}}{drawn}".rstrip()
        start = end


def _table(found: dict[str, Any]) -> Iterator[str]:
    """Snapshots, one in a line, and below what became of other values."""
    snapshots = found["snapshots"]
    if not snapshots:
        yield "no snapshot forms"
    else:
        wires = list(dict.fromkeys(wire for s in snapshots for wire in s["inputs"]))
        head = ["snapshot", "at", *wires]
        body = [
            [f"#{n}", str(s["at"]), *(_numbers(s["inputs"].get(wire, [])) for wire in wires)]
            + [f"{name}: {_order(order)}" for name, order in s.get("merged", {}).items()]
            for n, s in enumerate(snapshots, 1)
        ]
        yield from _rows([head, *body])
    for word in ("superseded", "unmatched"):
        for entry in found.get(word, ()):
            what = ", ".join(f"{wire} {_numbers(numbers)}" for wire, numbers in entry["inputs"].items())
            reason = f" ({entry['reason']})" if "reason" in entry else ""
            yield f"{word} at {entry['at']}: {what}{reason}"
    for entry in found.get("skipped", ()):
        whose = f" of {entry['source']}" if entry["source"] else ""
        yield f"skipped at {entry['at']}: the sequence{whose} jumps from {entry['after']} to {entry['until']}"


def _rows(rows: list[list[str]]) -> Iterator[str]:
    widths = [max((len(row[c]) for row in rows if c < len(row)), default=0) for c in range(len(rows[0]))]
    for row in rows:
        padded = [cell.ljust(widths[c]) if c < len(widths) else cell for c, cell in enumerate(row)]
        yield "  ".join(padded).rstrip()


def _order(members: list[list[Any]]) -> str:
    return " ".join(f"{wire}{number}" for wire, number in members)


def _numbers(numbers: list[int], mark: str = "") -> str:
    """`1-4` for neighbours in order, else the numbers one by one."""
    if len(numbers) > 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return f"{mark}{numbers[0]}-{numbers[-1]}"
    return " ".join(f"{mark}{number}" for number in numbers)
