"""Layers: a tar of chosen entries, compressed in the same pass in which both its digests are counted.

Same entries, same bytes. The tar, and so the diff id, is that of the buildpacks lifecycle. The
compressed bytes, and so the digest, depend on the deflate in use as well: zlib gives the same everywhere,
zlib-ng other ones. Content is read once and never lies in memory whole.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, Self

from koalja_fn.errors import PackError
from koalja_fn.pack.oci import tarformat
from koalja_fn.pack.oci.values import Layer

_CHUNK = 1 << 20
_ASIDE = 128 << 10
_LEVEL = 1  # level 6 takes twice the time for an eighth less: benchmarks/pack.py

Order = Literal["walk", "path", "given"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a layer. `path` is absolute, in the image; `source` is a file of this machine or bytes."""

    path: str
    kind: Literal["file", "folder", "symlink"]
    mode: int
    uid: int = 0
    gid: int = 0
    source: Path | bytes = b""
    link: str = ""

    @classmethod
    def file(cls, path: str, source: Path | bytes, mode: int = 0o644, uid: int = 0, gid: int = 0) -> Entry:
        """A regular file with that content."""
        return cls(path, "file", mode, uid, gid, source)

    @classmethod
    def folder(cls, path: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Entry:
        """A folder, without what is in it."""
        return cls(path, "folder", mode, uid, gid)

    @classmethod
    def symlink(cls, path: str, link: str, uid: int = 0, gid: int = 0, mode: int = 0o777) -> Entry:
        """A symbolic link that says `link`, whatever that may be."""
        return cls(path, "symlink", mode, uid, gid, link=link)


def tree(folder: Path, at: str, uid: int | None = None, gid: int | None = None) -> Iterator[Entry]:
    """The folder and all in it, as `at` in the image; owners are kept where none is given.

    Hard links become files of their own, sockets are left out, as the lifecycle does.
    """
    found = os.lstat(folder)
    yield _entry(folder, at, found, uid, gid)
    for name in sorted((found.name for found in os.scandir(folder)), key=os.fsencode):
        path, inside = folder / name, f"{at.rstrip('/')}/{name}"
        found = os.lstat(path)
        if stat.S_ISDIR(found.st_mode):
            yield from tree(path, inside, uid, gid)
        elif not stat.S_ISSOCK(found.st_mode):
            yield _entry(path, inside, found, uid, gid)


def parents(path: str, like: Path | None = None) -> Iterator[Entry]:
    """The folders above `path`, outermost first: modes and owners as above `like`, else root's."""
    above = [*reversed(PurePosixPath(path).parents)][1:]
    models = [*reversed(like.absolute().parents)][-len(above) :] if like and above else []
    for index, folder in enumerate(above):
        if len(models) == len(above):
            found = models[index].stat()
            yield Entry.folder(str(folder), stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)
        else:
            yield Entry.folder(str(folder))


def layer_from_tree(entries: Iterable[Entry], out_dir: Path, *, order: Order = "walk") -> Layer:
    """Write the entries as one layer into `out_dir`, under its digest's name.

    `walk` sorts as a walk over folders does (the lifecycle's buildpack layers), `path` by the whole
    path (its application layers), `given` not at all (launcher, process types). Of two entries for one
    path the later one stands.
    """
    chosen = list({entry.path: entry for entry in entries}.values()) if order != "given" else entries
    if order == "walk":
        chosen = sorted(chosen, key=lambda entry: os.fsencode(entry.path).split(b"/"))
    elif order == "path":
        chosen = sorted(chosen, key=lambda entry: os.fsencode(entry.path))
    with LayerWriter(out_dir) as writer:
        for entry in chosen:
            writer.add(entry)
        return writer.finish()


class LayerWriter:
    """Writes one layer; nothing remains in the folder unless `finish` was reached."""

    def __init__(self, out_dir: Path) -> None:
        self._out_dir = out_dir
        self._file: BinaryIO
        self._temporary: Path | None = None
        self._diff = hashlib.sha256()
        self._digest = hashlib.sha256()
        self._size = 0
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="layer")  # starts its thread when it is used
        # 16 + 15: a gzip header without name and time, so that equal content has equal bytes.
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)

    def __enter__(self) -> Self:
        self._out_dir.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".layer-", dir=self._out_dir)
        self._temporary = Path(name)
        self._file = open(descriptor, "wb", buffering=0)
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()
        self._aside.shutdown()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)

    def add(self, entry: Entry) -> None:
        """Append an entry; a file that grows or shrinks meanwhile is refused."""
        if entry.kind == "file" and isinstance(entry.source, Path):
            self._add_file(entry, entry.source)
            return
        data = entry.source if entry.kind == "file" and isinstance(entry.source, bytes) else b""
        self._write(_header(entry, len(data)) + data + tarformat.padding(len(data)))

    def finish(self) -> Layer:
        """Close the tar and give the layer its name."""
        assert self._temporary is not None
        self._write(tarformat.END)
        self._store(self._deflate.flush())
        self._file.close()
        digest = f"sha256:{self._digest.hexdigest()}"
        blob = self._out_dir / digest.replace(":", "-")
        self._temporary.chmod(0o644)
        self._temporary.replace(blob)
        self._temporary = None
        return Layer(digest, f"sha256:{self._diff.hexdigest()}", self._size, blob=blob)

    def _add_file(self, entry: Entry, source: Path) -> None:
        with open(source, "rb", buffering=0) as content:
            size = left = os.fstat(content.fileno()).st_size
            self._write(_header(entry, size))
            while left:
                chunk = content.read(min(left, _CHUNK))
                if not chunk:
                    break
                left -= len(chunk)
                self._write(chunk)
            if left or content.read(1):
                raise PackError(
                    f"{source} was changed while it was packed", cure="pack again once it is at rest"
                )
        self._write(tarformat.padding(size))

    def _write(self, data: bytes) -> None:
        if len(data) < _ASIDE:
            self._diff.update(data)
            self._store(self._deflate.compress(data))
            return
        # Both let other threads run meanwhile: a large layer takes a third less time on two processors.
        counted = self._aside.submit(self._diff.update, data)
        self._store(self._deflate.compress(data))
        counted.result()

    def _store(self, data: bytes) -> None:
        if not data:
            return
        self._digest.update(data)
        self._size += len(data)
        try:
            written = 0
            while written < len(data):
                written += self._file.write(data[written:]) or 0
        except OSError as problem:
            if problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise no_room(self._out_dir, problem) from problem
            raise


def no_room(folder: Path, problem: OSError) -> PackError:
    """The error for a full disk, which names the folder that can be moved or cleaned."""
    return PackError(
        f"no room for an image below {folder}",
        why=str(problem.strerror or problem),
        cure="free some disk, or set TMPDIR and XDG_CACHE_HOME to a larger one",
    )


def _entry(path: Path, at: str, found: os.stat_result, uid: int | None, gid: int | None) -> Entry:
    mode = stat.S_IMODE(found.st_mode)
    owner = (found.st_uid if uid is None else uid, found.st_gid if gid is None else gid)
    if stat.S_ISDIR(found.st_mode):
        return Entry.folder(at, mode, *owner)
    if stat.S_ISLNK(found.st_mode):
        link = os.readlink(path)  # noqa: PTH115  a Path would tidy the text up
        return Entry.symlink(at, link, *owner, mode=mode)
    if stat.S_ISREG(found.st_mode):
        return Entry.file(at, path, mode, *owner)
    raise PackError(
        f"{path} can't be packed", why="it is a device or a pipe", cure="take it out of the folder"
    )


def _header(entry: Entry, size: int) -> bytes:
    kinds = {"file": tarformat.FILE, "folder": tarformat.FOLDER, "symlink": tarformat.SYMLINK}
    if not entry.path.startswith("/") or "\0" in entry.path + entry.link:
        raise PackError(f"'{entry.path}' is no path in an image", why="it starts with / and holds no NUL")
    return tarformat.header(
        os.fsencode(entry.path),
        kinds[entry.kind],
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        size=size,
        link=os.fsencode(entry.link),
    )
