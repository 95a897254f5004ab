"""Whether the code of tasks is still what its version says, while a circuit runs.

People edit programs while `run` is up, and the next execution runs what is there then. So before a snapshot
is claimed its task's files are looked at, one stat each, and only where something was touched the version is
found again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from koalja_fn.errors import KoaljaError
from koalja_fn.model import Task
from koalja_fn.program.folder import Opened, open_circuit
from koalja_fn.program.interpreters import NoCode
from koalja_fn.program.locating import Located, Locator

# Tasks of more files than this are looked at once in a while, and so are folders, in which files come and go.
_FEW = 200
_WHILE = 1.0

_Stamp = tuple[tuple[int, ...], ...]


class Freshness:
    """Looks at the code of one circuit's tasks; used by several threads.

    Args:
        opened: The circuit as it was opened; its files are taken to be unchanged since.
        path: What was opened.
    """

    def __init__(self, opened: Opened, path: Path) -> None:
        self._opened = opened
        self._path = path.absolute()
        self._files: dict[str, _Stamp] = {}
        self._folders: dict[str, _Stamp] = {}
        self._looked: dict[str, float] = {}
        for located in opened.located.values():
            self._remember(located)

    def twin(self, located: Mapping[str, Located]) -> Freshness:
        """Another one of the same circuit, whose files are taken to be unchanged since now."""
        return Freshness(replace(self._opened, located=located), self._path)

    def is_fresh(self, code: Located) -> bool:
        """Whether nothing of a task's code was touched since it was located."""
        now = time.monotonic()
        seldom = now - self._looked.get(code.task, -_WHILE) >= _WHILE
        touched = (seldom or len(code.files) <= _FEW) and _stamp(code.files) != self._files[code.task]
        touched = touched or (seldom and _stamp(_folders(code)) != self._folders[code.task])
        if seldom and not touched:
            self._looked[code.task] = now
        return not touched

    def again(self, task: Task, code: Located) -> Located:
        """The task's code as it is now; as it was known where it can't be found."""
        self._remember(code)  # before the files are read, so that a change meanwhile is seen the next time
        try:
            found = self._located(task)
        except (NoCode, KoaljaError, OSError, KeyError):
            return code  # to start it will fail, and say why
        if found.files != code.files:
            self._remember(found)
        return found

    def _located(self, task: Task) -> Located:
        if self._opened.file is None:
            return open_circuit(self._path).located[task.name]
        return Locator(self._opened.folder, self._opened.circuit).locate(task)

    def _remember(self, code: Located) -> None:
        self._files[code.task] = _stamp(code.files)
        self._folders[code.task] = _stamp(_folders(code))


def _folders(code: Located) -> Iterable[Path]:
    return sorted({path.parent for path in code.files})


def _stamp(paths: Iterable[Path]) -> _Stamp:
    """Changes with each touch of a file: nobody can set the time of its last change of status."""
    found: list[tuple[int, ...]] = []
    for path in paths:
        try:
            status = os.lstat(path)
        except OSError:
            found.append((0,))
        else:
            found.append((status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(found)
