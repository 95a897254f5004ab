"""Payloads in a bucket: any S3, with a local cache beside the program.

Objects are named by their digest, `PREFIX/ab/cdef…`, and written once: `If-None-Match: *` keeps an
object that is there from being sent again, where the server knows the condition. Each upload carries its
SHA-256, which the server checks, and each download is checked here. Large ones travel in parts.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from koalja_fn.errors import StoreError
from koalja_fn.store.buckets import ABSENT, NO_CONDITIONS, PRESENT, Bucket, Clients, code_of, explained
from koalja_fn.store.cache import Cache
from koalja_fn.store.protocol import Moved, Statements, Stored, Within, hex_of
from koalja_fn.store.quick import LARGEST, Unsure, quick
from koalja_fn.store.uploading import PART, Upload, send

_LOOK_FIRST = 256 << 10  # above it asking whether it is there is cheaper than sending it in vain
_AT_ONCE = 8


class S3Store:
    """Payloads in a bucket; see `Store` for the contract. What was put or fetched lies in `cache`, too."""

    def __init__(self, bucket: Bucket, cache: Cache, *, part: int = PART) -> None:
        self.bucket = bucket
        self._cache = cache
        self._part = part
        self._clients = Clients(bucket)
        self._quick = quick(bucket)
        self._conditions = True
        self._counts = asdict(Moved())
        self._counting = threading.Lock()
        self._fetching: dict[str, threading.Lock] = {}
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="s3")

    def put_bytes(self, data: bytes) -> Stored:
        """Store `data`."""
        return self.put_many([data])[0]

    def put_many(self, payloads: Sequence[bytes]) -> list[Stored]:
        """Store several payloads, several at a time."""
        return self._uploaded(self._cache.files.put_many(payloads))

    def put_within(self, payloads: Sequence[bytes]) -> tuple[list[Stored], Within | None]:
        """Store several payloads now: a bucket knows no transaction of others."""
        return self.put_many(payloads), None

    def put_file(self, path: Path, *, take: bool = False) -> Stored:
        """Store a regular file's content; see `Store.put_file`."""
        return self.put_files([path], take=take)[0]

    def put_files(self, paths: Iterable[Path], *, take: bool = False) -> list[Stored]:
        """Store several files, several at a time."""
        return self._uploaded(self._cache.files.put_files(paths, take=take))

    def put_stream(self, stream: BinaryIO, *, limit: int | None = None) -> Stored:
        """Store what `stream` gives until its end; see `Store.put_stream`."""
        return self._uploaded([self._cache.files.put_stream(stream, limit=limit)])[0]

    def open(self, digest: str) -> BinaryIO:
        """Open a payload for reading."""
        self._fetch(digest)
        return self._cache.files.open(digest)

    def read(self, digest: str, limit: int | None = None) -> bytes:
        """Return a payload, or its first `limit` bytes."""
        self._fetch(digest)
        return self._cache.files.read(digest, limit)

    def place(self, digest: str, path: Path) -> bool:
        """Make a read-only file with the payload at `path`; see `Store.place`."""
        self._fetch(digest)
        return self._cache.files.place(digest, path)

    def intact(self, digest: str) -> bool:
        """Whether nobody wrote to the cached payload; one that was written to is fetched anew."""
        fine = self._cache.files.intact(digest)
        if not fine:
            self._cache.forget(digest)
        return fine

    def path(self, digest: str) -> Path:
        """Return a read-only file that holds the payload, for as long as the cache keeps it."""
        self._fetch(digest)
        return self._cache.files.path(digest)

    def has(self, digest: str) -> bool:
        """Whether the payload is in the bucket."""
        return self._head(hex_of(digest)) is not None

    def size(self, digest: str) -> int:
        """Return how many bytes the payload has."""
        if self._cache.holds(digest):
            return self._cache.files.size(digest)
        size = self._head(hex_of(digest))
        if size is None:
            raise self._missing(digest)
        return size

    def delete(self, digest: str) -> None:
        """Forget the payload; nothing happens if it is not there."""
        self._cache.forget(digest)
        with explained(self.bucket, f"delete {digest}"):
            self._client.delete_object(Bucket=self.bucket.name, Key=self._key(hex_of(digest)))

    def delete_many(self, digests: Sequence[str], within: Statements | None = None) -> None:  # noqa: ARG002
        """Forget several payloads, several at a time."""
        list(self._pool.map(self.delete, digests))

    def verify(self, digest: str) -> bool:
        """Whether the payload is in the bucket and its bytes have this digest; it is read to its end.

        One in the cache that is damaged is thrown out of it.
        """
        name = hex_of(digest)
        if self._cache.holds(digest) and not self._cache.files.verify(digest):
            self._cache.forget(digest)
        with explained(self.bucket, f"read {digest}"):
            body = self._get(name)
            if body is None:
                return False
            with body:
                sha = hashlib.sha256()
                for chunk in body.iter_chunks(1 << 20):
                    sha.update(chunk)
        return sha.hexdigest() == name

    def digests(self) -> Iterator[str]:
        """Yield the digest of every payload in the bucket, in no order."""
        pages = self._client.get_paginator("list_objects_v2")
        begin = len(self.bucket.prefix)
        with explained(self.bucket, "be listed"):
            for page in pages.paginate(Bucket=self.bucket.name, Prefix=self.bucket.prefix):
                for item in page.get("Contents", []):
                    name = item["Key"][begin:].replace("/", "")
                    with suppress(StoreError):  # somebody else's object
                        yield f"sha256:{hex_of('sha256:' + name)}"

    def moved(self) -> Moved:
        """Return the bytes moved to and from the bucket, and not moved, so far."""
        cached = self._cache.files.moved()
        with self._counting:
            return Moved(**{**self._counts, "linked": cached.linked, "copied": cached.copied})

    def close(self) -> None:
        """Let go of connections and files; further calls fail."""
        self._pool.shutdown()
        self._clients.close()
        self._cache.close()

    # What goes up

    def _uploaded(self, stored: Sequence[Stored]) -> list[Stored]:
        """Bring to the bucket what is in the cache; it stays there only if it arrived."""
        distinct = list({one.digest: one for one in stored}.values())
        try:
            if len(distinct) == 1:
                self._upload(distinct[0])
            else:
                list(self._pool.map(self._upload, distinct))
        except BaseException:
            for one in distinct:
                self._cache.forget(one.digest)
            raise
        for one in distinct:
            self._cache.admit(one.digest, one.size)
        return [
            Stored(one.digest, one.size, f"s3://{self.bucket.name}/{self._key(hex_of(one.digest))}")
            for one in stored
        ]

    def _upload(self, stored: Stored) -> None:
        name = hex_of(stored.digest)
        with explained(self.bucket, f"store {stored.digest}"):
            look = stored.size > _LOOK_FIRST or not self._conditions
            there = look and self._head(name) == stored.size
            sent = not there and self._send(name, stored)
        self._count(written=stored.size) if sent else self._count(known=stored.size)

    def _send(self, name: str, stored: Stored) -> bool:
        """Send an object; False if it was there already."""
        if self._quick is not None and self._conditions and stored.size <= min(LARGEST, self._part):
            with suppress(Unsure):
                if self._quick.put(self._key(name), self._cache.files.read(stored.digest)):
                    return True
                if self._head(name) == stored.size:
                    return False
        try:
            with self._cache.files.open(stored.digest) as body:
                place = self.bucket.name, self._key(name)
                send(self._client, Upload(*place, stored.size, name, self._condition()), body, self._part)
        except Exception as error:
            if code_of(error) in PRESENT and self._head(name) == stored.size:
                return False
            if code_of(error) in NO_CONDITIONS and self._conditions:
                self._conditions = False  # an older server: from now on we look first
                return self._head(name) != stored.size and self._send(name, stored)
            raise
        return True

    def _condition(self) -> dict[str, str]:
        return {"IfNoneMatch": "*"} if self._conditions else {}

    # What comes down

    def _fetch(self, digest: str) -> None:
        """Bring a payload into the cache, once for all who want it."""
        if self._cache.holds(digest):
            return
        with self._counting:
            lock = self._fetching.setdefault(digest, threading.Lock())
        with lock:
            try:
                if not self._cache.holds(digest):
                    self._download(digest)
            finally:
                with self._counting:
                    self._fetching.pop(digest, None)

    def _download(self, digest: str) -> None:
        with explained(self.bucket, f"read {digest}"):
            body = self._get(hex_of(digest))
            if body is None:
                raise self._missing(digest)
            with body:
                stored = self._cache.files.put_stream(body)
        self._count(read=stored.size)
        if stored.digest != digest:
            self._cache.files.delete(stored.digest)
            raise StoreError(
                f"payload {digest} is damaged",
                why=f"its object in {self.bucket} has other bytes",
                cure="delete the object and make or send the value again",
            )
        self._cache.admit(digest, stored.size)

    def _get(self, name: str) -> Any:
        """The object's body; None where there is no object."""
        if self._quick is not None:
            with suppress(Unsure):
                return self._quick.get(self._key(name))
        try:
            return self._client.get_object(Bucket=self.bucket.name, Key=self._key(name))["Body"]
        except Exception as error:
            if code_of(error) in ABSENT:
                return None
            raise

    def _head(self, name: str) -> int | None:
        """The object's size; None where there is none."""
        if self._quick is not None:
            with suppress(Unsure):
                return self._quick.size(self._key(name))
        with explained(self.bucket, f"look up sha256:{name}"):
            try:
                return int(
                    self._client.head_object(Bucket=self.bucket.name, Key=self._key(name))["ContentLength"]
                )
            except Exception as error:
                if code_of(error) in ABSENT:
                    return None
                raise

    def _key(self, name: str) -> str:
        return f"{self.bucket.prefix}{name[:2]}/{name[2:]}"

    @property
    def _client(self) -> Any:
        return self._clients.get()

    def _missing(self, digest: str) -> StoreError:
        return StoreError(
            f"payload {digest} is missing",
            why=f"it is not in {self.bucket}",
            cure="send or make the value again",
        )

    def _count(self, **more: int) -> None:
        with self._counting:
            for kind, count in more.items():
                self._counts[kind] += count
