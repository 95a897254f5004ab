"""What a place of images can do, be it a registry's repository or a folder; and checked copying of blobs."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from koalja_fn.errors import Damaged, NoSuchImage, PackError
from koalja_fn.pack.oci.reference import Target
from koalja_fn.pack.oci.values import INDEXES, MANIFESTS, Descriptor, Manifest

MANIFEST_LIMIT = 16 << 20
_ALGORITHMS = {"sha256": hashlib.sha256, "sha512": hashlib.sha512}


class Place(Protocol):
    """A repository of a registry, or a folder of the OCI image layout."""

    @property
    def target(self) -> Target:
        """Which place it is."""

    def manifest(self, which: str) -> Manifest:
        """The manifest or index of a tag or digest; `NoSuchImage` where there is none."""

    def digest_of(self, which: str) -> str | None:
        """The digest that a tag has now, or None; nothing else is read."""

    def has(self, digest: str) -> bool:
        """Whether the blob is there."""

    def chunks(self, blob: Descriptor) -> Iterator[bytes]:
        """The blob's bytes, checked: `Damaged` at the end where they are others."""

    def push(self, blob: Descriptor, content: bytes | Path, mount: Target | None = None) -> None:
        """Bring a blob there, unless it is there already; `mount` is where else it may be had."""

    def mount(self, blob: Descriptor, source: Target) -> bool:
        """Make a blob of another place appear here without moving bytes; False where that can't be."""

    def put_manifest(self, manifest: Manifest, which: str) -> None:
        """Put a manifest under a tag or its digest. All that it names must be there."""


class Meter:
    """Bytes that travelled and bytes that did not have to; many threads count.

    Once it was stopped, the next who counts sent bytes gets an error: uploads end within a piece.
    """

    def __init__(self, moved: Callable[[int], None] | None = None) -> None:
        self.sent = 0
        self.spared = 0
        self._moved = moved
        self._stopped = False
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Let nobody send more."""
        self._stopped = True

    def count_sent(self, size: int) -> None:
        """Count bytes of blobs and manifests that were handed to the network."""
        if self._stopped:
            raise PackError("stopped", why="another part of the image failed")
        with self._lock:
            self.sent += size
        if self._moved:
            self._moved(size)

    def count_spared(self, size: int) -> None:
        """Count a blob that was there already, or was mounted."""
        with self._lock:
            self.spared += size


def read_blob(place: Place, blob: Descriptor, limit: int = MANIFEST_LIMIT) -> bytes:
    """A small blob, such as an image's configuration, as bytes."""
    if blob.size > limit:
        raise PackError(f"{blob.digest} of {place.target} is too large", why=f"{blob.size} bytes")
    return b"".join(place.chunks(blob))


def save(place: Place, blob: Descriptor, to: Path) -> None:
    """Download a blob into a file, which appears only once its bytes are known to be right."""
    import tempfile

    try:
        with tempfile.NamedTemporaryFile(prefix=".blob-", dir=to.parent, delete=False) as file:
            try:
                for piece in place.chunks(blob):
                    file.write(piece)
                file.close()
                Path(file.name).replace(to)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            from koalja_fn.pack.oci.layer import no_room

            raise no_room(to.parent, problem) from problem
        raise


class Checking:
    """Counts a digest and a size while bytes go by."""

    def __init__(self, blob: Descriptor, where: object) -> None:
        algorithm = blob.digest.partition(":")[0]
        if algorithm not in _ALGORITHMS:
            raise Damaged(
                f"{where} names a blob by '{blob.digest[:80]}'", why="only sha256 and sha512 are known"
            )
        self._hash = _ALGORITHMS[algorithm]()
        self._blob = blob
        self._where = where
        self.seen = 0

    def watch(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Pass the pieces on; refuse at once what is longer than promised."""
        for piece in pieces:
            self.seen += len(piece)
            if self.seen > self._blob.size:
                raise self._damaged(f"it is longer than the {self._blob.size} bytes that were promised")
            self._hash.update(piece)
            yield piece

    def finish(self) -> None:
        """Compare what went by with what was promised."""
        if self.seen != self._blob.size:
            raise self._damaged(f"{self.seen} bytes in place of {self._blob.size}")
        found = f"{self._blob.digest.partition(':')[0]}:{self._hash.hexdigest()}"
        if found != self._blob.digest:
            raise self._damaged(f"its bytes have the digest {found}")

    def _damaged(self, why: str) -> Damaged:
        return Damaged(
            f"blob {self._blob.digest} of {self._where} is damaged", why=why, cure="push that image again"
        )


def digest_of(data: bytes) -> str:
    """The digest that OCI content has by default."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def checked_manifest(data: bytes, said: str, which: str, where: object) -> Manifest:
    """A manifest out of bytes: of the digest that was asked for, of a type that is known."""
    digest = digest_of(data)
    if ":" in which:
        algorithm = _ALGORITHMS.get(which.partition(":")[0])
        digest = f"{which.partition(':')[0]}:{algorithm(data).hexdigest()}" if algorithm else digest
        if digest != which:
            raise Damaged(
                f"manifest {which} of {where} is damaged", why=f"its bytes have the digest {digest}"
            )
    try:
        parsed: Any = json.loads(data)
        kind = str(parsed.get("mediaType") or said.partition(";")[0].strip())
    except (ValueError, AttributeError):
        raise Damaged(f"the manifest of {where} is no JSON object") from None
    if kind not in (*MANIFESTS, *INDEXES):
        if parsed.get("schemaVersion") == 1:
            raise PackError(f"{where} is an image of 2015's format", cure="push it again with a newer tool")
        raise PackError(f"{where} is no image", why=f"its manifest is of the type '{kind}'")
    return Manifest(digest, kind, data)


def nothing_there(what: str, where: object) -> NoSuchImage:
    """The error for a name that the place does not know."""
    return NoSuchImage(f"there is no {what} at {where}", cure="look at its spelling, or push it first")


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
