"""What the store asks of a file system: durable names, shared extents, errors that people understand."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from koalja_fn.errors import StoreError

CHUNK = 1 << 20

# Objects and placed files all bear this time of modification (2001-01-01): whoever writes to one
# changes it, which is how a changed object is noticed without reading it.
STAMP = 978_307_200_000_000_000

_FICLONE = 0x40049409
_NO_CLONE = {errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM}
_CURES = {
    errno.ENOSPC: "free some disk space; what was acknowledged is safe",
    errno.EDQUOT: "free some of your quota; what was acknowledged is safe",
    errno.EROFS: "the file system is read-only: mount it writable, or move the circuit's folder",
    errno.EACCES: "let this user write to the folder",
    errno.EPERM: "let this user write to the folder",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the system's limit of open files (fs.file-max)",
    errno.EIO: "look at the disk's health (dmesg), then restore from a copy",
}


class explained:  # noqa: N801  # used as the functions of contextlib are, at a third of their time
    """Turn an OSError inside into a StoreError that says `what` failed, why, and what to try."""

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            cure = _CURES.get(error.errno or 0, "")
            raise StoreError(self._what, why=error.strerror or repr(error), cure=cure) from error


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def seal(fd: int) -> None:
    """Make a file read-only and give it the stamp."""
    os.fchmod(fd, 0o444)
    os.utime(fd, ns=(STAMP, STAMP))


def clone(source: int, target: int) -> bool:
    """Let `target` share the extents of `source`, where the file system can."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _NO_CLONE:
            return False
        raise
    return True


def copy(source: int, target: int) -> None:
    """Copy from start to end, inside the kernel where it can."""
    offset = 0
    try:
        while moved := os.copy_file_range(source, target, CHUNK * 64, offset):
            offset += moved
    except OSError as error:
        if error.errno not in _NO_CLONE:
            raise
    else:
        if offset:
            return
    os.lseek(source, offset, os.SEEK_SET)
    while chunk := os.read(source, CHUNK):
        write_all(target, chunk)


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`; a file may take less at once (at most 2 GiB, or what the disk has)."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
