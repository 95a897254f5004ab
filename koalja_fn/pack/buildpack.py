"""Buildpacks: what their `buildpack.toml` says, and where to find the ones that others name.

A component has `bin/detect` and `bin/build`; a composite has an order of others. Terms and rules are those
of the Buildpack API, 0.7 to 0.12.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from koalja_fn.pack import tomls
from koalja_fn.pack.errors import PhaseError

APIS = tuple((0, minor) for minor in range(7, 13))
_ID = re.compile(r"[A-Za-z0-9./_-]+")
_API = re.compile(r"(\d+)(?:\.(\d+))?")
_RESERVED = frozenset({"app", "config", "generated", "sbom"})
_FILE = "buildpack.toml"


@dataclass(frozen=True, slots=True)
class Machine:
    """What an image runs on: the run image's platform and its Linux distribution."""

    os: str
    arch: str
    variant: str = ""
    distro: str = ""
    distro_version: str = ""

    def __str__(self) -> str:
        parts = [part for part in (self.os, self.arch, self.variant) if part]
        return "/".join(parts) + (f" ({self.distro} {self.distro_version})".rstrip() if self.distro else "")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One `[[targets]]` entry: what is not said matches anything."""

    os: str = ""
    arch: str = ""
    variant: str = ""
    distros: tuple[tuple[str, str], ...] = ()

    def fits(self, machine: Machine) -> bool:
        """Whether a base image of that kind will do."""
        mine = ((self.os, machine.os), (self.arch, machine.arch), (self.variant, machine.variant))
        if any(asked and had and asked != had for asked, had in mine):
            return False
        if not self.distros or not machine.distro:
            return True
        return any(
            name in ("", machine.distro) and version in ("", machine.distro_version)
            for name, version in self.distros
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """A buildpack as an order names it; without a version any will do."""

    id: str
    version: str = ""
    optional: bool = False
    exec_env: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.id}@{self.version}" if self.version else self.id


Order = tuple[tuple[Entry, ...], ...]


@dataclass(frozen=True, slots=True)
class Buildpack:
    """A buildpack in a folder. `order` is empty for a component."""

    id: str
    version: str
    api: tuple[int, int]
    folder: Path
    homepage: str = ""
    clear_env: bool = False
    targets: tuple[Wanted, ...] = ()
    order: Order = ()
    exec_env: tuple[str, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def key(self) -> str:
        """Its id as the name of a folder."""
        return self.id.replace("/", "_")

    @property
    def api_text(self) -> str:
        """Its API as its toml writes it."""
        return ".".join(map(str, self.api))

    def fits(self, machine: Machine) -> bool:
        """Whether it says that it works on such a base image; without targets that is any Linux."""
        return any(wanted.fits(machine) for wanted in self.targets or (Wanted("linux"),))

    def __str__(self) -> str:
        return f"{self.id}@{self.version}"


def read_buildpack(folder: Path) -> Buildpack:
    """The buildpack in a folder.

    Raises:
        PhaseError: There is none, or its toml breaks a rule; all that is wrong is told.
    """
    path = folder / _FILE
    if not path.is_file():
        raise PhaseError(f"{folder} is no buildpack", phase="detect", why=f"there is no {_FILE}")
    try:
        data = tomls.read_toml(path, phase="detect")
        return _read(data, folder)
    except PhaseError as error:
        error.what = f"the buildpack in {folder}: {error.what}"
        raise


def _read(data: dict[str, Any], folder: Path) -> Buildpack:
    wrong: list[str] = []
    about = data.get("buildpack")
    about = about if isinstance(about, dict) else {}
    name, version = str(about.get("id", "")), str(about.get("version", ""))
    if not _ID.fullmatch(name) or name in _RESERVED or ".." in name.split("/") or name.startswith("/"):
        wrong.append(f"buildpack.id {name!r} is not allowed: letters, digits, '.', '/' and '-'")
    if not re.fullmatch(r"[\w.+-]+", version) or ".." in version:
        wrong.append(f"buildpack.version {version!r} is not allowed: X.Y.Z")
    api = _API.fullmatch(str(data.get("api", "")))
    pair = (int(api[1]), int(api[2] or 0)) if api else (0, 0)
    if pair not in APIS:
        wrong.append(f"api {data.get('api')!r} is not spoken here: 0.{APIS[0][1]} to 0.{APIS[-1][1]}")
    order = _order(data, wrong)
    if not order:
        wrong += [
            f"bin/{what} is missing or not executable"
            for what in ("detect", "build")
            if not _runs(folder, what)
        ]
    elif data.get("targets") or data.get("stacks"):
        wrong.append("a composite buildpack has an order and no targets")
    if wrong:
        raise PhaseError("it can't be used", phase="detect", why="; ".join(wrong))
    return Buildpack(
        name,
        version,
        pair,
        folder.resolve(),
        str(about.get("homepage", "")),
        bool(about.get("clear-env", False)),
        _targets(data),
        order,
        _names(about.get("exec-env")),
        data,
    )


def _runs(folder: Path, what: str) -> bool:
    path = folder / "bin" / what
    return path.is_file() and bool(path.stat().st_mode & 0o111)


def _names(found: object) -> tuple[str, ...]:
    """The execution environments of a table or a list."""
    some = found if isinstance(found, list) else []
    return tuple(str(one.get("name", "")) if isinstance(one, dict) else str(one) for one in some)


def _order(data: dict[str, Any], wrong: list[str]) -> Order:
    groups: list[tuple[Entry, ...]] = []
    for group in tomls.tables(data, "order", phase="detect", where=_FILE):
        entries = tomls.tables(group, "group", phase="detect", where=_FILE)
        if not entries:
            wrong.append("a group of the order is empty")
        for entry in entries:
            if not entry.get("id"):
                wrong.append("an entry of the order has no id")
        groups.append(tuple(entry_of(entry) for entry in entries))
    return tuple(groups)


def entry_of(data: Mapping[str, Any]) -> Entry:
    """An order's entry out of its table."""
    return Entry(
        str(data.get("id", "")),
        str(data.get("version", "")),
        bool(data.get("optional", False)),
        _names(data.get("exec-env")),
    )


def read_order(path: Path) -> Order:
    """The order in an `order.toml`."""
    wrong: list[str] = []
    order = _order(tomls.read_toml(path, phase="detect"), wrong)
    if wrong or not order:
        raise PhaseError(f"{path.name} has no usable order", phase="detect", why="; ".join(wrong))
    return order


def _targets(data: dict[str, Any]) -> tuple[Wanted, ...]:
    found = [
        Wanted(
            str(one.get("os", "")),
            str(one.get("arch", "")),
            str(one.get("variant", "")),
            tuple(
                (str(d.get("name", "")), str(d.get("version", "")))
                for d in tomls.tables(one, "distros", phase="detect", where=_FILE)
            ),
        )
        for one in tomls.tables(data, "targets", phase="detect", where=_FILE)
    ]
    stacks = {str(one.get("id")) for one in tomls.tables(data, "stacks", phase="detect", where=_FILE)}
    if "*" in stacks:
        found.append(Wanted())
    if "io.buildpacks.stacks.bionic" in stacks:
        found.append(Wanted("linux", "amd64", "", (("ubuntu", "18.04"),)))
    return tuple(found)


class Shelf:
    """The buildpacks at hand, by id and version."""

    def __init__(self, folders: Iterable[Path] = ()) -> None:
        self._found: dict[str, dict[str, Buildpack]] = {}
        for folder in folders:
            self.add(folder)

    def add(self, folder: Path) -> list[Buildpack]:
        """Take a buildpack, those that its `package.toml` names by path, or a folder ID/VERSION of many."""
        if (folder / _FILE).is_file():
            own = read_buildpack(folder)
            if own.version not in self._found.setdefault(own.id, {}):
                self._found[own.id][own.version] = own
                for other in _dependencies(folder):
                    self.add(other)
            return [own]
        inner = sorted(p.parent for p in folder.glob(f"*/*/{_FILE}")) or sorted(
            p.parent for p in folder.glob(f"*/{_FILE}")
        )
        if not inner:
            read_buildpack(folder)  # raises: it says what is missing
        return [one for path in inner for one in self.add(path)]

    def find(self, entry: Entry) -> Buildpack:
        """The buildpack that an order means.

        Raises:
            PhaseError: It is not here.
        """
        versions = self._found.get(entry.id, {})
        if entry.version in versions:
            return versions[entry.version]
        if versions and not entry.version:
            return versions[max(versions, key=_sortable)]
        here = ", ".join(sorted(str(b) for some in self._found.values() for b in some.values())) or "none"
        raise PhaseError(
            f"the order names the buildpack {entry}, which is not here",
            phase="detect",
            why=f"at hand: {here}",
            cure="give its folder, too: --buildpack FOLDER",
        )

    def __iter__(self) -> Iterator[Buildpack]:
        return (one for some in self._found.values() for one in some.values())


def _dependencies(folder: Path) -> Iterator[Path]:
    for one in tomls.read_toml(folder / "package.toml", phase="detect").get("dependencies", []):
        uri = str(one.get("uri", ""))
        if uri and "://" not in uri and (folder / uri / _FILE).is_file():
            yield folder / uri


def _sortable(version: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(part) if part.isdigit() else -1, part) for part in version.split("."))


def _left_out(path: Path) -> bool:
    collected = path.parent.name == "wheels" and path.name != "digest"
    return collected or "__pycache__" in path.parts or path.name == ".lock"


def digest_of(buildpacks: Iterable[Buildpack]) -> str:
    """A digest of everything in some buildpacks' folders: names, executable bits and contents.

    For collected wheels their common digest stands: archives carry the time of their making.
    """
    total = hashlib.sha256()
    for one in sorted(buildpacks, key=str):
        total.update(f"{one}\0".encode())
        for path in sorted(p for p in one.folder.rglob("*") if not _left_out(p)):
            relative = path.relative_to(one.folder).as_posix()
            if path.is_symlink():
                total.update(f"l {relative}\0{path.readlink()}\0".encode())
            elif path.is_file():
                total.update(f"f {relative}\0{int(os.access(path, os.X_OK))}\0".encode())
                with path.open("rb") as file:
                    total.update(hashlib.file_digest(file, "sha256").digest())
    return "sha256:" + total.hexdigest()
