"""Read the JSON lines that a program left in $KOALJA_SIGNPOSTS: remarks, intents, files, look-ups.

They come from a program that nobody has checked: what is too long, too much or no signpost is
reported as a remark, never as an error, and never makes an execution fail.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KINDS = ("remark", "intent", "file", "lookup")
_TEXT = 4_000
_FIELDS = 20
_LINES = 1_000


@dataclass(frozen=True, slots=True)
class Signpost:
    """A line for the logs: `kind` is one of KINDS, `at` microseconds since 1970 by the program's clock."""

    kind: str
    text: str
    at: int | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


def read(path: str | Path, limit: int = 1 << 20) -> tuple[tuple[Signpost, ...], tuple[str, ...]]:
    """Return the signposts in `path` and remarks on what could not be used."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return (), ()
    except OSError as error:
        return (), (f"signposts not read: {error.strerror}",)
    data = b""
    try:
        while len(data) <= limit and (more := os.read(fd, limit + 1 - len(data))):
            data += more
    except OSError as error:  # a folder, say
        return (), (f"signposts not read: {error.strerror}",)
    finally:
        os.close(fd)
    return parse(data, limit)


def parse(data: bytes, limit: int = 1 << 20) -> tuple[tuple[Signpost, ...], tuple[str, ...]]:
    """Return the signposts in `data`, JSON lines, and remarks on what could not be used."""
    found: list[Signpost] = []
    remarks: list[str] = []
    if len(data) > limit:
        remarks.append(f"signposts beyond {limit} bytes were dropped")
        data = data[:limit].rpartition(b"\n")[0]
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        if len(found) + len(remarks) >= _LINES:
            remarks.append(f"signposts after line {number - 1} were dropped")
            break
        try:
            found.append(_signpost(json.loads(line)))
        except (ValueError, RecursionError) as error:
            remarks.append(f"signpost line {number} is not understood: {str(error)[:200]}")
    return tuple(found), tuple(remarks)


def _signpost(item: Any) -> Signpost:
    if not isinstance(item, dict):
        raise ValueError("a signpost is a JSON object")
    kind = item.pop("kind", "remark")
    if kind not in KINDS:
        raise ValueError(f"kind {str(kind)[:50]!r} is none of {', '.join(KINDS)}")
    text, at = item.pop("text", ""), item.pop("at", None)
    if not isinstance(text, str):
        raise ValueError("text is no string")
    if at is not None and (not isinstance(at, int) or isinstance(at, bool)):
        raise ValueError("at is no whole number of microseconds")
    fields = {_whole(k[:100]): _as_text(v) for k, v in list(item.items())[:_FIELDS]}
    return Signpost(kind, _whole(text[:_TEXT]), at, fields)


def _as_text(value: Any) -> str:
    return _whole((value if isinstance(value, str) else json.dumps(value))[:_TEXT])


def _whole(text: str) -> str:
    """The text with halves of surrogate pairs, which no database takes, as \\u...."""
    return text.encode("utf-8", "backslashreplace").decode()
