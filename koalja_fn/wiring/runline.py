"""Run lines: split as a POSIX shell splits them, with no shell, and the placeholders in their words.

Nothing is expanded: `$HOME`, `*` and `|` are ordinary text. Who wants a shell calls one.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, NamedTuple


class RunLineError(ValueError):
    """The line can't be split: `position` is the quote or backslash that is not finished."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.message = message
        self.position = position


class RunWord(NamedTuple):
    """A word of a run line; `bare` is what of it stood outside quotes."""

    text: str
    position: int
    bare: str


@dataclass(frozen=True, slots=True)
class Placeholder:
    """Something to be put into a word.

    `all`: the files of input `name`, as words of their own where the placeholder is the whole word,
    else separated by spaces; `one`: its file number `index`, from 0; `list`: a file with their paths;
    `out`: a path at which to write a value for wire `name`; `snapshot`: a file with all annotations.
    """

    kind: Literal["all", "one", "list", "out", "snapshot"]
    name: str = ""
    index: int = 0


def split(line: str) -> tuple[str, ...]:
    """The words of a run line, with their placeholders still in them.

    Raises:
        RunLineError: A quote is not closed, or the line ends in a backslash.
    """
    return tuple(word.text for word in split_words(line))


def split_words(line: str) -> tuple[RunWord, ...]:
    """The same, with what is needed to judge them."""
    words: list[RunWord] = []
    position = 0
    while True:
        while position < len(line) and line[position] in " \t\r\n":
            position += 1
        if position >= len(line):
            return tuple(words)
        word, position = _word(line, position)
        words.append(word)


_BARE = re.compile(r"[^ \t\r\n'\"\\]+")


def _word(line: str, start: int) -> tuple[RunWord, int]:
    text: list[str] = []
    bare: list[str] = []
    position = start
    while position < len(line) and line[position] not in " \t\r\n":
        letter = line[position]
        if letter == "'":
            end = line.find("'", position + 1)
            if end < 0:
                raise RunLineError("the quote ' is not closed", position)
            text.append(line[position + 1 : end])
            position = end + 1
        elif letter == '"':
            inner, position = _double_quoted(line, position)
            text.append(inner)
        elif letter == "\\":
            if position + 1 >= len(line):
                raise RunLineError("the line ends in a backslash", position)
            text.append(line[position + 1])
            position += 2
        else:
            run = _BARE.match(line, position)
            assert run is not None
            text.append(run[0])
            bare.append(run[0])
            position = run.end()
    return RunWord("".join(text), start, "".join(bare)), position


def _double_quoted(line: str, opening: int) -> tuple[str, int]:
    text: list[str] = []
    position = opening + 1
    while position < len(line):
        letter = line[position]
        if letter == '"':
            return "".join(text), position + 1
        if letter == "\\" and position + 1 < len(line) and line[position + 1] in '$`"\\\n':
            position += 1
            letter = line[position]
        text.append(letter)
        position += 1
    raise RunLineError('the quote " is not closed', opening)


_BRACES = re.compile(r"\{\{|\}\}|\{([^\s{}]+)\}")
_ONE = re.compile(r"(.+)\[(\d{1,9})\]")


def parts(word: str, inputs: Collection[str], outputs: Collection[str]) -> tuple[str | Placeholder, ...]:
    """A word as texts and placeholders, in order.

    `inputs` are the names of the task's inputs, `outputs` its output wires. A brace that is no
    placeholder of this task stays as it is; `{{` is a single brace, and so is the `}}` that closes it
    (a `}}` without one stays, since JSON and awk are full of them).
    """
    found: list[str | Placeholder] = []
    text = ""
    last, open_braces = 0, 0
    for match in _BRACES.finditer(word):
        text += word[last : match.start()]
        last = match.end()
        if match[1] is None:
            doubled = match[0] == "{{" or open_braces > 0
            open_braces = open_braces + 1 if match[0] == "{{" else max(0, open_braces - 1)
            text += match[0][0] if doubled else match[0]
            continue
        placeholder = placeholder_of(match[1], inputs, outputs)
        if placeholder is None:
            text += match[0]
            continue
        if text:
            found.append(text)
        found.append(placeholder)
        text = ""
    text += word[last:]
    if text:
        found.append(text)
    return tuple(found)


def placeholder_of(inner: str, inputs: Collection[str], outputs: Collection[str]) -> Placeholder | None:
    """What stands between braces as a placeholder, if it is one of this task.

    A wire's exact name comes first, so that wires may be called `snapshot`, `out` or `a.list`.
    """
    if inner in inputs:
        return Placeholder("all", inner)
    if inner == "snapshot":
        return Placeholder("snapshot")
    one = _ONE.fullmatch(inner)
    if one and one[1] in inputs:
        return Placeholder("one", one[1], int(one[2]))
    if inner.startswith("out.") and inner[4:] in outputs:
        return Placeholder("out", inner[4:])
    if inner.endswith(".list") and inner[:-5] in inputs:
        return Placeholder("list", inner[:-5])
    return None


def braces(word: str) -> tuple[str, ...]:
    """What stands between single braces of a word, placeholder or not."""
    return tuple(match[1] for match in _BRACES.finditer(word) if match[1] is not None)
