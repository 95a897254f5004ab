"""Targets: the files that values of wires with `to` become."""

from __future__ import annotations

import os
import re
from pathlib import Path

from koalja_fn.addresses import sink_texts
from koalja_fn.model import SINK_FIELDS, AnnotatedValue

_LONGEST_NAME = 255
_FIELD = re.compile(r"\{(\w+)\}")


def target(pattern: str, folder: Path, value: AnnotatedValue) -> Path:
    """Where a `to` pattern puts a value: {id}, {wire}, {name}, {position} (from 1), {digest}, {key}.

    A folder (`outbox/`) gets each value under its id. What comes from the value never leads to another
    folder: slashes in it become `_`.
    """
    texts = sink_texts(value) if "{" in pattern or pattern.endswith("/") else {}

    def fill(found: re.Match[str]) -> str:
        return _harmless(texts[found[1]]) if found[1] in SINK_FIELDS else found[0]

    parts = (_FIELD.sub(fill, part) for part in Path(pattern + "{id}" * pattern.endswith("/")).parts)
    return folder.joinpath(*(_short(part, value.id) for part in parts))


def _short(part: str, id: str) -> str:
    """A name that a file system takes; one that was cut stays the value's own by its id."""
    data = os.fsencode(part)
    if len(data) <= _LONGEST_NAME:
        return part
    return data[: _LONGEST_NAME - 13].decode(errors="ignore") + "~" + id[:12]


def _harmless(text: str) -> str:
    safe = re.sub(r"[/\\\0]", "_", text)
    return safe if safe.strip(".") else "_"
