"""A folder that belongs to one living process, and is cleared away once that process is dead.

Who lives is told by a lock on a file beside the folder, which the kernel lets go of however the
process ends. Process ids would not do: they are used again, and differ between containers.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

_LOCK = ".lock"


class ClaimedFolder:
    """A new folder below `parent`, ours until `close` or death."""

    def __init__(self, parent: Path) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        self._parent = parent
        self._lock = self._claim()
        self.path = self._lock_path.with_suffix("")
        self.path.mkdir(mode=0o700)

    def _claim(self) -> int:
        for number in range(1_000_000):
            self._lock_path = self._parent / f"{os.getpid()}-{number}{_LOCK}"
            try:
                fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                continue
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                return fd
            os.close(fd)  # a sweep was between our open and our lock
        raise OSError(f"no free name below {self._parent}")

    def close(self) -> None:
        """Remove the folder and the claim."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            self._lock_path.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1


def sweep(parent: Path, ending: Callable[[Path], None] | None = None) -> int:
    """Remove the folders of dead processes below `parent`; return how many.

    `ending` is called with each such folder before it goes.
    """
    swept = 0
    for lock in sorted(parent.glob(f"*{_LOCK}")):
        try:
            fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            if not os.fstat(fd).st_nlink:
                continue
            folder = lock.with_suffix("")
            if ending is not None:
                ending(folder)
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)
            swept += 1
        finally:
            os.close(fd)
    return swept
