"""A folder of the OCI image layout: images without a registry, for keeping, copying and building upon.

Blobs lie under their digests and appear whole or not at all; `index.json` is replaced last, so a reader sees
the old image or the new one. One writer at a time holds the folder's lock.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from koalja_fn.errors import Damaged, PackError
from koalja_fn.pack.oci.layer import no_room
from koalja_fn.pack.oci.place import (
    MANIFEST_LIMIT,
    Checking,
    Meter,
    checked_manifest,
    nothing_there,
    sync_folder,
)
from koalja_fn.pack.oci.reference import LayoutTarget, Target
from koalja_fn.pack.oci.values import INDEX, Descriptor, Manifest, canonical

_CHUNK = 1 << 20
_NAME = "org.opencontainers.image.ref.name"
_VERSION = canonical({"imageLayoutVersion": "1.0.0"})


class Layout:
    """The images of one folder."""

    def __init__(self, target: LayoutTarget, meter: Meter | None = None) -> None:
        self._target = target
        self._folder = target.folder
        self._meter = meter or Meter()

    @property
    def target(self) -> Target:
        """The folder and tag that this layout was opened for."""
        return self._target

    def manifest(self, which: str) -> Manifest:
        """The manifest of a ref name or digest; the only image of a folder needs no name."""
        entry = self._entry(which)
        if entry is None:
            if ":" not in which:
                raise nothing_there(f"image '{which}'", self._target)
            entry = {"digest": which, "mediaType": ""}
        digest = str(entry.get("digest", ""))
        path = self._blob(digest)
        try:
            if path.stat().st_size > MANIFEST_LIMIT:
                raise PackError(f"the manifest of {self._target} is too large")
            data = path.read_bytes()
        except FileNotFoundError:
            raise nothing_there(f"manifest {digest}", self._target) from None
        return checked_manifest(data, str(entry.get("mediaType", "")), digest, self._target)

    def digest_of(self, which: str) -> str | None:
        """The digest that a ref name has now."""
        entry = self._entry(which)
        return str(entry.get("digest")) if entry else None

    def has(self, digest: str) -> bool:
        """Whether the blob is in the folder."""
        return self._blob(digest).is_file()

    def chunks(self, blob: Descriptor) -> Iterator[bytes]:
        """The blob's bytes, checked."""
        checking = Checking(blob, self._target)
        try:
            with open(self._blob(blob.digest), "rb", buffering=0) as file:
                yield from checking.watch(iter(lambda: file.read(_CHUNK), b""))
        except FileNotFoundError:
            raise nothing_there(f"blob {blob.digest}", self._target) from None
        checking.finish()

    def push(self, blob: Descriptor, content: bytes | Path, mount: Target | None = None) -> None:  # noqa: ARG002
        """Copy a blob into the folder unless it is there; its bytes are checked on the way."""
        to = self._blob(blob.digest)
        if to.is_file() and to.stat().st_size == blob.size:
            self._meter.count_spared(blob.size)
            return
        pieces = iter([content]) if isinstance(content, bytes) else _read(content)
        checking = Checking(blob, content if isinstance(content, Path) else self._target)
        with self._new_file(to) as file:
            for piece in checking.watch(pieces):
                file.write(piece)
                self._meter.count_sent(len(piece))
            checking.finish()

    def mount(self, blob: Descriptor, source: Target) -> bool:
        """Whether the blob is there, or can be linked from another folder of this disk."""
        to = self._blob(blob.digest)
        if to.is_file():
            self._meter.count_spared(blob.size)
            return True
        if not isinstance(source, LayoutTarget):
            return False
        theirs = Layout(source)._blob(blob.digest)
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(theirs, to)
        except FileExistsError:
            pass
        except OSError:
            return False
        self._meter.count_spared(blob.size)
        return True

    def put_manifest(self, manifest: Manifest, which: str) -> None:
        """Write the manifest and, where `which` is a name, let the name mean it."""
        blob = Descriptor(manifest.media_type, manifest.digest, len(manifest.data))
        if not self.has(manifest.digest):
            with self._new_file(self._blob(manifest.digest)) as file:
                file.write(manifest.data)
            self._meter.count_sent(len(manifest.data))
        with self._locked():
            index = self._index()
            kept = [entry for entry in index.get("manifests", []) if not _is_named(entry, which)]
            named: dict[str, Any] = blob.written()
            if ":" not in which:
                named["annotations"] = {_NAME: which}
            elif any(entry.get("digest") == manifest.digest for entry in kept):
                return
            index["manifests"] = [*kept, named]
            self._replace("oci-layout", _VERSION)
            self._replace("index.json", canonical(index))
            sync_folder(self._folder)

    def _entry(self, which: str) -> dict[str, Any] | None:
        entries = self._index().get("manifests", [])
        if ":" in which:
            return next((entry for entry in entries if entry.get("digest") == which), None)
        for entry in entries:
            if _is_named(entry, which):
                return dict(entry)
        nameless = (
            len(entries) == 1 and which == "latest" and not entries[0].get("annotations", {}).get(_NAME)
        )
        return dict(entries[0]) if nameless else None

    def _index(self) -> dict[str, Any]:
        try:
            index = json.loads((self._folder / "index.json").read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
        except ValueError:
            index = None
        entries = index.get("manifests", []) if isinstance(index, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise Damaged(f"{self._folder / 'index.json'} is damaged", cure="make the folder anew")
        return dict(index)

    def _blob(self, digest: str) -> Path:
        algorithm, _, value = digest.partition(":")
        if algorithm not in ("sha256", "sha512") or not value.isalnum():
            raise Damaged(f"{self._target} names something by '{digest[:80]}'", why="that is no digest")
        return self._folder / "blobs" / algorithm / value

    @contextmanager
    def _new_file(self, to: Path) -> Iterator[Any]:
        """A file that appears under its name only after the block went well."""
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(prefix=".new-", dir=to.parent, delete=False) as file:
                try:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                    os.fchmod(file.fileno(), 0o644)
                    Path(file.name).replace(to)
                except BaseException:
                    Path(file.name).unlink(missing_ok=True)
                    raise
        except OSError as problem:
            if problem.errno in (errno.ENOSPC, errno.EDQUOT):
                raise no_room(self._folder, problem) from problem
            raise PackError(
                f"{self._target} can't be written", why=problem.strerror or str(problem)
            ) from problem

    def _replace(self, name: str, data: bytes) -> None:
        with self._new_file(self._folder / name) as file:
            file.write(data)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _is_named(entry: dict[str, Any], which: str) -> bool:
    annotations = entry.get("annotations")
    return isinstance(annotations, dict) and annotations.get(_NAME) == which


def _read(path: Path) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as file:
        yield from iter(lambda: file.read(_CHUNK), b"")
