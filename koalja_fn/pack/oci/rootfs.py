"""A base image's file system as a folder: its layers unpacked over each other, whiteouts obeyed.

Layers are data from a stranger: no name and no link in them leads out of the folder, and nothing in it
gets rights that the folder's owner does not have. Devices and pipes are left out.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import hashlib
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from koalja_fn.errors import Damaged, PackError
from koalja_fn.pack.oci.client import RegistryClient
from koalja_fn.pack.oci.image import BaseImage
from koalja_fn.pack.oci.layer import no_room
from koalja_fn.pack.oci.place import save
from koalja_fn.pack.oci.unpacking import Tree
from koalja_fn.pack.oci.values import Descriptor, Layer

_CHUNK = 1 << 20


def extract_rootfs(base: BaseImage, client: RegistryClient, folder: Path) -> Path:
    """Unpack the base's layers once, and return the folder: `folder/DIGEST/rootfs`.

    Whoever finds it there already gets it at once. Whoever comes while another unpacks waits for that.
    """
    home = folder / base.digest.replace(":", "-")
    rootfs = home / "rootfs"
    if rootfs.is_dir():
        return rootfs
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _locked(home):
            if not rootfs.is_dir():
                _unpack(base, client, home, rootfs)
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_room(home, problem) from problem
        raise PackError(f"{base.reference} can't be unpacked", why=str(problem)) from problem
    return rootfs


def _unpack(base: BaseImage, client: RegistryClient, home: Path, rootfs: Path) -> None:
    work = Path(tempfile.mkdtemp(prefix=".new-", dir=home))
    try:
        new = work / "rootfs"
        new.mkdir(mode=0o755)
        tree = Tree(new)
        for layer in base.layers:
            blob = layer.blob or work / "blob"
            if layer.blob is None:
                place = client.place(layer.source or base.reference)
                save(place, Descriptor(layer.media_type, layer.digest, layer.size), blob)
            apply(layer, blob, tree)
        tree.finish()
        new.replace(rootfs)
    finally:
        remove_tree(work)


def apply(layer: Layer, blob: Path, tree: Tree) -> None:
    """Unpack one layer over what is there; its bare tar must have the diff id that was promised."""
    with opened(layer, blob) as plain:
        watched = _Watched(plain)
        try:
            with tarfile.open(fileobj=cast(IO[bytes], watched), mode="r|", errorlevel=2) as archive:
                tree.begin_layer()
                for member in archive:
                    tree.put(member, archive)
                    archive.members = []  # type: ignore[attr-defined]  # else all are kept
            while watched.read(_CHUNK):
                pass
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as problem:
            raise Damaged(f"layer {layer.digest} is damaged", why=str(problem)) from problem
    if watched.digest != layer.diff_id:
        raise Damaged(
            f"layer {layer.digest} is not what the image says",
            why=f"it unpacks to {watched.digest}, not to {layer.diff_id}",
        )


@contextlib.contextmanager
def opened(layer: Layer, blob: Path) -> Iterator[IO[bytes]]:
    """The bare tar of a layer, whatever it is compressed with, by its first bytes."""
    with open(blob, "rb") as raw:
        magic = os.pread(raw.fileno(), 4, 0)  # a child that unpacks it shares our position
        if magic[:2] == b"\x1f\x8b":
            with gzip.open(raw) as plain:
                yield cast(IO[bytes], plain)
        elif magic == b"\x28\xb5\x2f\xfd":
            yield from _zstd(layer, raw)
        else:
            yield raw


def _zstd(layer: Layer, raw: IO[bytes]) -> Iterator[IO[bytes]]:
    """Python 3.11 has no zstd of its own; the program is everywhere."""
    program = shutil.which("zstd")
    if program is None:
        raise PackError(
            f"layer {layer.digest} is compressed with zstd",
            why="there is no program 'zstd' to unpack it",
            cure="apt-get install zstd, or use a base image with gzip layers",
        )
    with subprocess.Popen([program, "-dcq"], stdin=raw, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.stdout
    if process.returncode:
        raise Damaged(f"layer {layer.digest} is damaged", why="zstd can't unpack it")


class _Watched:
    """Counts the digest of a tar while it is read."""

    def __init__(self, plain: IO[bytes]) -> None:
        self._plain = plain
        self._hash = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._plain.read(size)
        self._hash.update(data)
        return data

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def remove_tree(folder: Path) -> None:
    """Remove a folder, also where folders in it may not be written to."""

    def open_up(function: Any, path: str, _: object) -> None:
        with contextlib.suppress(OSError):
            above = Path(path).parent
            above.chmod(0o700)
            if stat.S_ISDIR(os.lstat(path).st_mode):
                Path(path).chmod(0o700)
                shutil.rmtree(path, ignore_errors=True)
            else:
                function(path)

    shutil.rmtree(folder, onerror=open_up)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
