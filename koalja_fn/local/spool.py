"""Bodies of requests: small ones in memory, larger ones in a file of the spool folder, never both."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

from koalja_fn.errors import Refused, StoreError

IN_MEMORY = 65_536
PREFIX = "body-"
_PIECE = 1 << 20


def clear(folder: Path, older: float = 0.0) -> None:
    """Remove what an earlier process left `older` seconds ago; without, only for who holds the folder."""
    for path in folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):
            if not older or path.stat().st_mtime < time.time() - older:
                path.unlink()


def spool_stream(stream: BinaryIO, folder: Path, limit: int, prefix: bytes = b"") -> bytes | Path:
    """Read a stream to its end: bytes where it is small, else a file that the caller takes or removes.

    Raises:
        Refused: It is longer than `limit`.
        StoreError: There is no room for it.
    """
    spooled = Spooled(folder)
    try:
        piece = prefix or stream.read(_PIECE)
        while piece:
            if len(spooled) + len(piece) > limit:
                raise too_large(limit)
            spooled.append(piece)
            piece = stream.read(_PIECE)
        return spooled.take()
    finally:
        spooled.close()


def too_large(limit: int) -> Refused:
    """The refusal of a body above the limit."""
    return Refused(
        f"the body is larger than {limit} bytes",
        why="the entry takes no more in one piece",
        cure="send it in parts, or put the file into an in-tray",
        http_status=413,
    )


class Spooled:
    """A growing body. The server fills it: see `koalja_fn.web.Body`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO = io.BytesIO()
        self._path: Path | None = None
        self._size = 0
        self._error: OSError | None = None

    def __len__(self) -> int:
        return self._size

    def append(self, data: bytes) -> None:
        """Add bytes; trouble with the disk is kept until `take`, for the server's loop must go on."""
        self._size += len(data)
        if self._error is not None:
            return
        try:
            if self._path is None and self._size > IN_MEMORY:
                self._to_disk()
            self._file.write(data)
        except OSError as error:
            self._error = error
            self.close()

    def take(self) -> bytes | Path:
        """The whole body: bytes, or the file, which from now on is the caller's."""
        path, self._path = self._path, None
        try:
            if self._error is not None:
                raise self._error
            if path is None:
                return self._file.getvalue() if isinstance(self._file, io.BytesIO) else b""
            self._file.close()  # flushes, which may find the disk full
            return path
        except OSError as error:
            if path is not None:
                path.unlink(missing_ok=True)
            raise StoreError(
                "there is no room for the body", why=str(error), cure="free some space, then send it again"
            ) from error

    def getfile(self) -> BinaryIO:
        """The body from its start, for a server that reads it by itself."""
        try:
            self._file.seek(0)  # flushes, too
        except OSError as error:
            self._error = error
            self.close()
        return self._file

    def close(self) -> None:
        """Forget the body, and remove its file unless somebody took it."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._file = io.BytesIO()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

    def _to_disk(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=PREFIX, dir=self._folder)
        self._path = Path(name)
        memory, self._file = self.getfile(), os.fdopen(descriptor, "w+b")
        self._file.write(memory.read())
