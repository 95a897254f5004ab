"""What goes over a connection: the body of a request, the answer, and the news that it broke off."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from koalja_fn.errors import PackError

CHUNK = 256 * 1024


class Broken(Exception):
    """The connection broke off, or the server asks for patience: whoever sent decides what to send again."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Body:
    """What a request carries: bytes, or a part of a file that is read while it is sent."""

    source: bytes | Path
    start: int
    size: int
    sent: Callable[[int], None] | None = None

    @classmethod
    def of(cls, data: bytes) -> Body:
        """All of the bytes."""
        return cls(data, 0, len(data))

    def chunks(self) -> Iterator[bytes]:
        """The content, piece by piece; each piece is reported once the one after it is asked for."""
        left = self.size
        if isinstance(self.source, bytes):
            yield self.source[self.start : self.start + left]
            self._report(left)
            return
        with open(self.source, "rb", buffering=0) as file:
            file.seek(self.start)
            while left:
                piece = file.read(min(CHUNK, left))
                if not piece:
                    raise PackError(f"{self.source} became shorter while it was sent", cure="pack again")
                left -= len(piece)
                yield piece
                self._report(len(piece))

    def _report(self, size: int) -> None:
        if self.sent:
            self.sent(size)


class Answer:
    """A response whose body was not read yet; leaving the `with` gives the connection back."""

    def __init__(self, url: str, raw: http.client.HTTPResponse, release: Callable[[bool], None]) -> None:
        self.url = url
        self.status = raw.status
        self.headers = raw.headers
        self._raw = raw
        self._release = release
        self._read: bytes | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, limit: int) -> bytes:
        """The body, but never more than `limit` and one more byte; it may be read twice."""
        try:
            if self._read is None:
                self._read = self._raw.read(limit + 1)
        except (OSError, http.client.HTTPException) as problem:
            raise Broken(words(problem)) from problem
        return self._read

    def chunks(self) -> Iterator[bytes]:
        """The body, piece by piece; `Broken` where it ends too early."""
        try:
            while piece := self._raw.read(CHUNK):
                yield piece
        except (OSError, http.client.HTTPException) as problem:
            raise Broken(words(problem)) from problem
        if self._raw.length:
            raise Broken("the answer ended too early")

    def close(self) -> None:
        """Give the connection back; an unread body of any size costs the connection."""
        if not self._raw.isclosed() and (self._raw.length or 0) <= CHUNK and not self._raw.chunked:
            try:
                self._raw.read()
            except (OSError, http.client.HTTPException):
                self._raw.close()
        self._release(self._raw.isclosed() and not self._raw.will_close)


def words(problem: Exception) -> str:
    """What a failed connection has to say for itself."""
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    return str(problem) or type(problem).__name__
