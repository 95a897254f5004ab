"""Known files: what was read once is not read again while its stamp stays the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import astuple
from pathlib import Path

from koalja_fn.errors import StoreError
from koalja_fn.pull.keeping import read, write
from koalja_fn.pull.stamps import Stamp, stamp
from koalja_fn.registry import Registry, making
from koalja_fn.registry.making import KnownFile

Keep = Callable[[Mapping[str, KnownFile]], None]


class Known:
    """Digests of files by path and stamp; `keep` remembers what is added, once that is asked for."""

    def __init__(self, files: Mapping[str, KnownFile], keep: Keep) -> None:
        self._fresh: dict[str, KnownFile] = {}
        self._files = dict(files)
        self._keep = keep

    def get(self, path: str, now: Stamp) -> str | None:
        """The digest of a file that has the stamp it had when it was read."""
        known = self._files.get(path)
        if known is None or (known.size, known.mtime, known.ctime, known.inode) != now:
            return None
        return known.digest

    def keep(self, path: str, was: Stamp, digest: str) -> None:
        """Remember what a file has been; `was` is its stamp from before it was read."""
        self._files[path] = self._fresh[path] = KnownFile(*was, digest)

    def digest(self, path: Path) -> str:
        """The digest of a file, read only where it is not known.

        Raises:
            StoreError: It can't be read.
        """
        was = stamp(path)
        known = self.get(str(path), was)
        if known is None:
            try:
                with path.open("rb") as file:
                    known = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise StoreError(f"{path} can't be read", why=error.strerror or str(error)) from error
            self.keep(str(path), was, known)
        return known

    def remember(self) -> None:
        """Remember what was read since the last time, also for later runs."""
        if self._fresh:
            self._keep(self._fresh)
            self._fresh = {}


def in_registry(registry: Registry) -> Known:
    """What the folder's own registry knows."""
    return Known(
        registry.read(making.known_files),
        lambda fresh: registry.transact(lambda tx: making.keep_files(tx, fresh)),
    )


def in_folder(state: Path, home: str) -> Known:
    """What is known in this folder, where the registry is shared: others have other files under these paths.

    It is kept for each shared registry and store (`home`), since a file that was read is in the store.
    """
    name = f"files-{home}.json"
    try:
        known = {path: KnownFile(*was) for path, was in read(str(state), name).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        known = {}  # it is a cache

    def keep(fresh: Mapping[str, KnownFile]) -> None:
        known.update(fresh)
        write(str(state), name, {path: astuple(was) for path, was in known.items()})

    return Known(known, keep)
