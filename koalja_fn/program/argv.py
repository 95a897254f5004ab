"""Put files into a command: the words of a run line become an argument list.

`{wind}` as a word of its own becomes one word for each file; inside a longer word, such as that
of `sh -c "sort {wind}"`, its files are separated by spaces, which needs no quoting since we name them.
Where no input's placeholder stands in the command, all files follow it in the order of the wiring.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from koalja_fn.wiring.runline import Placeholder, parts

_PAGE = 4096
# Linux: 32 pages for one word, its closing zero included (MAX_ARG_STRLEN).
LONGEST_WORD = 32 * _PAGE - 1
_INPUTS = frozenset({"all", "one", "list"})


class Unfilled(ValueError):
    """A placeholder can't be filled: what is wrong, and the cure."""

    def __init__(self, message: str, cure: str) -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure


@dataclass(frozen=True, slots=True)
class Files:
    """What placeholders stand for. The two functions write a file when they are called, and name it."""

    inputs: Mapping[str, Sequence[str]]
    outputs: Mapping[str, str]
    list_of: Callable[[str], str]
    snapshot: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Template:
    """A command, parsed once.

    `places` tells whether it places inputs itself, `writes` whether it says where outputs go, so
    that standard output is log.
    """

    words: tuple[tuple[str | Placeholder, ...], ...]
    places: bool
    writes: bool

    def fill(self, files: Files) -> list[str]:
        """Return the argument list.

        Raises:
            Unfilled: `{wind[7]}` asks for a file that is not there.
        """
        argv: list[str] = []
        for word in self.words:
            if len(word) == 1:
                argv += _texts(word[0], files)
            else:
                argv.append("".join(" ".join(_texts(part, files)) for part in word))
        if not self.places:
            for paths in files.inputs.values():
                argv += paths
        return argv


@lru_cache(1024)
def template(command: tuple[str, ...], inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Template:
    """Parse a command of a task with these inputs and outputs."""
    words = tuple(parts(word, inputs, outputs) or ("",) for word in command)
    kinds = {part.kind for word in words for part in word if isinstance(part, Placeholder)}
    writes = "out" in kinds or any("KOALJA_OUT" in word for word in command)
    return Template(words, bool(kinds & _INPUTS), writes)


def _texts(part: str | Placeholder, files: Files) -> Sequence[str]:
    if isinstance(part, str):
        return (part,)
    if part.kind == "all":
        return files.inputs[part.name]
    if part.kind == "one":
        return (_one(part, files.inputs[part.name]),)
    if part.kind == "list":
        return (files.list_of(part.name),)
    if part.kind == "out":
        return (files.outputs[part.name],)
    return (files.snapshot(),)


def _one(part: Placeholder, paths: Sequence[str]) -> str:
    if part.index >= len(paths):
        raise Unfilled(
            f"{{{part.name}[{part.index}]}} asks for a file that is not there",
            f"use {{{part.name}}} for all; this snapshot has {len(paths)} of them, counted from 0",
        )
    return paths[part.index]


def too_long(argv: Sequence[str], environ: Mapping[str, str]) -> tuple[str, str]:
    """Say why the system refused an argument list, and the cure."""
    cure = "give the program a file of paths, {WIRE.list} in the run line, instead of the paths themselves"
    longest = max(len(os.fsencode(word)) for word in argv)
    if longest > LONGEST_WORD:
        return f"a word of its arguments has {longest} bytes; the system allows {LONGEST_WORD}", cure
    total = sum(len(os.fsencode(word)) + 9 for word in argv)
    total += sum(len(os.fsencode(k)) + len(os.fsencode(v)) + 10 for k, v in environ.items())
    limit = os.sysconf("SC_ARG_MAX")
    return f"its {len(argv)} arguments have {total} bytes; the system allows about {limit}", cure
