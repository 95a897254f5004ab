"""Standard output and standard error as files: never a pipe that can block, and bounded on the disk."""

from __future__ import annotations

import os

_NEW = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


class Log:
    """What a program writes to one descriptor. Only its tail matters where it is `bounded`.

    A bounded one is opened for appending, so that it can be emptied while the program writes.
    """

    __slots__ = ("_bounded", "_dropped", "_limit", "_tail", "fd")

    def __init__(self, path: str, *, bounded: bool, limit: int, tail: int) -> None:
        self.fd = os.open(path, _NEW | (os.O_APPEND if bounded else 0), 0o600)
        self._bounded = bounded
        self._limit = limit
        self._tail = tail
        self._dropped = b""

    @property
    def size(self) -> int:
        """Bytes in the file now."""
        return os.fstat(self.fd).st_size

    def look(self) -> None:
        """Drop what is too much, save for the tail."""
        size = self.size
        if self._bounded and size > self._limit:
            self._dropped = self._end(size)
            os.ftruncate(self.fd, 0)

    def text(self) -> str:
        """The tail as text, from the start of a line where something was cut off."""
        size = self.size
        end = self._end(size) if size else b""
        cut = size > self._tail or bool(self._dropped)
        if self._dropped:
            end = (self._dropped + end)[-self._tail :]
        if cut:
            first, newline, rest = end.partition(b"\n")
            end = rest if newline and len(first) < self._tail // 2 else end
        text = end.decode("utf-8", "replace").replace("\0", "\ufffd")
        return f"[…]\n{text}" if cut else text

    def close(self) -> None:
        """Close the descriptor."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _end(self, size: int) -> bytes:
        return os.pread(self.fd, self._tail, max(0, size - self._tail))
