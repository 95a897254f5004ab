"""Scratch folders: private to one execution, used again by later ones.

    root/<claim>/<n>/in      input files
    root/<claim>/<n>/out     $KOALJA_OUT
    root/<claim>/<n>/work    the program's working folder, its HOME and TMPDIR
    root/<claim>/<n>/stdout, stderr, signposts, snapshot.json, WIRE.list
    root/failed/<label>/     what failed executions left, the newest ones

Making a file or a folder costs 0.1 to 0.2 ms on ext4, removing one 0.03 to 0.1 ms, emptying a folder
that is empty 0.01 ms. Hence a folder that is clean again is not removed but handed out again, and small
input files are written anew in place: the next execution in it mostly has files of the same names.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
import subprocess
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from koalja_fn.store.claimed import ClaimedFolder, sweep
from koalja_fn.store.disk import seal, write_all

FOLDERS = ("in", "out", "work")
_FILES = frozenset({"stdout", "stderr"})
# What we put into a scratch folder ourselves, besides WIRE.list.
OWN = frozenset({*FOLDERS, *_FILES, "signposts", "snapshot.json"})
SMALL_INPUT = 16 << 10
_MOST_LEFT = 1_000
_KEPT = 20
_ROOM = 256 << 20
_LARGEST = 1 << 30
_BLOCKS = (1 << 20) // 512
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class Slot:
    """One scratch folder. Paths are strings: they go into argument lists and system calls.

    `left` has the names and sizes of input files of an earlier execution that may be written anew.
    """

    __slots__ = ("folder", "left", "out", "path", "placed", "stderr", "stdout", "work")

    def __init__(self, path: str) -> None:
        self.path = path
        self.folder = Path(path)
        self.left: dict[str, int] = {}
        self.placed = f"{path}/in"
        self.out = f"{path}/out"
        self.work = f"{path}/work"
        self.stdout = f"{path}/stdout"
        self.stderr = f"{path}/stderr"

    def write_input(self, name: str, data: bytes) -> str:
        """Make a small read-only input file; return its path."""
        path = f"{self.placed}/{name}"
        size = self.left.pop(name, -1)
        if size < 0:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        else:
            os.chmod(path, 0o600)  # noqa: PTH101
            fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            write_all(fd, data)
            if size > len(data):  # not emptied first: ext4 would write it to the disk at once
                os.ftruncate(fd, len(data))
            seal(fd)
        finally:
            os.close(fd)
        return path

    def drop_left(self) -> None:
        """Remove the earlier input files that were not written anew."""
        for name in self.left:
            os.unlink(f"{self.placed}/{name}")  # noqa: PTH108
        self.left.clear()

    def leave_inputs(self) -> None:
        """Keep input files that may be written anew, remove what else lies among them."""
        _check_own(self.placed)
        with os.scandir(self.placed) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                own = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
                if own and status.st_size <= SMALL_INPUT and len(self.left) < _MOST_LEFT:
                    self.left[entry.name] = status.st_size
                else:
                    _remove_entry(entry)


class Yard:
    """Hands out scratch folders below `root`; safe to call from several threads.

    `ending` is called with each folder that a dead process left, before it is removed.
    """

    def __init__(self, root: Path, ending: Callable[[Path], None]) -> None:
        self._root = root.absolute()
        self._failed = self._root / "failed"
        self._root.mkdir(parents=True, exist_ok=True)
        sweep(self._root, ending)
        self._claim = ClaimedFolder(self._root)
        self._numbers = itertools.count()
        self._clean: deque[Slot] = deque()

    @property
    def path(self) -> Path:
        """The folder that holds this process's scratch folders."""
        return self._claim.path

    def take(self) -> Slot:
        """Return a scratch folder with the three empty folders in it."""
        try:
            return self._clean.pop()
        except IndexError:
            slot = Slot(f"{self._claim.path}/{next(self._numbers)}")
        os.mkdir(slot.path, 0o700)  # noqa: PTH102  # strings throughout: half the time of Path
        for name in FOLDERS:
            os.mkdir(f"{slot.path}/{name}", 0o700)  # noqa: PTH102
        return slot

    def give_back(self, slot: Slot) -> None:
        """Clear a scratch folder for the next execution; remove it where that is not easy."""
        try:
            slot.drop_left()
            slot.leave_inputs()
            _empty(slot.out)
            _empty(slot.work)
            _drop_others(slot.path)
        except (OSError, RecursionError):
            remove(slot.path)
        else:
            self._clean.append(slot)

    def keep(self, slot: Slot, label: str) -> Path | None:
        """Move a failed execution's folder to where people find it; None if that takes too much room."""
        room = os.statvfs(self._root)
        if room.f_bavail * room.f_frsize < _ROOM or allocated(slot.path) > _LARGEST:
            remove(slot.path)
            return None
        self._failed.mkdir(exist_ok=True)
        target = self._failed / (_UNSAFE.sub("-", label).lstrip(".-")[:100] or "execution")
        if target.exists():
            target = target.with_name(f"{target.name}-{time.time_ns()}")
        os.rename(slot.path, target)  # noqa: PTH104
        os.utime(target)
        self._prune()
        return target

    def close(self) -> None:
        """Remove all scratch folders but those of failed executions."""
        self._clean.clear()
        self._claim.close()

    def _prune(self) -> None:
        with suppress(FileNotFoundError):  # another thread prunes as well
            kept = sorted(self._failed.iterdir(), key=lambda path: path.lstat().st_mtime_ns)
            for path in kept[:-_KEPT]:
                remove(str(path))


def remove(path: str) -> None:
    """Remove a folder that a stranger's program filled, perhaps very deep, or closed to its owner."""
    with suppress(OSError, RecursionError):
        _empty(path)
        os.rmdir(path)  # noqa: PTH106
        return
    subprocess.run(["chmod", "-R", "u+rwx", "--", path], check=False, capture_output=True)
    subprocess.run(["rm", "-rf", "--", path], check=False, capture_output=True)


def allocated(path: str) -> int:
    """Bytes on the disk below a folder, holes not counted; 0 where it can't be read."""
    total = 0
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                total += status.st_blocks * 512
                if stat.S_ISDIR(status.st_mode):
                    total += allocated(entry.path)
    except (OSError, RecursionError):
        pass  # the program is at work in it
    return total


def _empty(path: str) -> None:
    """Remove what is in a folder, never through a link.

    Raises:
        OSError: It is no folder any more, has another mode, or something in it can't be removed.
    """
    _check_own(path)
    with os.scandir(path) as entries:
        for entry in entries:
            _remove_entry(entry)


def _check_own(path: str) -> None:
    """Make sure that a path is still a folder as we made it; all who could change it have ended."""
    if os.lstat(path).st_mode != stat.S_IFDIR | 0o700:
        raise PermissionError(path)


def _remove_entry(entry: os.DirEntry[str]) -> None:
    if entry.is_dir(follow_symlinks=False):
        os.chmod(entry.path, 0o700)  # noqa: PTH101
        _empty(entry.path)
        os.rmdir(entry.path)  # noqa: PTH106
    else:
        os.unlink(entry.path)  # noqa: PTH108


def _drop_others(path: str) -> None:
    """Remove what lies beside the three folders, but for the two files that are written anew."""
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name in FOLDERS or (entry.name in _FILES and _may_stay(entry)):
                continue
            if entry.is_dir(follow_symlinks=False):
                raise IsADirectoryError(entry.path)
            os.unlink(entry.path)  # noqa: PTH108


def _may_stay(entry: os.DirEntry[str]) -> bool:
    """Whether a file may be written anew in place: ours alone, and it holds no room while it waits."""
    status = entry.stat(follow_symlinks=False)
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_blocks <= _BLOCKS
