"""The attribute lines of one statement: which are known, and what their values are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from koalja_fn.wiring.attributes import ENV, TASK, Attribute, cure_for_unknown, read_env
from koalja_fn.wiring.findings import Notebook
from koalja_fn.wiring.syntax import Kind, Line, Statement
from koalja_fn.wiring.values import BadValue


@dataclass(slots=True)
class Attributes:
    """The attributes of one statement: values by the model's field, environment, lines by key."""

    values: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    lines: dict[str, Line] = field(default_factory=dict)


def read_lines(
    statement: Statement,
    known: dict[str, Attribute],
    others: dict[str, Attribute],
    elsewhere: str,
    notebook: Notebook,
) -> Attributes:
    """Read a statement's lines; `others` are attributes that exist, but belong `elsewhere`."""
    found = Attributes()
    for line in statement.lines:
        _layout(statement, line, notebook)
        key = line.key.text
        if key in found.lines:
            what = "a command line" if line.command else f"`{key}`"
            before = found.lines[key].key.line
            notebook.error(
                "twice", f"{what} is already there in line {before}", line.key, "drop one of the two"
            )
            continue
        found.lines[key] = line
        is_name = key == "task" and statement.kind is Kind.RULE
        if key not in known and not is_name and not (known is TASK and ENV.fullmatch(key)):
            cure = cure_for_unknown(key, known, others, elsewhere)
            notebook.error("unknown-attribute", f"there is no attribute `{key}` here", line.key, cure)
            continue
        try:
            _value(key, line.value.text, known, found)
        except BadValue as bad:
            notebook.error("bad-value", f"{key}: {bad.message}", line.value, bad.cure)
    return found


def _value(key: str, text: str, known: dict[str, Attribute], found: Attributes) -> None:
    if key in known:
        found.values[known[key].field] = known[key].read(text)
    elif variable := ENV.fullmatch(key):
        name, value = read_env(variable[1], text)
        found.env[name] = value


def _layout(statement: Statement, line: Line, notebook: Notebook) -> None:
    if line.key.column == 1 or line.key.line == statement.last_line:
        notebook.error(
            "layout",
            f"`{line.key.text}` must stand on an indented line of its own",
            line.key,
            "indent it; koalja-fn fmt does",
        )
