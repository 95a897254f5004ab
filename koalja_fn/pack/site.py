"""The folders of one build, here and as buildpacks see them, and the sandbox over them."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from koalja_fn.pack import environment
from koalja_fn.pack.buildpack import Buildpack, Machine
from koalja_fn.pack.errors import PhaseError
from koalja_fn.pack.places import cache_folder
from koalja_fn.pack.sandbox import Mount, Ran, Sandbox, give

WORKSPACE, LAYERS, PLATFORM, PLANS, BUILDPACKS = (
    "/workspace",
    "/layers",
    "/platform",
    "/plans",
    "/cnb/buildpacks",
)
EXEC_ENV = "production"
OWNER = 1000
"""User and group of the files in images, and of their processes."""


@dataclass(frozen=True)
class Site:
    """One build: its folders on this machine, what it is for, and where its programs run.

    `user` are the build's variables that the user gave, `base` what the base image's environment says.
    """

    room: Path
    sandbox: Sandbox
    machine: Machine
    user: Mapping[str, str]
    base: Mapping[str, str]
    exec_env: str = EXEC_ENV

    @property
    def app(self) -> Path:
        """The application's folder."""
        return self.room / "workspace"

    @property
    def layers(self) -> Path:
        """Where each buildpack has its folder of layers."""
        return self.room / "layers"

    @property
    def plans(self) -> Path:
        """Scratch for plans."""
        return self.room / "plans"

    @property
    def platform(self) -> Path:
        """What the platform tells the buildpacks."""
        return self.room / "platform"

    def seen(self, path: Path) -> str:
        """Where buildpacks find a path."""
        return self.sandbox.seen(path)

    def folder_of(self, buildpack: Buildpack) -> str:
        """Where a buildpack finds itself."""
        if self.sandbox.on_host:
            return str(self.room / "cnb" / buildpack.key / buildpack.version)
        return f"{BUILDPACKS}/{buildpack.key}/{buildpack.version}"

    def variables(self) -> dict[str, str]:
        """What each program of each buildpack is told."""
        return {
            **{name: self.base[name] for name in environment.INHERITED if self.base.get(name)},
            "PATH": self.base.get("PATH") or environment.PATH,
            "HOME": self.sandbox.home,
            "CNB_PLATFORM_DIR": self.seen(self.platform),
            "CNB_EXEC_ENV": self.exec_env,
            **environment.of_machine(self.machine),
        }

    def run(
        self, buildpack: Buildpack, program: str, arguments: list[str], variables: Mapping[str, str]
    ) -> Ran:
        """Run `bin/detect` or `bin/build` in the application's folder."""
        folder = self.folder_of(buildpack)
        environ = environment.with_user({**variables, "CNB_BUILDPACK_DIR": folder}, self.user, buildpack)
        return self.sandbox.run([f"{folder}/bin/{program}", *arguments], environ, self.seen(self.app))


@contextmanager
def open_site(
    *,
    name: str,
    rootfs: Path | None,
    buildpacks: Iterable[Buildpack],
    machine: Machine,
    user: Mapping[str, str],
    base: Mapping[str, str],
    extra: Mapping[str, Path],
    fill: Iterable[tuple[str, Path]],
) -> Iterator[Site]:
    """A site for the build of the image `name`, removed afterwards.

    `fill` are the application's files as (path in it, file here); `extra` are folders for the platform
    directory, read-only. On the host the paths are part of the image, so they depend on the name alone.
    """
    with _room(name, rootfs is None) as room:
        for folder in ("workspace", "layers", "platform", "platform/env", "plans"):
            (room / folder).mkdir(mode=0o755)
        for variable, value in user.items():
            (room / "platform/env" / variable).write_text(value)
        for inside in extra:
            (room / "platform" / inside).mkdir(mode=0o755)
        _copy(fill, room / "workspace")
        give(room)
        packs = list(buildpacks)
        sandbox = Sandbox(rootfs, _mounts(room, packs, extra))
        with sandbox:
            if sandbox.on_host:
                if rootfs is not None:
                    raise HostOnly(sandbox.why_host)
                _for_host(room, packs, extra)
            yield Site(room, sandbox, machine, user, base)


class HostOnly(Exception):
    """The sandbox can't be entered; the message is why."""


def _mounts(room: Path, buildpacks: list[Buildpack], extra: Mapping[str, Path]) -> list[Mount]:
    return [
        Mount(WORKSPACE, room / "workspace", writable=True),
        Mount(LAYERS, room / "layers", writable=True),
        Mount(PLATFORM, room / "platform"),
        Mount(PLANS, room / "plans", writable=True),
        *(Mount(f"{PLATFORM}/{inside}", path) for inside, path in sorted(extra.items())),
        *(Mount(f"{BUILDPACKS}/{b.key}/{b.version}", b.folder) for b in buildpacks),
    ]


def _for_host(room: Path, buildpacks: list[Buildpack], extra: Mapping[str, Path]) -> None:
    """Copies that an ordinary user can read, wherever the originals are."""
    for one in buildpacks:
        shutil.copytree(one.folder, room / "cnb" / one.key / one.version, symlinks=True)
    for inside, path in extra.items():
        shutil.copytree(path, room / "platform" / inside, symlinks=True, dirs_exist_ok=True)
    give(room)


def _copy(fill: Iterable[tuple[str, Path]], folder: Path) -> None:
    """The application's files with modes that do not depend on whose they were."""
    for inside, path in fill:
        to = folder / inside
        to.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if path.is_symlink():
            to.symlink_to(path.readlink())
            continue
        shutil.copyfile(path, to)
        to.chmod(0o755 if os.access(path, os.X_OK) else 0o644)
    for parent, _, _ in os.walk(folder):
        Path(parent).chmod(0o755)


@contextmanager
def _room(name: str, on_host: bool) -> Iterator[Path]:
    if not on_host:
        room = Path(tempfile.mkdtemp(prefix="koalja-pack-"))
        try:
            room.chmod(0o755)
            yield room
        finally:
            shutil.rmtree(room, ignore_errors=True)
        return
    room = Path("/var/tmp") / f"koalja-{hashlib.sha256(name.encode()).hexdigest()[:12]}"  # noqa: S108  checked below
    with _held(room):
        try:
            yield room
        finally:
            shutil.rmtree(room, ignore_errors=True)


@contextmanager
def _held(room: Path) -> Iterator[None]:
    """Hold a folder of a known name for oneself; somebody else's is never used."""
    locks = cache_folder() / "rooms"
    locks.mkdir(parents=True, exist_ok=True)
    with open(locks / f"{room.name}.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(room, ignore_errors=True)
        try:
            room.mkdir(mode=0o755)
        except OSError as error:
            raise PhaseError(f"can't make {room}", phase="detect", why=str(error)) from error
        room.chmod(0o755)
        yield
