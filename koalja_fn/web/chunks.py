"""A body that comes in chunks: bytes in, in pieces of any size, its data out."""

from __future__ import annotations

import re

from koalja_fn.web.heads import BadRequest

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_LONGEST_LINE = 4096
_MOST_TRAILERS = 100


class Chunks:
    """Takes a chunked body apart; `done` once all of it was there."""

    def __init__(self) -> None:
        self.done = False
        self._left = 0  # of the chunk that is under way
        self._ending = False  # a chunk's data are over, its line's end is not there yet
        self._trailers = -1  # lines of the trailer; -1 before the last chunk

    def feed(self, buffer: bytearray) -> list[bytes]:
        """Take from the front of `buffer` what belongs to the body; its data.

        Raises:
            BadRequest: It breaks the rules.
        """
        found: list[bytes] = []
        while not self.done:
            if self._left:
                piece = bytes(buffer[: self._left])
                if not piece:
                    break
                found.append(piece)
                del buffer[: len(piece)]
                self._left -= len(piece)
                self._ending = not self._left
                continue
            line = self._line(buffer)
            if line is None:
                break
            self._take(line)
        return found

    def _line(self, buffer: bytearray) -> bytes | None:
        end = buffer.find(b"\r\n", 0, _LONGEST_LINE + 2)
        if end < 0:
            if len(buffer) > _LONGEST_LINE or (self._ending and buffer[:1].strip(b"\r")):
                raise _broken()
            return None
        line = bytes(buffer[:end])
        del buffer[: end + 2]
        return line

    def _take(self, line: bytes) -> None:
        if self._ending:
            if line:
                raise _broken()
            self._ending = False
        elif self._trailers >= 0:
            self._trailers += 1
            self.done = not line
            if self._trailers > _MOST_TRAILERS:
                raise _broken()
        else:
            size = _SIZE.fullmatch(line)
            if size is None:
                raise _broken()
            self._left = int(size[1], 16)
            self._trailers = -1 if self._left else 0


def _broken() -> BadRequest:
    return BadRequest(400, "the body is not chunked as it says", "a chunk's size or its end is not there")
