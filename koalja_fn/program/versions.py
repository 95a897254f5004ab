"""The version of a task's code: a digest of what would be packed.

That is its program's files with their names, executable bits and contents; its run line and environment; and
what runs it. For a program in the circuit's folder the local modules that it imports count too, found in its
source without running it: a change in `helpers.py` is a new version of each task that imports it, and of no
other. Where the source can't be parsed all Python files beside it count. For a folder of its own all its
files count, save what `.koaljaignore` and `.gitignore` name (plain patterns, no exceptions) and caches.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from koalja_fn.ids import derive

IGNORED = frozenset(
    {".git", ".hg", ".svn", ".koalja", "__pycache__", ".venv", "node_modules", ".mypy_cache", ".DS_Store"}
)
_IGNORE_FILES = (".koaljaignore", ".gitignore")
_LONGEST_NAME = 200
_MENTIONED = re.compile(r"[\w.][\w./-]*")


class Versions:
    """Digests of the code in one circuit's folder; each file is read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._contents: dict[Path, str] = {}
        self._imports: dict[Path, tuple[Path, ...]] = {}

    def digest(
        self, files: Iterable[Path], run: str, env: tuple[tuple[str, str], ...], outside: Path | None
    ) -> str:
        """`sha256:…` over files, run line, environment and the program from outside that runs them."""
        fields: list[str | int] = ["run", run]
        for name, value in env:
            fields += ["env", name, value]
        if outside is not None:
            fields += ["by", *_identity(outside, by_name=bool(files))]
        for path in files:
            relative = os.path.relpath(path, self.folder)
            fields += ["file", relative, int(os.access(path, os.X_OK)), self._content(path)]
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
                fresh = set(_imports_of(waiting.pop(), program.parent)) - found - {program}
                found |= fresh
                waiting += fresh
            self._imports[program] = tuple(sorted(found))
        return self._imports[program]


@cache
def _real(path: Path) -> Path:
    return path.resolve()


def _identity(path: Path, *, by_name: bool) -> list[str | int]:
    """What identifies a program that is not ours: an interpreter's name, else path, size and time."""
    real = _real(path)
    if by_name:
        return [real.name]
    stat = real.stat()
    return [str(real), stat.st_size, stat.st_mtime_ns]


def _is_python(path: Path) -> bool:
    if path.suffix == ".py":
        return True
    try:
        with path.open("rb") as file:
            line = file.readline(256)
    except OSError:
        return False
    return line.startswith(b"#!") and b"python" in line


def _imports_of(path: Path, base: Path) -> Iterator[Path]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError):
        yield from (p for p in base.glob("*.py") if p.is_file())
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _module(alias.name, base)
        elif isinstance(node, ast.ImportFrom):
            start = path.parent if node.level else base
            for _ in range(max(0, node.level - 1)):
                start = start.parent
            names = [alias.name for alias in node.names]
            for name in [node.module] if node.module else names:
                yield from _module(name, start)


def _module(name: str, base: Path) -> Iterator[Path]:
    """The files of a local module: `name.py`, or all Python files of the package `name/`."""
    first = name.partition(".")[0]
    if (base / f"{first}.py").is_file():
        yield base / f"{first}.py"
    elif (base / first).is_dir():
        yield from (p for p in files_of_folder(base / first) if p.suffix == ".py")


def files_of_folder(folder: Path) -> list[Path]:
    """All files of a folder that belong to its program, sorted."""
    patterns = list(_ignore_patterns(folder))
    found = []
    for parent, folders, names in os.walk(folder):
        here = Path(parent)
        folders[:] = sorted(d for d in folders if not _ignored(here / d, folder, patterns))
        found += [
            here / n for n in names if (here / n).is_file() and not _ignored(here / n, folder, patterns)
        ]
    return sorted(found)


def _ignore_patterns(folder: Path) -> Iterator[str]:
    for name in _IGNORE_FILES:
        path = folder / name
        if path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                if line.strip() and line[0] not in "#!":
                    yield line.strip().rstrip("/").lstrip("/")


def _ignored(path: Path, base: Path, patterns: list[str]) -> bool:
    if path.name in IGNORED or path.suffix == ".pyc":
        return True
    relative = path.relative_to(base).as_posix()
    return any(fnmatch(path.name, p) or fnmatch(relative, p) for p in patterns)


def mentioned_files(words: Iterable[str], base: Path) -> list[Path]:
    """Files of a folder whose names occur in words, also inside a shell's command line."""
    found = []
    for word in words:
        for name in _MENTIONED.findall(word):
            if len(name) < _LONGEST_NAME and os.path.isfile(f"{base}/{name}"):  # noqa: PTH113  # many names
                found.append(base / name)
    return found
