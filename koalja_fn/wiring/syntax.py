"""The concrete syntax: what a wiring file says, as it is written, with places and comments.

Both views of a circuit have the same tree, so that writing one as the other is a matter of the
writer alone. Knows nothing of what names and values mean.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

ATTRIBUTE_LIKE = re.compile(r"[^\W\d][\w.-]*[ \t]*=")


class Word(NamedTuple):
    """A piece of text and where it stands; lines and columns count from 1."""

    text: str
    line: int = 0
    column: int = 0


NOTHING = Word("")


class Item(NamedTuple):
    """An input or an output as it is written.

    `marks` are buffers (`[10/2]`) and reserved words in their order, `aliases` the names after `as`.
    Wires joined by `+` are one item. `members` is only there for a bracket of several items.
    """

    wires: tuple[Word, ...]
    marks: tuple[Word, ...] = ()
    aliases: tuple[Word, ...] = ()
    members: tuple[Item, ...] = ()

    @property
    def buffers(self) -> tuple[Word, ...]:
        """The marks in square brackets."""
        return tuple(m for m in self.marks if m.text[0] == "[")

    @property
    def words(self) -> tuple[Word, ...]:
        """The reserved words."""
        return tuple(m for m in self.marks if m.text[0] != "[")


class Kind(StrEnum):
    """What a statement is; a rule is a task in the make view."""

    HEADER = "header"
    TRIPLE = "triple"
    RULE = "rule"
    WIRE = "wire"


@dataclass(slots=True)
class Line:
    """An attribute line, or the command line of a rule (which is its `run` attribute)."""

    key: Word
    value: Word
    comment: str = ""
    command: bool = False
    above: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Statement:
    """A statement with its lines and comments.

    `name` is None for a rule: see `naming`. `group` is what stands after the inputs' bracket.
    `above`, `comment` and `below` are the comments before it, at its head, and after its last line;
    an empty string among them is an empty line. `gap` says that an empty line stood before it.
    """

    kind: Kind
    name: Word | None
    inputs: tuple[Item, ...] = ()
    outputs: tuple[Item, ...] = ()
    group: Item | None = None
    lines: list[Line] = field(default_factory=list)
    first: Word = NOTHING
    last_line: int = 0
    above: list[str] = field(default_factory=list)
    comment: str = ""
    below: list[str] = field(default_factory=list)
    gap: bool = False

    @property
    def end_line(self) -> int:
        """The last line that belongs to it, comments aside."""
        return self.lines[-1].key.line if self.lines else self.last_line

    def line(self, key: str) -> Line | None:
        """Its first line with that key."""
        return next((line for line in self.lines if line.key.text == key), None)


@dataclass(slots=True)
class Syntax:
    """A whole file."""

    statements: list[Statement] = field(default_factory=list)
    tail: list[str] = field(default_factory=list)


def split_comment(text: str) -> tuple[str, str]:
    """Split a value from its comment: `#` counts only after white space and outside quotes.

    A quote that is never closed is an ordinary character.
    """
    if "#" not in text:
        return text, ""
    position = 0
    while position < len(text):
        letter = text[position]
        if letter in "'\"":
            position = _closing(text, position)
        elif letter == "\\":
            position += 1
        elif letter == "#" and position and text[position - 1].isspace():
            return text[:position], text[position:].rstrip()
        position += 1
    return text, ""


def _closing(text: str, opening: int) -> int:
    """Where the quote at `opening` is closed; `opening` itself if it is not."""
    quote = text[opening]
    position = opening + 1
    while position < len(text):
        if text[position] == "\\" and quote == '"':
            position += 1
        elif text[position] == quote:
            return position
        position += 1
    return opening


def rule_name(statement: Statement) -> str | None:
    """The name of a task in the make view where no `task = NAME` line says it.

    It is the command's file name without ending where the command starts with a path (`./predict.py`),
    else the first output's name.
    """
    run = statement.line("run")
    if run is not None:
        program = run.value.text.split(maxsplit=1)[0] if run.value.text else ""
        if re.fullmatch(r"[\w./-]*/[\w.-]+", program):
            stem = program.rpartition("/")[2].partition(".")[0]
            if re.fullmatch(r"\w[\w.-]*", stem):
                return stem
    if statement.outputs and statement.outputs[0].wires:
        return statement.outputs[0].wires[0].text
    return None
