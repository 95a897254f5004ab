"""Known files: what was read once is not read again while its stamp stays the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from koalja_fn.errors import StoreError
from koalja_fn.pull.stamps import Stamp, stamp
from koalja_fn.registry.making import KnownFile


class Known:
    """Digests of files by path and stamp. `fresh` is what was added since it was opened."""

    def __init__(self, files: Mapping[str, KnownFile]) -> None:
        self.fresh: dict[str, KnownFile] = {}
        self._files = dict(files)

    def get(self, path: str, now: Stamp) -> str | None:
        """The digest of a file that has the stamp it had when it was read."""
        known = self._files.get(path)
        if known is None or (known.size, known.mtime, known.ctime, known.inode) != now:
            return None
        return known.digest

    def keep(self, path: str, was: Stamp, digest: str) -> None:
        """Remember what a file has been; `was` is its stamp from before it was read."""
        self._files[path] = self.fresh[path] = KnownFile(*was, digest)

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
