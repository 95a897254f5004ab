"""A local cache of payloads that lie elsewhere: what windows and repeats need is not fetched again.

It is a store on files with a limit: what was not used for longest goes first. Several processes may share
one; what another has thrown away is fetched again. A payload that a program works on may go: what was placed
stays.
"""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path

from koalja_fn.errors import StoreError
from koalja_fn.store.files import FileStore

LIMIT = 1 << 30
"""Bytes that a cache keeps where nothing else is said."""


class Cache:
    """The newest payloads, up to `limit` bytes; one that is larger than all of it is kept alone."""

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self.files = FileStore(folder)
        self._limit = limit
        self._lock = threading.Lock()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._total = 0
        for digest in self.files.digests():
            self._add(digest, self.files.size(digest))
        self._shrink("")

    def holds(self, digest: str) -> bool:
        """Whether the payload is here; it counts as used."""
        with self._lock:
            known = digest in self._sizes
            if known:
                self._sizes.move_to_end(digest)
        if known and self.files.has(digest):
            return True
        if known:
            self._drop(digest)
        return False

    def admit(self, digest: str, size: int) -> None:
        """A payload was put into `files`: older ones go where there is no room."""
        with self._lock:
            self._add(digest, size)
        self._shrink(digest)

    def forget(self, digest: str) -> None:
        """Throw a payload away."""
        self._drop(digest)
        self.files.delete(digest)

    def close(self) -> None:
        """Let go of files; what is cached stays for the next process."""
        self.files.close()

    def _add(self, digest: str, size: int) -> None:
        self._total += size - self._sizes.pop(digest, 0)
        self._sizes[digest] = size

    def _drop(self, digest: str) -> None:
        with self._lock:
            self._total -= self._sizes.pop(digest, 0)

    def _shrink(self, newest: str) -> None:
        while True:
            with self._lock:
                oldest = next(iter(self._sizes), newest)
                if self._total <= self._limit or oldest == newest:
                    return
                self._total -= self._sizes.pop(oldest)
            self.files.delete(oldest)


def cache_folder() -> Path:
    """Where the cache lies: $KOALJA_CACHE, else a private folder below the system's temporary one.

    Raises:
        StoreError: Somebody else's folder is in that place.
    """
    named = os.environ.get("KOALJA_CACHE")
    if named:
        return Path(named)
    folder = Path(tempfile.gettempdir()) / f"koalja-cache-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise StoreError(f"the cache {folder} can't be made", why=error.strerror or str(error)) from error
    if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o022:
        raise StoreError(
            f"the cache {folder} can't be trusted",
            why="another user owns it, or may write to it",
            cure="set KOALJA_CACHE to a folder of your own",
        )
    return folder


def cache_limit() -> int:
    """How much the cache keeps: $KOALJA_CACHE_BYTES, else `LIMIT`.

    Raises:
        StoreError: The variable is no number.
    """
    text = os.environ.get("KOALJA_CACHE_BYTES", "")
    if text and not text.isdecimal():
        raise StoreError(f"KOALJA_CACHE_BYTES is {text!r}", cure="give a number of bytes")
    return int(text) if text else LIMIT
