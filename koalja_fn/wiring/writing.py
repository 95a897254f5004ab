"""Concrete syntax to text: the regular form of a file, in either view.

Writing what was read changes no meaning and loses no comment, and writing it again changes nothing.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Literal

from koalja_fn.errors import WiringError
from koalja_fn.wiring.findings import Finding, Notebook, render
from koalja_fn.wiring.names import RESERVED
from koalja_fn.wiring.syntax import (
    ATTRIBUTE_LIKE,
    Item,
    Kind,
    Line,
    Statement,
    Syntax,
    Word,
    rule_name,
    split_comment,
)

View = Literal["triples", "make"]
_INDENT = "    "


class SyntaxErrors(WiringError):
    """A text that can't be written anew, since parts of it can't be read."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__("\n".join(render(f) for f in findings))
        self.findings = findings


def write(text: str, view: View | None = None, *, file: str = "") -> str:
    """The regular form of a file; every task in one view if `view` says so, else each in its own.

    Raises:
        SyntaxErrors: The text does not follow the grammar.
    """
    from koalja_fn.wiring.parsing import lines_of, parse

    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    notebook = Notebook(file, lines_of(text))
    syntax = parse(text, notebook)
    if notebook.findings:
        raise SyntaxErrors(notebook.sorted())
    return write_syntax(syntax, view)


def write_syntax(syntax: Syntax, view: View | None = None) -> str:
    """The text of a concrete syntax tree."""
    parts: list[str] = []
    previous: Statement | None = None
    for statement in syntax.statements:
        written = _in_view(statement, view)
        if previous is not None and (_large(previous) or _large(written) or statement.gap):
            parts.append("")
        parts += _statement(written)
        previous = written
    if syntax.tail:
        if parts:
            parts.append("")
        parts += syntax.tail
    return "\n".join(parts) + "\n" if parts else ""


def _large(statement: Statement) -> bool:
    return bool(statement.lines or statement.below)


def _statement(statement: Statement) -> list[str]:
    head = {Kind.HEADER: _header, Kind.WIRE: _wire, Kind.TRIPLE: _triple, Kind.RULE: _rule}[statement.kind]
    width = max((len(line.key.text) for line in statement.lines if not line.command), default=0)
    parts = [*statement.above, _with_comment(head(statement), statement.comment)]
    for line in statement.lines:
        parts += [_INDENT + comment for comment in line.above if comment]
        parts.append(_INDENT + _line(line, width))
    return parts + [_INDENT + comment for comment in statement.below]


def _with_comment(text: str, comment: str) -> str:
    return f"{text}  {comment}" if comment else text


def _line(line: Line, width: int) -> str:
    value = line.value.text
    if line.command:
        return _with_comment(value, line.comment)
    # `#` right after a blank would start a comment
    equals = f"{line.key.text:<{width}} =" + ("" if value.startswith("#") or not value else " ")
    return _with_comment(equals + value, line.comment)


def _header(statement: Statement) -> str:
    return f"[{_name(statement)}]"


def _wire(statement: Statement) -> str:
    return f"wire {_name(statement)}"


def _name(statement: Statement) -> str:
    assert statement.name is not None
    return statement.name.text


def _triple(statement: Statement) -> str:
    inputs = ", ".join(_item(item) for item in statement.inputs)
    outputs = ", ".join(_item(item) for item in statement.outputs)
    suffix = _suffix(statement.group) if statement.group else ""
    return f"({inputs}){suffix} {_name(statement)} ({outputs})"


def _rule(statement: Statement) -> str:
    outputs = " ".join(_item(item) for item in statement.outputs)
    if statement.group is not None:
        inputs = f"({', '.join(_item(item) for item in statement.inputs)}){_suffix(statement.group)}"
    else:
        inputs = " ".join(_item(item, close=True) for item in statement.inputs)
    return f"{outputs}: {inputs}".rstrip()


def _item(item: Item, *, close: bool = False) -> str:
    """An input or output; `close` puts brackets around a sum, for where blanks separate."""
    if item.members:
        return f"({', '.join(_item(member) for member in item.members)}){_suffix(item)}"
    wires = " + ".join(w.text for w in item.wires)
    suffix = _suffix(item)
    if len(item.wires) > 1 and (close or suffix):
        wires = f"({wires})"
    return wires + suffix


def _suffix(item: Item) -> str:
    buffers = "".join(re.sub(r"\s+", "", b.text) for b in item.buffers)
    aliases = "".join(f" as {a.text}" for a in item.aliases)
    return buffers + aliases + "".join(f" {w.text}" for w in item.words)


# From one view to the other


def _in_view(statement: Statement, view: View | None) -> Statement:
    if view == "make" and statement.kind is Kind.TRIPLE:
        return _as_rule(statement)
    if view == "triples" and statement.kind is Kind.RULE:
        return _as_triple(statement)
    return statement


def _as_rule(statement: Statement) -> Statement:
    """The same task as a rule; as it is if a rule can't say what it says."""
    assert statement.name is not None
    if any(item.members for item in statement.outputs) or statement.line("task") is not None:
        return statement
    rule = replace(statement, kind=Kind.RULE, name=None, lines=_command_first(statement.lines), group=None)
    group = statement.group
    if group is not None and group.marks + group.aliases:
        if len(statement.inputs) == 1 and not (
            _is_marked(statement.inputs[0]) or statement.inputs[0].members
        ):
            rule.inputs = (Item(statement.inputs[0].wires, group.marks, group.aliases),)
        elif not statement.inputs or any(item.members for item in statement.inputs):
            return statement
        else:
            rule.group = group
    elif len(statement.inputs) == 1 and statement.inputs[0].members:
        return statement
    if rule_name(rule) != statement.name.text:
        name = Line(Word("task"), Word(statement.name.text))
        after = 1 if rule.lines and rule.lines[0].command else 0
        rule.lines = [*rule.lines[:after], name, *rule.lines[after:]]
    return rule


def _is_marked(item: Item) -> bool:
    return bool(item.marks or item.aliases)


def _command_first(lines: list[Line]) -> list[Line]:
    run = next((line for line in lines if line.key.text == "run"), None)
    if run is None or not _can_be_command(run.value.text):
        return list(lines)
    return [replace(run, command=True), *(line for line in lines if line is not run)]


def _can_be_command(value: str) -> bool:
    if not value or value[0] in "(#" or ATTRIBUTE_LIKE.match(value) or value.split()[0].endswith(":"):
        return False
    return split_comment(_INDENT + value)[1] == ""


def _as_triple(statement: Statement) -> Statement:
    """The same task as a triple; as it is if it has no name that could stand there."""
    named = statement.line("task")
    name = named.value.text if named is not None else rule_name(statement)
    if not name or name in RESERVED or not re.fullmatch(r"\w[\w.-]*", name):
        return statement
    lines = [replace(line, command=False) for line in statement.lines if line is not named]
    above = list(statement.above)
    if named is not None:
        above += [comment for comment in (*named.above, named.comment) if comment]
    return replace(statement, kind=Kind.TRIPLE, name=Word(name), lines=lines, above=above)
