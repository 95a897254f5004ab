"""What `.gitignore` and `.koaljaignore` leave out of a folder, by the rules of gitignore(5).

Exceptions (`!name`) and files in deeper folders count: the nearest file that has something to say decides,
in it the last line that fits, and `.koaljaignore` has the last word over `.gitignore` wherever that lies. As
with git, nothing in a folder that is left out can be taken back in. Some names are never anybody's code.

A translation of our own: importing a library for it would take longer than most checks of what has changed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

NEVER = frozenset(
    {".git", ".hg", ".svn", ".koalja", "__pycache__", ".venv", "node_modules", ".mypy_cache", ".DS_Store"}
)
FILES = (".koaljaignore", ".gitignore")
"""The files' names: the one with the last word first."""

_PIECES = re.compile(r"\\(.)|(\*+)|(\?)|\[([!^]?)(\]?[^\]/]*)\]|([^\\*?\[]+|.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Rule:
    """One line: what it fits, relative to its file's folder; whether it takes back; whether only folders."""

    fits: re.Pattern[str]
    back: bool
    folders: bool


def rules(lines: Iterable[str]) -> tuple[Rule, ...]:
    """The rules of a file's lines; comments and lines that can never fit are dropped."""
    return tuple(rule for line in lines for rule in _rule(line))


def _rule(line: str) -> Iterator[Rule]:
    text = re.sub(r"(?<!\\)\s+$", "", line.rstrip("\r\n"))
    if not text or text.startswith("#"):
        return
    back = text.startswith("!")
    text = text[1:] if back else text
    folders = text.endswith("/")
    words = text.strip("/").split("/")
    if words == [""]:
        return
    if "/" not in text.rstrip("/"):
        words.insert(0, "**")
    try:
        yield Rule(re.compile(_expression(words), re.DOTALL), back, folders)
    except re.error:  # such as a range that runs backwards: git lets it fit nothing
        return


def _expression(words: list[str]) -> str:
    parts = []
    for number, word in enumerate(words):
        last = number == len(words) - 1
        if word == "**":
            parts.append(".+" if last else "(?:.+/)?")
        else:
            parts.append("".join(map(_piece, _PIECES.finditer(word))) + ("" if last else "/"))
    return "".join(parts)


def _piece(found: re.Match[str]) -> str:
    escaped, stars, any_one, negated, members, plain = found.groups()
    if stars:
        return "[^/]*"
    if any_one:
        return "[^/]"
    if members is not None:
        inner = members.replace("\\", "\\\\").replace("[", "\\[")
        inner = "\\]" + inner[1:] if inner.startswith("]") else inner
        return f"(?!/)[{'^' if negated else ''}{inner}]"
    return re.escape(escaped if escaped is not None else plain)


class Ignoring:
    """The rules that hold in a folder and all below it; each file of rules is read once, when it is asked.

    `more` are further lines, as if they stood at the end of the folder's own `.koaljaignore`.
    """

    def __init__(self, folder: Path, more: Iterable[str] = ()) -> None:
        self.folder = folder
        self._more = tuple(more)
        self._rules: dict[tuple[str, str], tuple[Rule, ...]] = {}

    def leaves_out(self, inside: str, *, folder: bool) -> bool:
        """Whether a path, relative with slashes, is left out by itself, whatever the folders above it."""
        name = inside.rpartition("/")[2]
        if name in NEVER or name in FILES or name.endswith(".pyc"):
            return True
        for file in FILES:
            said = self._said(file, inside, folder)
            if said is not None:
                return said
        return False

    def walk(self, below: str = "") -> Iterator[tuple[str, bool]]:
        """All files and links that are not left out, relative with slashes, and whether they are links.

        Links are not followed.
        """
        prefix = f"{below}/" if below else ""
        try:
            with os.scandir(self.folder / below) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except PermissionError:
            if below:  # what its owner alone may see, such as somebody's in-tray, is nobody's code
                return
            raise
        for entry in found:
            inside = prefix + entry.name
            folder = entry.is_dir(follow_symlinks=False)
            if self.leaves_out(inside, folder=folder):
                continue
            if folder:
                yield from self.walk(inside)
            else:
                yield inside, entry.is_symlink()

    def _said(self, file: str, inside: str, folder: bool) -> bool | None:
        """What the files of one name say about a path: the nearest that says something decides."""
        above, _, _ = inside.rpartition("/")
        while True:
            relative = inside[len(above) + 1 :] if above else inside
            for rule in reversed(self._of(above, file)):
                if (folder or not rule.folders) and rule.fits.fullmatch(relative):
                    return not rule.back
            if not above:
                return None
            above = above.rpartition("/")[0]

    def _of(self, inside: str, file: str) -> tuple[Rule, ...]:
        if (inside, file) not in self._rules:
            more = self._more if (inside, file) == ("", FILES[0]) else ()
            self._rules[inside, file] = (*self._read(inside, file), *rules(more))
        return self._rules[inside, file]

    def _read(self, inside: str, file: str) -> tuple[Rule, ...]:
        try:
            text = (self.folder / inside / file).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ()
        return rules(text.splitlines())
