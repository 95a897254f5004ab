"""Files on the way in and out: what is trusted of a stranger's file, and how one is made for a program."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from koalja_fn.errors import StoreError
from koalja_fn.store import disk


def open_regular(path: Path) -> int:
    """Open a regular file, and nothing else: no link is followed, no pipe waited for."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        if path.is_symlink():
            raise StoreError(f"{path} can't be stored", why="it is a symbolic link") from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise StoreError(f"{path} can't be stored", why="it is no regular file")
    return fd


def check_unchanged(path: Path, before: os.stat_result, after: os.stat_result, size: int) -> None:
    """Refuse a file that was written to while it was read; `size` is how much was read."""
    if (before.st_mtime_ns, before.st_size, before.st_ino) != (after.st_mtime_ns, size, after.st_ino):
        raise StoreError(
            f"{path} can't be stored",
            why="it was changed while it was read",
            cure="store it once whoever writes it has finished (write to another name, then rename)",
        )


def check_same(path: Path, opened: os.stat_result) -> None:
    """Refuse a file whose name has come to mean another one."""
    now = os.lstat(path)
    if (now.st_ino, now.st_dev) != (opened.st_ino, opened.st_dev):
        raise StoreError(f"{path} can't be stored", why="another file took its place while it was read")


def write_new(path: Path, data: bytes) -> None:
    """Make a read-only file with `data`."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    try:
        disk.write_all(fd, data)
        os.utime(fd, ns=(disk.STAMP, disk.STAMP))
    except BaseException:
        path.unlink()
        raise
    finally:
        os.close(fd)


def linked(source: Path, path: Path) -> bool:
    """Make a hard link, if the file systems and the number of links allow one."""
    try:
        os.link(source, path)
    except FileExistsError:
        raise
    except OSError:
        return False
    return True


def shared(source: int, path: Path) -> bool:
    """Make a file of its own at `path`; return whether it shares the source's extents."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        shared = disk.clone(source, fd)
        if not shared:
            disk.copy(source, fd)
        disk.seal(fd)
    except BaseException:
        path.unlink()
        raise
    finally:
        os.close(fd)
    return shared


def is_sealed(path: Path, size: int) -> bool:
    """Whether a file that `write_new` made is as it was."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(status.st_mode) and (status.st_mtime_ns, status.st_size) == (disk.STAMP, size)
