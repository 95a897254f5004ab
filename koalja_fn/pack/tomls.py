"""TOML as buildpacks read and write it: reading with errors that name the file, and a small writer.

What a buildpack left is read without following links out of its folder: it may have been written by a
stranger, and this process may see more files than the buildpack could.
"""

from __future__ import annotations

import datetime
import json
import os
import stat
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from koalja_fn.pack.errors import PhaseError

_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
LARGEST = 16 * 1024 * 1024


def read_bytes(path: Path) -> bytes | None:
    """A regular file's content, None if there is none; a link is never followed."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(number, "rb") as file:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            return None
        data = file.read(LARGEST + 1)
    return data if len(data) <= LARGEST else None


def read_toml(path: Path, *, phase: str) -> dict[str, Any]:
    """The table in a file; empty if there is no file.

    Raises:
        PhaseError: It is no TOML.
    """
    data = read_bytes(path)
    if data is None:
        return {}
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PhaseError(f"{path.name} is no valid TOML", phase=phase, why=str(error)) from error


def tables(data: Mapping[str, Any], name: str, *, phase: str, where: str) -> list[dict[str, Any]]:
    """The array of tables `[[name]]`; empty if absent.

    Raises:
        PhaseError: It is something else.
    """
    found = data.get(name, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise PhaseError(f"'{name}' in {where} must be written [[{name}]]", phase=phase)
    return found


def dump(data: Mapping[str, Any]) -> str:
    """A table as TOML: plain values first, then tables, in the order given."""
    lines: list[str] = []
    _table(data, (), lines)
    return "\n".join(lines).lstrip("\n") + "\n"


def _table(data: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    for name, value in data.items():
        if not isinstance(value, Mapping) and not _is_tables(value) and value is not None:
            lines.append(f"{_key(name)} = {_value(value)}")
    for name, value in data.items():
        here = (*path, name)
        header = ".".join(_key(part) for part in here)
        if isinstance(value, Mapping):
            lines += ["", f"[{header}]"]
            _table(value, here, lines)
        elif _is_tables(value):
            for one in value:
                lines += ["", f"[[{header}]]"]
                _table(one, here, lines)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _key(name: str) -> str:
    return name if name and set(name) <= _BARE else _string(name)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    return _string(str(value))
