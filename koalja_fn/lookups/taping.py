"""Taping bodies as they go by: digest and size of all, the bytes of those that are not too large."""

from __future__ import annotations

import hashlib
import tempfile
from typing import IO, BinaryIO, cast

from koalja_fn.registry.lookups import Body
from koalja_fn.store import Store

# As small as the store keeps in rows: several of them share one wait for the disk.
SMALL = 16 << 10
_IN_MEMORY = 1 << 20


class Tape:
    """One body. Beyond `room` bytes only the digest goes on."""

    def __init__(self, room: int) -> None:
        self.size = 0
        self.whole = False
        self._room = room
        self._hash = hashlib.sha256()
        self._bytes: IO[bytes] | None = None

    def take(self, piece: bytes) -> None:
        """Some more bytes."""
        self._hash.update(piece)
        self.size += len(piece)
        if self.size > self._room:
            self.drop()
        else:
            if self._bytes is None:
                self._bytes = cast("IO[bytes]", tempfile.SpooledTemporaryFile(_IN_MEMORY))  # noqa: SIM115
            self._bytes.write(piece)

    def end(self) -> None:
        """The end was seen: the digest stands for all of it."""
        self.whole = True

    def drop(self) -> None:
        """Let go of the bytes."""
        if self._bytes is not None:
            self._bytes.close()
            self._bytes = None

    @property
    def known(self) -> Body:
        """What is known of it by now, before it is stored; at its end that is which one it is."""
        return Body(f"sha256:{self._hash.hexdigest()}" if self.size else "", self.size)

    def body(self, store: Store) -> tuple[Body, bytes]:
        """What there is to record; the bytes as well where they are so few that the caller stores them.

        Raises:
            StoreError: There is no room for them.
        """
        if not self.size:
            return Body(), b""
        if not self.whole:
            self.drop()
            return Body("", self.size), b""
        digest = f"sha256:{self._hash.hexdigest()}"
        if self._bytes is None:
            return Body(digest, self.size), b""
        with self._bytes as file:
            self._bytes = None
            file.seek(0)
            if self.size <= SMALL:
                return Body(digest, self.size, kept=True), file.read()
            store.put_stream(cast("BinaryIO", file))
        return Body(digest, self.size, kept=True), b""
