"""Large payloads as files of their own: `ab/cdef…`, read-only, complete or not there.

A file is written below a private folder, made durable, and only then renamed to its digest.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from koalja_fn.errors import StoreError
from koalja_fn.store import disk


class LargeFiles:
    """Payloads by the 64 digits of their digest.

    Args:
        root: Where they lie; `root/damaged` has those that were found changed.
        incoming: A folder of this process alone, on the same file system.
    """

    def __init__(self, root: Path, incoming: Path) -> None:
        self.root = root
        self._place = str(root)
        self._incoming = incoming
        self._numbers = itertools.count()
        self._known_folders: set[str] = set()

    def path(self, name: str) -> Path:
        """Where the payload lies if it is there."""
        return Path(self._path(name))

    def _path(self, name: str) -> str:
        """The same as text, which takes a tenth of the time."""
        return f"{self._place}/{name[:2]}/{name[2:]}"

    def write(self, chunks: Iterable[bytes]) -> tuple[str, int, bool]:
        """Keep what `chunks` yields; return its name, its size, and whether it was new.

        If `chunks` raises, also at its end, nothing is kept.
        """
        with self._temporary() as (path, fd):
            sha, size = hashlib.sha256(), 0
            for chunk in chunks:
                sha.update(chunk)
                disk.write_all(fd, chunk)
                size += len(chunk)
            return self._keep(path, fd, sha.hexdigest(), size)

    def copy_of(self, source: int, check: Callable[[int], None]) -> tuple[str, int, bool]:
        """Keep the content of an open file, sharing its extents where the file system can.

        `check` is called with the size before anything is kept, and may raise.
        """
        with self._temporary() as (path, fd):
            if disk.clone(source, fd):
                name, size = digest_of(fd)
                check(size)
                return self._keep(path, fd, name, size)
        return self.write(_checked(_chunks(source), check))

    def take(self, path: Path, fd: int, name: str, size: int) -> bool:
        """Move the file at `path`, open as `fd`, in as the payload `name`; return whether it was new."""
        if self.size(name) == size:
            path.unlink()
            self._sync_name(name)
            return False
        disk.seal(fd)
        os.fsync(fd)
        self._rename(path, name)
        return True

    def open(self, name: str) -> BinaryIO | None:
        """Open a payload; None if there is none.

        Raises:
            StoreError: Its bytes were changed.
        """
        try:
            fd = os.open(self._path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        file = open(fd, "rb")  # noqa: SIM115  # the caller closes it
        if os.fstat(fd).st_mtime_ns != disk.STAMP and not self.intact(name):
            file.close()
            raise _damaged(name, self.root)
        return file

    def size(self, name: str) -> int | None:
        """Return how many bytes the payload has; None if there is none, or a changed one."""
        try:
            status = os.lstat(self._path(name))
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        if status.st_mtime_ns != disk.STAMP and not self.intact(name):
            return None
        return status.st_size

    def intact(self, name: str) -> bool:
        """Whether the payload is as it was written, by its stamp; without that, by its bytes.

        One that has other bytes is set aside. One that was only touched gets its stamp back.
        """
        path = self._path(name)
        try:
            if os.lstat(path).st_mtime_ns == disk.STAMP:
                return True
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            if digest_of(fd)[0] == name:
                disk.seal(fd)
                return True
        finally:
            os.close(fd)
        self.set_aside(name)
        return False

    def set_aside(self, name: str) -> None:
        """Put a payload with other bytes where a person can look, and out of the way of a good one."""
        damaged = self.root / "damaged"
        damaged.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):
            self.path(name).rename(damaged / f"{name}-{time.time_ns()}")

    def delete(self, name: str) -> None:
        """Forget the payload."""
        self.path(name).unlink(missing_ok=True)

    def names(self) -> Iterator[str]:
        """Yield all digests."""
        for folder in self.root.iterdir():
            if len(folder.name) == 2:
                for file in folder.iterdir():
                    yield folder.name + file.name

    @contextmanager
    def _temporary(self) -> Iterator[tuple[Path, int]]:
        """A new file to write to, gone afterwards unless it was renamed."""
        path = self._incoming / str(next(self._numbers))
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            yield path, fd
        finally:
            os.close(fd)
            path.unlink(missing_ok=True)

    def _keep(self, path: Path, fd: int, name: str, size: int) -> tuple[str, int, bool]:
        if self.size(name) == size:
            self._sync_name(name)
            return name, size, False
        disk.seal(fd)
        os.fsync(fd)
        self._rename(path, name)
        return name, size, True

    def _rename(self, path: Path, name: str) -> None:
        target = self.path(name)
        if name[:2] not in self._known_folders:
            target.parent.mkdir(exist_ok=True)
            disk.sync_folder(self.root)
            self._known_folders.add(name[:2])
        path.rename(target)
        disk.sync_folder(target.parent)

    def _sync_name(self, name: str) -> None:
        """Another process may have renamed it a moment ago, and not yet waited for the disk."""
        if name[:2] not in self._known_folders:
            disk.sync_folder(self.root)
            self._known_folders.add(name[:2])
        disk.sync_folder(self.path(name).parent)


def digest_of(fd: int) -> tuple[str, int]:
    """Hash an open file from its start; return the 64 digits and the size."""
    sha, size = hashlib.sha256(), 0
    for chunk in _chunks(fd):
        sha.update(chunk)
        size += len(chunk)
    return sha.hexdigest(), size


def _chunks(fd: int) -> Iterator[bytes]:
    os.lseek(fd, 0, os.SEEK_SET)
    while chunk := os.read(fd, disk.CHUNK):
        yield chunk


def _checked(chunks: Iterable[bytes], check: Callable[[int], None]) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        yield chunk
    check(size)


def _damaged(name: str, root: Path) -> StoreError:
    return StoreError(
        f"payload sha256:{name} is damaged",
        why=f"somebody wrote to its file; what is left of it is in {root / 'damaged'}",
        cure="send or make the value again, or restore the file from a copy",
    )
