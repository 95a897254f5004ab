"""The members of JSON objects with the place of each value in the text.

A payload must arrive as its sender wrote it: `1e5`, `1.10` and a 30-digit number are the same
after `json.loads` and `json.dumps` only by luck. So the values that matter are cut out of the text, and the
scanner of the standard library only says where they end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from json import decoder
from typing import Any, NoReturn, TypeAlias

from koalja_fn.errors import Refused

# A value of an object: what was parsed, with numbers as their text, and the exact text it had.
# A plain tuple, because one is made for every attribute of every event.
Member: TypeAlias = tuple[Any, str]

_KINDS = {'"': "string", "t": "true", "f": "false", "n": "null", "{": "object", "[": "array"}


def kind(member: Member) -> str:
    """`string`, `number`, `true`, `false`, `null`, `object` or `array`."""
    return _KINDS.get(member[1][0], "number")


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


# Numbers stay text: nothing is rounded, and a number of 5,000 digits is no error (int() has a limit).
# Both are in the standard library for years, only its type stubs leave them out.
_READER: Any = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_not_json)
_SCAN: Callable[[str, int], tuple[Any, int]] = _READER.scan_once
_STRING: Callable[[str, int], tuple[str, int]] = vars(decoder)["scanstring"]
_SPACE = re.compile(r"[ \t\n\r]*")


def broken(why: str) -> Refused:
    """The refusal of a text that is not JSON."""
    return Refused(
        "the body is not valid JSON", why=why, cure="check it with `jq . FILE`; it must be UTF-8 JSON text"
    )


def members(text: str) -> dict[str, Member]:
    """The members of the one object that `text` is."""
    begin = _skip(text, 0)
    if text[begin : begin + 1] == "[":
        raise Refused(
            "an array of events can't be read as one event",
            why="the mode is told by the Content-Type, here that of a single event",
            cure="send an array as application/cloudevents-batch+json",
        )
    try:
        found, end = _object(text, begin)
        if _skip(text, end) != len(text):
            raise ValueError(f"something follows the object at character {end + 1}")
        return found
    except (ValueError, StopIteration, IndexError, RecursionError) as error:
        raise broken(_reason(error, text)) from error


def each_object(text: str) -> Iterator[dict[str, Member]]:
    """The members of each object of the array that `text` is."""
    try:
        at = _skip(text, 0)
        if text[at : at + 1] != "[":
            raise ValueError("a batch is an array of events: it begins with '['")
        at = _skip(text, at + 1)
        more = text[at] != "]"
        while more:
            found, at = _object(text, at)
            yield found
            at = _skip(text, at)
            more = text[at] == ","
            if more:
                at = _skip(text, at + 1)
        if text[at] != "]" or _skip(text, at + 1) != len(text):
            raise ValueError(f"unexpected text at character {at + 1}")
    except (ValueError, StopIteration, IndexError, RecursionError) as error:
        raise broken(_reason(error, text)) from error


def _skip(text: str, at: int) -> int:
    """Where the white space from `at` on ends."""
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _object(text: str, at: int) -> tuple[dict[str, Member], int]:
    """Read the object at `at`; a name that comes twice is refused, for readers disagree on what it means."""
    if text[at : at + 1] != "{":
        raise ValueError(f"an event is an object: '{{' expected at character {at + 1}")
    found: dict[str, Member] = {}
    at = _skip(text, at + 1)
    if text[at] == "}":
        return found, at + 1
    while True:
        if text[at] != '"':
            raise ValueError(f"a name in quotes expected at character {at + 1}")
        name, at = _STRING(text, at + 1)
        if text[at] in " \t\n\r":
            at = _skip(text, at)
        if text[at] != ":":
            raise ValueError(f"':' expected at character {at + 1}")
        start = at + 1
        if text[start] in " \t\n\r":
            start = _skip(text, start)
        value, at = _SCAN(text, start)
        if name in found:
            raise ValueError(f"'{name[:40]}' stands there twice")
        found[name] = (value, text[start:at])
        if text[at] in " \t\n\r":
            at = _skip(text, at)
        if text[at] == "}":
            return found, at + 1
        if text[at] != ",":
            raise ValueError(f"',' or '}}' expected at character {at + 1}")
        at += 1
        if text[at] in " \t\n\r":
            at = _skip(text, at)


def _reason(error: BaseException, text: str) -> str:
    if isinstance(error, IndexError):
        return "the text ends too early"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, StopIteration):
        at = error.value if isinstance(error.value, int) else len(text)
        return f"a value is expected at character {at + 1}"
    return str(error)
