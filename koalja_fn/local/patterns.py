"""File patterns of in-trays: `inbox/*.json`, `data/**/*.csv`, several of them separated by commas.

`*` and `?` stay within one name, `**` is any number of folders (at the end: all files below),
`[abc]` one of these characters. Names that begin with a dot and names that end in `.tmp`, `.part`,
`.partial`, `.swp`, `.crdownload` or `~` never match: they are somebody's unfinished work.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from koalja_fn.model import Circuit, Wire, is_address

_UNFINISHED = (".tmp", ".part", ".partial", ".swp", ".crdownload", "~")
_PIECES = re.compile(r"\*+|\?|\[[!^]?\]?[^\]/]*\]|.", re.DOTALL)
_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern of one wire: the folder that holds all its files, and what their names there look like.

    `only` is the one name that it can mean, where it has no wildcard.
    """

    wire: str
    base: Path
    expression: str
    deep: bool
    text: str = ""
    only: str | None = None

    def matches(self, path: Path) -> bool:
        """Whether a path is meant, by its name alone."""
        try:
            inside = path.relative_to(self.base)
        except ValueError:
            return False
        return _visible(inside.parts) and re.fullmatch(self.expression, inside.as_posix()) is not None

    def files(self) -> Iterator[Path]:
        """What matches now, in the order of names; nothing if the folder is not there (yet)."""
        if self.only is not None:
            if _visible((self.only,)) and os.path.lexists(self.base / self.only):
                yield self.base / self.only
            return
        names = re.compile(self.expression)
        found = [name for name in _walk(self.base, "", self.deep) if names.fullmatch(name)]
        for name in sorted(found):
            yield self.base / name


def in_trays(circuit: Circuit, folder: Path) -> list[Pattern]:
    """The patterns of all `from` attributes."""
    return [p for wire in circuit.wires.values() for p in patterns_of(wire, folder)]


def pattern(wire: str, text: str, folder: Path) -> Pattern:
    """One pattern, seen from `folder`; a folder (`inbox/`) means all files in it."""
    parts = Path(text).expanduser().parts + (("*",) if text.endswith("/") else ())
    plain = next((n for n, part in enumerate(parts) if _MAGIC.search(part)), len(parts) - 1)
    base = os.path.normpath(folder.absolute().joinpath(*parts[:plain]))
    rest = parts[plain:]
    only = rest[0] if len(rest) == 1 and not _MAGIC.search(rest[0]) else None
    return Pattern(wire, Path(base), _regex(rest), len(rest) > 1 or "**" in rest, text, only)


def patterns_of(wire: Wire, folder: Path) -> Iterator[Pattern]:
    """The patterns of one wire's `from`; queues and buckets in it are for others."""
    for text in (part.strip() for part in (wire.source or "").split(",")):
        if text and not is_address(text):
            yield pattern(wire.name, text, folder)


def _regex(parts: Sequence[str]) -> str:
    """The parts of a pattern as one expression over a path with slashes."""
    text = ""
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            text += r"(?:[^/]+/)*" + ("[^/]+" if last else "")
        else:
            text += "".join(map(_piece, _PIECES.findall(part))) + ("" if last else "/")
    return text


def _piece(piece: str) -> str:
    if piece == "?":
        return "[^/]"
    if piece.startswith("*"):
        return "[^/]*"
    if len(piece) > 2 and piece.startswith("["):
        negated = piece[1] in "!^"
        inner = piece[2 if negated else 1 : -1].replace("\\", r"\\").replace("[", r"\[").replace("&&", r"&\&")
        return f"(?!/)[{'^' if negated else ''}{inner}]"
    return re.escape(piece)


def _visible(parts: tuple[str, ...]) -> bool:
    return not any(part.startswith(".") for part in parts) and not parts[-1].endswith(_UNFINISHED)


def _walk(base: Path, inside: str, deep: bool) -> Iterator[str]:
    """Names of regular files and of links, never through a link to a folder."""
    try:
        with os.scandir(base / inside) as found:
            entries = list(found)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    for entry in entries:
        name = f"{inside}/{entry.name}" if inside else entry.name
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            if deep:
                yield from _walk(base, name, deep)
        elif _visible((entry.name,)) and (entry.is_file(follow_symlinks=False) or entry.is_symlink()):
            yield name
