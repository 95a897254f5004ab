"""The version of a task's code: a digest of its files, its run line and its environment.

Of files count names, executable bits and contents. They are exactly those that the task's image would hold
(`belonging.py`), so the version is the same wherever the code is run or packed, whoever's Python runs it.

For a program in the circuit's folder the local modules that it imports count, found in its source without
running it: a change in `helpers.py` is a new version of each task that imports it, and of no other. Where the
source can't be parsed all Python files beside it count.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from koalja_fn.ids import derive
from koalja_fn.program.ignoring import NEVER, Ignoring

IGNORED = NEVER
_LONGEST_NAME = 200
_MENTIONED = re.compile(r"[\w.][\w./-]*")


class Versions:
    """Digests of the code in one circuit's folder; each file is read once."""

    def __init__(self, folder: Path, ignoring: Ignoring | None = None) -> None:
        self.folder = folder
        self.ignoring = ignoring or Ignoring(folder)
        self._contents: dict[Path, str] = {}
        self._imports: dict[Path, tuple[Path, ...]] = {}

    def digest(self, files: Iterable[Path], run: str, env: tuple[tuple[str, str], ...]) -> str:
        """`sha256:…` over files, run line and environment."""
        fields: list[str | int] = ["run", run]
        for name, value in env:
            fields += ["env", name, value]
        start = f"{self.folder}/"
        for path in files:
            text = str(path)
            relative = (
                text.removeprefix(start) if text.startswith(start) else os.path.relpath(path, self.folder)
            )
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode) and _stays(path, self.folder):
                fields += ["link", relative, str(path.readlink())]
            elif stat.S_ISREG(mode) or path.is_file():
                fields += ["file", relative, int(os.access(path, os.X_OK)), self._content(path)]
            else:
                fields += ["else", relative]
        return "sha256:" + derive("code", *fields)

    def _content(self, path: Path) -> str:
        if path not in self._contents:
            with path.open("rb") as file:
                self._contents[path] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._contents[path]

    def imported(self, program: Path) -> tuple[Path, ...]:
        """The local Python files that a Python program imports, and those that they import."""
        if program not in self._imports:
            found: set[Path] = set()
            waiting = [program] if _is_python(program) else []
            while waiting:
                fresh = set(self._imports_of(waiting.pop(), program.parent)) - found - {program}
                found |= fresh
                waiting += [path for path in fresh if _is_python(path)]
            self._imports[program] = tuple(sorted(found))
        return self._imports[program]

    def _imports_of(self, path: Path, base: Path) -> Iterator[Path]:
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, RecursionError, OSError):
            yield from (p for p in base.glob("*.py") if p.is_file())
            return
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield from self._module(alias.name, base)
            elif isinstance(node, ast.ImportFrom):
                start = path.parent if node.level else base
                for _ in range(max(0, node.level - 1)):
                    start = start.parent
                names = [alias.name for alias in node.names]
                for name in [node.module] if node.module else names:
                    yield from self._module(name, start)

    def _module(self, name: str, base: Path) -> Iterator[Path]:
        """The files of a local module: `name.py`, or all of the package `name/`, its data as well."""
        first = name.partition(".")[0]
        if (base / f"{first}.py").is_file():
            yield base / f"{first}.py"
        elif (base / first).is_dir() and base.is_relative_to(self.folder):
            inside = (base / first).relative_to(self.folder).as_posix()
            yield from (self.folder / path for path, _ in self.ignoring.walk(inside))


def _stays(link: Path, folder: Path) -> bool:
    """Whether a link points into the folder by a relative path."""
    goal = link.readlink()
    inside = os.path.normpath(link.parent / goal)
    return not goal.is_absolute() and Path(inside).is_relative_to(folder)


def _is_python(path: Path) -> bool:
    if path.suffix == ".py":
        return True
    try:
        with path.open("rb") as file:
            line = file.readline(256)
    except OSError:
        return False
    return line.startswith(b"#!") and b"python" in line


def mentioned_files(words: Iterable[str], base: Path) -> list[Path]:
    """Files of a folder whose names occur in words, also inside a shell's command line."""
    found = []
    for word in words:
        for name in _MENTIONED.findall(word):
            if len(name) < _LONGEST_NAME and os.path.isfile(f"{base}/{name}"):  # noqa: PTH113  # many names
                found.append(base / name)
    return found
