"""Putting the members of one layer after another into a folder, and nowhere else.

Names are resolved as the image's own programs would: links are followed, but the folder is their root
and `..` ends there. The folder is private until it is finished, so nobody changes it meanwhile.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from pathlib import Path

from koalja_fn.errors import Damaged

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_MOST_LINKS = 40
_CHUNK = 1 << 20


class Tree:
    """A file system under construction."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._written: set[str] = set()
        self._modes: dict[str, tuple[int, int]] = {}
        self._owners = os.geteuid() == 0
        self._parents: dict[str, str] = {}

    def begin_layer(self) -> None:
        """Whiteouts from here on hide what was there until now."""
        self._written.clear()

    def put(self, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        """Put one member in its place."""
        folder, _, name = _clean(member.name).rpartition("/")
        if not name:
            if member.isdir():
                self._modes[self._root] = (member.mode, _time(member))
            return
        parent = self._parent(folder)
        if name == _OPAQUE:
            self._empty(parent)
            return
        if name.startswith(_WHITEOUT):
            hidden = _plain(name.removeprefix(_WHITEOUT), member)
            self._remove(f"{parent}/{hidden}")
            return
        path = f"{parent}/{name}"
        if self._place(path, member, archive):
            self._note(path)

    def finish(self) -> None:
        """Give folders their modes and times, deepest first, now that nothing is written into them."""
        for path in sorted(self._modes, key=len, reverse=True):
            mode, mtime = self._modes[path]
            if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
                os.utime(path, (mtime, mtime))
                os.chmod(path, mode & 0o1777 | 0o700)  # noqa: PTH101

    def _place(self, path: str, member: tarfile.TarInfo, archive: tarfile.TarFile) -> bool:
        if member.isdir():
            self._folder(path, member)
        elif member.isreg():
            self._file(path, member, archive)
        elif member.issym():
            if not member.linkname or "\0" in member.linkname:
                raise Damaged(f"'{member.name}' in a layer is a link to nothing")
            self._remove(path)
            os.symlink(member.linkname, path)  # noqa: PTH211
            self._own(path, member)
        elif member.islnk():
            return self._hard_link(path, member)
        else:
            return False
        return True

    def _folder(self, path: str, member: tarfile.TarInfo) -> None:
        found = _look(path)
        if found is not None and not stat.S_ISDIR(found):
            self._remove(path)
            found = None
        if found is None:
            os.mkdir(path, 0o700)  # noqa: PTH102
        self._own(path, member)
        self._modes[path] = (member.mode, _time(member))

    def _file(self, path: str, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        self._remove(path)
        source = archive.extractfile(member)
        assert source is not None
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "wb") as file:
            shutil.copyfileobj(source, file, _CHUNK)
            if self._owners:
                os.fchown(descriptor, member.uid, member.gid)
            os.fchmod(descriptor, member.mode & 0o777)  # no set-id bits: nothing here is run with rights
        os.utime(path, (_time(member), _time(member)))

    def _hard_link(self, path: str, member: tarfile.TarInfo) -> bool:
        folder, _, name = _clean(member.linkname).rpartition("/")
        source = f"{self._parent(folder)}/{name}" if name else self._root
        if source == path:
            return True
        found = _look(source)
        if found is None or stat.S_ISDIR(found):
            raise Damaged(f"'{member.name}' in a layer is a link to nothing", why=f"'{member.linkname}'")
        self._remove(path)
        os.link(source, path, follow_symlinks=False)
        return True

    def _own(self, path: str, member: tarfile.TarInfo) -> None:
        if self._owners:
            os.chown(path, member.uid, member.gid, follow_symlinks=False)

    def _parent(self, folder: str) -> str:
        """The real path of a folder of the image; what is missing is made."""
        known = self._parents.get(folder)
        if known is None:
            known = self._parents[folder] = self._resolved(folder)
        return known

    def _resolved(self, folder: str) -> str:
        left = [part for part in reversed(folder.split("/")) if part]
        here, links = self._root, 0
        while left:
            part = left.pop()
            if part in ("", "."):
                continue
            if part == "..":
                here = here if here == self._root else here.rpartition("/")[0]
                continue
            path = f"{here}/{part}"
            found = _look(path)
            if found is not None and stat.S_ISLNK(found):
                links += 1
                if links > _MOST_LINKS:
                    raise Damaged(f"'{folder}' in a layer is behind too many links")
                to = os.readlink(path)  # noqa: PTH115
                here = self._root if to.startswith("/") else here
                left += reversed(to.split("/"))
                continue
            if found is None or not stat.S_ISDIR(found):
                if found is not None:
                    self._remove(path)
                os.mkdir(path, 0o755)  # noqa: PTH102
                self._note(path)
            here = path
        return here

    def _note(self, path: str) -> None:
        self._written.add(path)

    def _remove(self, path: str) -> None:
        found = _look(path)
        if found is None:
            return
        if stat.S_ISDIR(found):
            shutil.rmtree(path)
            for known in [one for one in self._modes if one == path or one.startswith(f"{path}/")]:
                del self._modes[known]
        else:
            os.unlink(path)  # noqa: PTH108
        if stat.S_ISDIR(found) or stat.S_ISLNK(found):
            self._parents.clear()

    def _empty(self, folder: str) -> None:
        """Hide what lower layers put into a folder; what this layer wrote stays, wherever it is below."""
        kept = {folder}
        for path in self._written:
            while path not in kept and path.startswith(f"{folder}/"):
                kept.add(path)
                path = path.rpartition("/")[0]
        self._prune(folder, kept)

    def _prune(self, folder: str, kept: set[str]) -> None:
        for name in os.listdir(folder):  # noqa: PTH208
            path = f"{folder}/{name}"
            if path not in kept:
                self._remove(path)
            elif stat.S_ISDIR(_look(path) or 0):
                self._prune(path, kept)


def _look(path: str) -> int | None:
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return None


def _time(member: tarfile.TarInfo) -> int:
    """The member's time, as far as file systems can hold it."""
    return int(min(max(member.mtime, 0), 1 << 33))


def _clean(name: str) -> str:
    """The name as a path below the root; one with `..` in it is refused."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in name:
        raise Damaged(f"a layer holds '{name}'", why="that name leads out of the image")
    return "/".join(parts)


def _plain(name: str, member: tarfile.TarInfo) -> str:
    if name in ("", ".", ".."):
        raise Damaged(f"a layer holds '{member.name}'", why="that whiteout hides no name")
    return name
