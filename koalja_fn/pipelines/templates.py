"""Go templates in commands of executors, as far as they name files of inputs and outputs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_INPUT = re.compile(rf"\.inputs\.({_NAME})\.path")
_OUTPUT = re.compile(rf"\.outputs\.({_NAME})\.path")
_INDEXED = re.compile(rf"\(\s*index\s+\.inputs\.({_NAME})\s+(\d{{1,6}})\s*\)\.path")
_ALL = re.compile(
    rf"\{{\{{-?\s*range\s+\.inputs\.({_NAME})\s*-?\}}\}}\s*\{{\{{-?\s*\.path\s*-?\}}\}}\s*\{{\{{-?\s*end\s*-?\}}\}}"
)


@dataclass(frozen=True, slots=True)
class File:
    """Files in a text: all of an input (`index` None), one of them, or the path of an output."""

    kind: str
    name: str
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Untold:
    """A template that has no counterpart."""

    text: str


Part = str | File | Untold


def parts(source: str, sequences: Mapping[str, bool]) -> tuple[Part, ...]:
    """A text with templates, in order. `sequences` says of each input whether it may have several values."""
    found: list[Part] = []
    rest = source
    while rest:
        action = _ACTION.search(rest)
        if action is None:
            found.append(rest)
            break
        if action.start():
            found.append(rest[: action.start()])
        whole = _ALL.match(rest, action.start())
        if whole is not None:
            found.append(_input(whole[1], None, whole[0], sequences))
            rest = rest[whole.end() :]
            continue
        found.append(_of(action[1], action[0], sequences))
        rest = rest[action.end() :]
    return tuple(found)


def _of(inner: str, text: str, sequences: Mapping[str, bool]) -> Part:
    if one := _OUTPUT.fullmatch(inner):
        return File("out", one[1])
    if (one := _INPUT.fullmatch(inner)) and not sequences.get(one[1], True):
        return _input(one[1], None, text, sequences)
    if (one := _INDEXED.fullmatch(inner)) and sequences.get(one[1]):
        return _input(one[1], int(one[2]), text, sequences)
    return Untold(text)


def _input(name: str, index: int | None, text: str, sequences: Mapping[str, bool]) -> Part:
    return File("in", name, index) if name in sequences else Untold(text)
