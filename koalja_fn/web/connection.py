"""One connection: what has come of a request so far, and what is still to be sent of an answer.

The server's loop reads and parses; while a request is `busy`, the answer belongs to the thread that makes it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import BinaryIO, NamedTuple, Protocol

from koalja_fn.web import answers
from koalja_fn.web.chunks import Chunks
from koalja_fn.web.heads import CHUNKED, BadRequest, Head, parse

IN_MEMORY = 65_536  # larger bodies go to a `Body`
_PIECE = 32_768
_LARGE_PIECE = 524_288


class Body(Protocol):
    """Takes in a large body; trouble with the disk is kept until somebody reads it."""

    def __len__(self) -> int:
        """How many bytes came."""

    def append(self, data: bytes) -> None:
        """Add bytes."""

    def getfile(self) -> BinaryIO:
        """The body from its start."""

    def close(self) -> None:
        """Forget it, unless somebody took it."""


class Request(NamedTuple):
    """A whole request; `body` is None where the sender told nothing of one."""

    head: Head
    body: bytes | Body | None
    connection: Connection


class Connection:
    """A sender's connection."""

    __slots__ = (
        "_body",
        "_chunks",
        "_head",
        "_headers",
        "_left",
        "_limit",
        "_spool",
        "buffer",
        "busy",
        "closed",
        "kept",
        "lingers",
        "out",
        "peer",
        "reading",
        "seen",
        "silent",
        "socket",
    )

    def __init__(
        self,
        accepted: socket.socket,
        peer: tuple[str, int],
        limits: tuple[int, int],
        spool: Callable[[], Body],
    ) -> None:
        self.socket = accepted
        self.peer = peer
        self._limit, self._headers = limits
        self._spool = spool
        self.buffer = bytearray()
        self.out = b""
        self.busy = False  # a request is under way
        self.kept = True  # whether the connection outlives the answer
        self.silent = False  # the sender will send no more
        self.closed = False
        self.reading = True  # whether the loop looks whether something came
        self.lingers = 0.0  # until when what still comes is thrown away
        self.seen = time.monotonic()
        self._head: Head | None = None
        self._body: Body | None = None
        self._chunks: Chunks | None = None
        self._left = 0

    @property
    def piece(self) -> int:
        """How many bytes to read at once."""
        return _PIECE if self._body is None else _LARGE_PIECE

    @property
    def most(self) -> int:
        """How many bytes may wait here."""
        return self._headers + IN_MEMORY

    def next(self) -> Request | None:
        """The next request, once all of it has come.

        Raises:
            BadRequest: What came is none.
        """
        head = self._head
        if head is None:
            head = self._take_head()
            if head is None:
                return None
        body = self._take_body(head)
        if body is None and head.length is not None:
            return None
        self._head = self._body = self._chunks = None
        self.kept = head.is_kept
        return Request(head, body, self)

    def _take_head(self) -> Head | None:
        buffer = self.buffer
        if buffer[:2] == b"\r\n":  # some senders end a body with one
            del buffer[:2]
        end = buffer.find(b"\r\n\r\n")
        if end > self._headers or (end < 0 and len(buffer) > self._headers):
            what = "the request's head is too large"
            raise BadRequest(431, what, f"at most {self._headers} bytes", "use fewer and shorter headers")
        if end < 0:
            if buffer and not buffer[0] > 0x20:  # of another protocol; its end may never come
                raise BadRequest(400, "this is no valid request", "it begins with a control character")
            return None
        head = parse(bytes(buffer[:end]))
        del buffer[: end + 4]
        self._head = head
        length = head.length or 0
        if length > self._limit:
            raise self._too_large()
        if length == CHUNKED:
            self._chunks, self._body = Chunks(), self._spool()
        elif length > IN_MEMORY:
            self._body = self._spool()
        self._left = length
        if head.waits and length and not buffer:
            self.socket.send(answers.CONTINUE)
        return head

    def _take_body(self, head: Head) -> bytes | Body | None:
        """The body, once all of it has come; None before, and where none was told of."""
        buffer, body = self.buffer, self._body
        if body is None:
            left = self._left
            if head.length is None or len(buffer) < left:
                return None
            data = bytes(buffer[:left])
            del buffer[:left]
            return data
        if self._chunks is not None:
            for piece in self._chunks.feed(buffer):
                body.append(piece)
            if len(body) > self._limit:
                raise self._too_large()
            return body if self._chunks.done else None
        piece = bytes(buffer[: self._left])
        del buffer[: len(piece)]
        self._left -= len(piece)
        body.append(piece)
        return None if self._left else body

    def _too_large(self) -> BadRequest:
        what = f"the body is larger than {self._limit} bytes"
        return BadRequest(413, what, "no more is taken in one piece", "send it in parts")

    def forget(self) -> None:
        """Close, and remove what came of a request."""
        self.closed = True
        if self._body is not None:
            self._body.close()
        self.socket.close()
