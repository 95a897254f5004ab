"""The store on files: small payloads are rows of one SQLite file, large ones are files of their own.

root/small.db      payloads up to 16 KiB, but for those that were put with what names them (`join`)
root/ab/cdef…      larger ones, by their digest, read-only
root/plain/ab/…    small ones that somebody wanted as a file
root/tmp/          what is being written; cleared away when its process is dead
root/damaged/      payloads that were found changed, for a person to look at
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from koalja_fn.errors import Refused, StoreError
from koalja_fn.sqlite import Database
from koalja_fn.store import between, disk
from koalja_fn.store.claimed import ClaimedFolder, sweep
from koalja_fn.store.large import LargeFiles, digest_of
from koalja_fn.store.protocol import Moved, Statements, Stored, Within, hex_of
from koalja_fn.store.small import SMALL, SmallRows


class FileStore:
    """Payloads below one folder; see `Store` for the contract.

    Args:
        root: The folder; made if it is not there.
        links: Whether programs may get a hard link to a payload's own file. It is read-only, but
            root's programs may write to any file, so for root the default is no: they get shared
            extents where the file system can, else a copy.
    """

    def __init__(self, root: Path, *, links: bool | None = None) -> None:
        self.root = root.absolute()
        self._uri = self.root.as_uri()
        self._links = os.geteuid() != 0 if links is None else links
        self._counts = asdict(Moved())
        self._counting = threading.Lock()
        with disk.explained(f"the store {root} can't be opened"):
            self.root.mkdir(parents=True, exist_ok=True)
            sweep(self.root / "tmp")
            self._incoming = ClaimedFolder(self.root / "tmp")
        self._large = LargeFiles(self.root, self._incoming.path)
        try:
            self._small = SmallRows(self.root / "small.db")
        except BaseException:
            self._incoming.close()
            raise
        self._device = self.root.stat().st_dev

    def put_bytes(self, data: bytes) -> Stored:
        """Store `data`."""
        return self.put_many([data])[0]

    def put_many(self, payloads: Sequence[bytes]) -> list[Stored]:
        """Store several payloads with one wait for the disk for all small ones."""
        named = [(hashlib.sha256(data).hexdigest(), data) for data in payloads]
        small = [(name, data) for name, data in named if len(data) <= SMALL]
        new = self._small.put(small) if small else set()
        for name, data in named:
            if len(data) > SMALL:
                self._put_large(name, data)
            elif name in new:
                new.discard(name)
                self._count(written=len(data))
            else:
                self._count(known=len(data))
        return [self._stored(name, len(data)) for name, data in named]

    def join(self, beside: Database, close: Callable[[], None] = lambda: None) -> None:
        """Small payloads may lie in the file of whoever names them, too; `close` is called at the end.

        What is put within a transaction of that file is durable with it, and with no wait of its own.
        """
        self._small.join(beside, close)

    def put_within(self, payloads: Sequence[bytes]) -> tuple[list[Stored], Within | None]:
        """Store payloads with the transaction that names them; see `Store.put_within`."""
        if not self._small.is_joined or any(len(data) > SMALL for data in payloads):
            return self.put_many(payloads), None
        named = [(hashlib.sha256(data).hexdigest(), data) for data in payloads]

        def within(tx: Statements) -> None:
            new = self._small.put_within(tx, named)
            self._count(written=new, known=sum(map(len, payloads)) - new)

        return [self._stored(name, len(data)) for name, data in named], within

    def put_file(self, path: Path, *, take: bool = False) -> Stored:
        """Store a regular file's content; see `Store.put_file`.

        A file that has other names, or lies on another file system, is copied even with `take`:
        whoever has the other name could write to it.
        """
        return self.put_files([path], take=take)[0]

    def put_files(self, paths: Iterable[Path], *, take: bool = False) -> list[Stored]:
        """Store several files, with one wait for the disk for all small ones."""
        done: list[Stored | bytes] = []
        for path in paths:
            with disk.explained(f"{path} can't be stored"):
                fd = between.open_regular(path)
                try:
                    before = os.fstat(fd)
                    if before.st_size <= SMALL:
                        data = os.read(fd, SMALL + 1)
                        between.check_unchanged(path, before, os.fstat(fd), len(data))
                        done.append(data)
                    else:
                        done.append(self._put_open(path, fd, before, take=take))
                finally:
                    os.close(fd)
        small = iter(self.put_many([data for data in done if isinstance(data, bytes)]))
        return [next(small) if isinstance(item, bytes) else item for item in done]

    def put_stream(self, stream: BinaryIO, *, limit: int | None = None) -> Stored:
        """Store what `stream` gives until its end; see `Store.put_stream`."""
        start = b""
        while len(start) <= SMALL and (chunk := stream.read(SMALL + 1 - len(start))):
            start += chunk
        if limit is not None and len(start) > limit:
            raise _too_large(limit)
        if len(start) <= SMALL:
            return self.put_bytes(start)
        with disk.explained("a payload can't be written"):
            name, size, new = self._large.write(_bounded(start, stream, limit))
        self._count(written=size) if new else self._count(known=size)
        return self._stored(name, size)

    def open(self, digest: str) -> BinaryIO:
        """Open a payload for reading."""
        name = hex_of(digest)
        data = self._small.get(name)
        if data is not None:
            self._count(read=len(data))
            return io.BytesIO(data)
        with disk.explained(f"payload {digest} can't be opened"):
            file = self._large.open(name)
        if file is None:
            raise _missing(digest)
        self._count(read=os.fstat(file.fileno()).st_size)
        return file

    def read(self, digest: str, limit: int | None = None) -> bytes:
        """Return a payload, or its first `limit` bytes."""
        with self.open(digest) as file, disk.explained(f"payload {digest} can't be read"):
            return file.read() if limit is None else file.read(limit)

    def place(self, digest: str, path: Path) -> bool:
        """Make a read-only file with the payload at `path`; return whether it is the payload's own.

        A hard link where that is safe (see `links`), else shared extents, else a copy.
        """
        name = hex_of(digest)
        with disk.explained(f"payload {digest} can't be placed at {path}"):
            file = self._large.open(name)
            if file is None:
                data = self._small.get(name)
                if data is None:
                    raise _missing(digest)
                between.write_new(path, data)
                self._count(copied=len(data))
                return False
            with file:
                size = os.fstat(file.fileno()).st_size
                linked = self._links and between.linked(self._large.path(name), path)
                spared = linked or between.shared(file.fileno(), path)
            self._count(linked=size) if spared else self._count(copied=size)
            return linked

    def intact(self, digest: str) -> bool:
        """Whether nobody wrote to the payload; see `Store.intact`.

        All payload files bear one and the same time of modification, which any write changes. Small
        payloads can't be reached through what was placed.
        """
        name = hex_of(digest)
        with disk.explained(f"payload {digest} can't be checked"):
            if self._large.intact(name):
                return True
        return self._small.size(name) is not None

    def path(self, digest: str) -> Path:
        """Return a read-only file that holds the payload; a small one is written out once."""
        name = hex_of(digest)
        with disk.explained(f"payload {digest} can't be written out"):
            if self._large.size(name) is not None:
                return self._large.path(name)
            data = self._small.get(name)
            if data is None:
                raise _missing(digest)
            path = self.root / "plain" / name[:2] / name[2:]
            if not between.is_sealed(path, len(data)):
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary = self._incoming.path / f"{name}-{threading.get_ident()}"
                between.write_new(temporary, data)
                temporary.rename(path)
            return path

    def has(self, digest: str) -> bool:
        """Whether the payload is there."""
        return self._size(digest) is not None

    def size(self, digest: str) -> int:
        """Return how many bytes the payload has."""
        size = self._size(digest)
        if size is None:
            raise _missing(digest)
        return size

    def delete(self, digest: str) -> None:
        """Forget the payload; nothing happens if it is not there."""
        name = hex_of(digest)
        with disk.explained(f"payload {digest} can't be deleted"):
            self._large.delete(name)
            (self.root / "plain" / name[:2] / name[2:]).unlink(missing_ok=True)
        if self._small.size(name) is not None:
            self._small.delete_many([name])

    def delete_many(self, digests: Sequence[str], within: Statements | None = None) -> None:
        """Forget several payloads; see `Store.delete_many`."""
        names = [hex_of(digest) for digest in digests]
        for digest, name in zip(digests, names, strict=True):
            with disk.explained(f"payload {digest} can't be deleted"):
                self._large.delete(name)
                (self.root / "plain" / name[:2] / name[2:]).unlink(missing_ok=True)
        self._small.delete_many(names, within)

    def verify(self, digest: str) -> bool:
        """Whether the payload is there and its bytes still have this digest."""
        name = hex_of(digest)
        try:
            with disk.explained(f"payload {digest} can't be read"):
                file = self._large.open(name)
                if file is None:
                    return self._small.verify(name)
                with file:
                    whole = digest_of(file.fileno())[0] == name
                if not whole:  # its stamp is right: nobody else would notice, or bring a good one
                    self._large.set_aside(name)
                return whole
        except StoreError:
            return False

    def digests(self) -> Iterator[str]:
        """Yield the digest of every payload, in no order."""
        for name in self._small.names():
            yield f"sha256:{name}"
        for name in self._large.names():
            yield f"sha256:{name}"

    def moved(self) -> Moved:
        """Return the bytes moved and not moved so far."""
        with self._counting:
            return Moved(**self._counts)

    def close(self) -> None:
        """Let go of files; further calls fail."""
        self._small.close()
        self._incoming.close()

    def _put_large(self, name: str, data: bytes) -> None:
        with disk.explained("a payload can't be written"):
            if self._large.size(name) == len(data):
                new = False
            else:
                view = memoryview(data)
                chunks = (bytes(view[i : i + disk.CHUNK]) for i in range(0, len(data), disk.CHUNK))
                new = self._large.write(chunks)[2]
        self._count(written=len(data)) if new else self._count(known=len(data))

    def _put_open(self, path: Path, fd: int, before: os.stat_result, *, take: bool) -> Stored:
        if take and before.st_nlink == 1 and before.st_dev == self._device:
            name, size = digest_of(fd)
            between.check_unchanged(path, before, os.fstat(fd), size)
            between.check_same(path, before)
            new = self._large.take(path, fd, name, size)
            self._count(taken=size) if new else self._count(known=size)
            return self._stored(name, size)
        name, size, new = self._large.copy_of(
            fd, lambda size: between.check_unchanged(path, before, os.fstat(fd), size)
        )
        self._count(written=size) if new else self._count(known=size)
        if take:
            path.unlink()
        return self._stored(name, size)

    def _size(self, digest: str) -> int | None:
        name = hex_of(digest)
        with disk.explained(f"payload {digest} can't be looked up"):
            size = self._large.size(name)
        return self._small.size(name) if size is None else size

    def _stored(self, name: str, size: int) -> Stored:
        place = f"small.db#{name}" if size <= SMALL else f"{name[:2]}/{name[2:]}"
        return Stored(f"sha256:{name}", size, f"{self._uri}/{place}")

    def _count(self, **more: int) -> None:
        with self._counting:
            for kind, count in more.items():
                self._counts[kind] += count


def _bounded(start: bytes, stream: BinaryIO, limit: int | None) -> Iterator[bytes]:
    total = len(start)
    yield start
    while chunk := stream.read(disk.CHUNK):
        total += len(chunk)
        if limit is not None and total > limit:
            raise _too_large(limit)
        yield chunk


def _too_large(limit: int) -> Refused:
    return Refused(
        f"the payload has more than {limit} bytes",
        cure="send it in parts, or raise the limit",
        http_status=413,
    )


def _missing(digest: str) -> StoreError:
    return StoreError(
        f"payload {digest} is missing", cure="send or make the value again, or restore the store from a copy"
    )
