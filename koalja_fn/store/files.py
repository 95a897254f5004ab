"""The store on files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from koalja_fn.store.protocol import Moved, Stored


class FileStore:
    """Payloads below one folder (signatures; the bodies follow)."""

    def __init__(self, root: Path, *, links: bool | None = None) -> None:
        raise NotImplementedError

    def put_bytes(self, data: bytes) -> Stored: raise NotImplementedError
    def put_many(self, payloads: Sequence[bytes]) -> list[Stored]: raise NotImplementedError
    def put_file(self, path: Path, *, take: bool = False) -> Stored: raise NotImplementedError
    def put_files(self, paths: Iterable[Path], *, take: bool = False) -> list[Stored]: raise NotImplementedError
    def put_stream(self, stream: BinaryIO, *, limit: int | None = None) -> Stored: raise NotImplementedError
    def open(self, digest: str) -> BinaryIO: raise NotImplementedError
    def read(self, digest: str, limit: int | None = None) -> bytes: raise NotImplementedError
    def place(self, digest: str, path: Path) -> None: raise NotImplementedError
    def unchanged(self, digest: str, path: Path) -> bool: raise NotImplementedError
    def path(self, digest: str) -> Path: raise NotImplementedError
    def has(self, digest: str) -> bool: raise NotImplementedError
    def size(self, digest: str) -> int: raise NotImplementedError
    def delete(self, digest: str) -> None: raise NotImplementedError
    def verify(self, digest: str) -> bool: raise NotImplementedError
    def digests(self) -> Iterator[str]: raise NotImplementedError
    def moved(self) -> Moved: raise NotImplementedError
    def close(self) -> None: raise NotImplementedError


def open_store(place: str | Path) -> FileStore:
    """Open the store at `place`: a folder, or its `file:` URI."""
    raise NotImplementedError
