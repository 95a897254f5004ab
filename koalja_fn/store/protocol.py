"""What a store of payloads promises, whatever it keeps them in.

A payload is named by its digest alone, `sha256:<64 hexadecimal digits>`, and never changes. Every
`put_*` returns once the bytes are durable, so a transaction may name them afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from koalja_fn.errors import StoreError

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Stored:
    """A payload that is durable: its name, how many bytes it has, and where it lies."""

    digest: str
    size: int
    uri: str


@dataclass(frozen=True, slots=True)
class Moved:
    """Bytes that moved, and bytes that did not need to, since the store was opened.

    `written` were copied into the store, `taken` moved into it by a rename, `known` were there
    already. `linked` reached a program by a link or a shared extent, `copied` by writing them.
    """

    written: int = 0
    taken: int = 0
    known: int = 0
    linked: int = 0
    copied: int = 0
    read: int = 0

    @property
    def spared(self) -> int:
        """Bytes that a copy for every step would have moved besides."""
        return self.taken + self.known + self.linked


class Statements(Protocol):
    """The part of a registry's transaction in which payloads may be put and deleted."""

    def run(self, sql: str, *params: Any) -> int:
        """Execute and return how many rows changed."""
        ...

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Execute once for each row."""
        ...


Within = Callable[[Statements], None]


class Store(Protocol):
    """Payloads by digest. Safe to call from several threads; several processes may share one."""

    def put_bytes(self, data: bytes) -> Stored:
        """Store `data`."""
        ...

    def put_many(self, payloads: Sequence[bytes]) -> list[Stored]:
        """Store several payloads with one wait for the disk for all small ones."""
        ...

    def put_within(self, payloads: Sequence[bytes]) -> tuple[list[Stored], Within | None]:
        """Store several payloads, perhaps with the transaction that names them.

        Where there is something to be called it is called in that transaction, and the payloads are
        durable with it, and not before; else they are durable now.
        """
        ...

    def put_file(self, path: Path, *, take: bool = False) -> Stored:
        """Store a regular file's content. With `take` the file may be moved.

        What `take` leaves of it is the caller's to remove; nobody may write to it any more.

        Raises:
            StoreError: It is no regular file (links are never followed), changed meanwhile, or
                can't be written.
        """
        ...

    def put_files(self, paths: Iterable[Path], *, take: bool = False) -> list[Stored]:
        """Store several files, with one wait for the disk for all small ones."""
        ...

    def put_stream(self, stream: BinaryIO, *, limit: int | None = None) -> Stored:
        """Store what `stream` gives until its end.

        Raises:
            Refused: It gives more than `limit` bytes (413); nothing of it is kept.
        """
        ...

    def open(self, digest: str) -> BinaryIO:
        """Open a payload for reading."""
        ...

    def read(self, digest: str, limit: int | None = None) -> bytes:
        """Return a payload, or its first `limit` bytes."""
        ...

    def place(self, digest: str, path: Path) -> bool:
        """Make a read-only file with the payload at `path`, which must not exist.

        Returns whether the file is the payload itself, not a copy: ask `intact` after its use.
        """
        ...

    def intact(self, digest: str) -> bool:
        """Whether nobody wrote to the payload, told without reading it: to be asked after a program ran.

        A placed file may be a link to the payload itself, and its mode stops neither root nor an
        owner who changes it. A payload with other bytes than before is set aside as damaged.
        """
        ...

    def path(self, digest: str) -> Path:
        """Return a read-only file that holds the payload. Never write to it."""
        ...

    def has(self, digest: str) -> bool:
        """Whether the payload is there."""
        ...

    def size(self, digest: str) -> int:
        """Return how many bytes the payload has."""
        ...

    def delete(self, digest: str) -> None:
        """Forget the payload; nothing happens if it is not there."""
        ...

    def delete_many(self, digests: Sequence[str], within: Statements | None = None) -> None:
        """Forget several payloads, with one wait for the disk for all small ones.

        `within` is the transaction of the registry that is under way, where one is.
        """
        ...

    def verify(self, digest: str) -> bool:
        """Whether the payload is there and its bytes still have this digest; reads all of it."""
        ...

    def digests(self) -> Iterator[str]:
        """Yield the digest of every payload, in no order."""
        ...

    def moved(self) -> Moved:
        """Return the bytes moved and not moved so far."""
        ...

    def close(self) -> None:
        """Let go of files; further calls fail."""
        ...


def hex_of(digest: str) -> str:
    """Return the 64 digits of a digest; whatever is no digest never becomes a path."""
    found = _DIGEST.fullmatch(digest)
    if found is None:
        raise StoreError(
            f"{digest[:100]!r} is no digest", cure="a digest is sha256: and 64 digits from 0 to f"
        )
    return found[1]
