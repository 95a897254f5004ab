"""Model to text: the wiring of a circuit that no file says yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from koalja_fn.model import Circuit, Input, Policy, Task, Wire
from koalja_fn.wiring.attributes import TASK, WIRE, Attribute
from koalja_fn.wiring.syntax import Item, Kind, Line, Statement, Syntax, Word
from koalja_fn.wiring.values import quoted
from koalja_fn.wiring.writing import View, write_syntax


def compose(circuit: Circuit, view: View | None = None) -> str:
    """A text that `read` turns into this circuit. Attributes that have their defaults are left out."""
    statements = [Statement(Kind.HEADER, Word(circuit.name))]
    statements += [_task(task) for task in circuit.tasks]
    statements += [_wire(wire) for wire in circuit.wires.values() if _wire(wire).lines]
    if len(statements) > 1:
        statements[1].gap = True
    return write_syntax(Syntax(statements), view)


def _task(task: Task) -> Statement:
    merged = next((i for i in task.streams if not i.passive), None) if task.policy is Policy.MERGE else None
    group = None
    if merged is not None and not merged.buffer.plain:
        group = Item((), (Word(str(merged.buffer)),))
    lines = _lines(TASK, task, Task(task.name))
    lines += [Line(Word(f"env.{name}"), Word(quoted(value))) for name, value in task.env]
    inputs = tuple(_input(i, bare=group is not None and not i.passive) for i in task.inputs)
    outputs = tuple(Item((Word(o.wire),), (Word("implicit"),) if o.implicit else ()) for o in task.outputs)
    return Statement(Kind.TRIPLE, Word(task.name), inputs, outputs, group, lines)


def _input(given: Input, *, bare: bool) -> Item:
    words = [w for w in ("ordered", "passive", "implicit") if getattr(given, w)]
    buffer = [str(given.buffer)] if not (bare or given.buffer.plain) else []
    alias = (Word(given.name),) if given.name != given.wires[0] else ()
    return Item(tuple(Word(w) for w in given.wires), tuple(Word(m) for m in buffer + words), alias)


def _wire(wire: Wire) -> Statement:
    return Statement(Kind.WIRE, Word(wire.name), lines=_lines(WIRE, wire, Wire(wire.name)))


def _lines(known: Mapping[str, Attribute], what: Any, plain: Any) -> list[Line]:
    """The attributes of a task or wire that differ from those of a plain one."""
    differing = [
        (key, attribute, value)
        for key, attribute in known.items()
        if (value := getattr(what, attribute.field)) != getattr(plain, attribute.field)
    ]
    return [Line(Word(key), Word(attribute.write(value))) for key, attribute, value in differing]
