"""What a base image is: its machine, its distribution and its Python, read from its root file system."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from koalja_fn.pack.buildpack import Machine
from koalja_fn.pack.oci.image import BaseImage

OLDEST = (3, 11)
_DISTRO, _DISTRO_VERSION = "io.buildpacks.base.distro.name", "io.buildpacks.base.distro.version"
_PYTHON = re.compile(r"python3\.(\d+)")


def machine_of(base: BaseImage, rootfs: Path) -> Machine:
    """The target that buildpacks are told of."""
    platform, labels = base.platform, base.labels
    release = _release(rootfs)
    return Machine(
        platform.os or "linux",
        platform.architecture,
        platform.variant,
        labels.get(_DISTRO) or release.get("ID", ""),
        labels.get(_DISTRO_VERSION) or release.get("VERSION_ID", ""),
    )


def _release(rootfs: Path) -> dict[str, str]:
    for name in ("etc/os-release", "usr/lib/os-release"):
        path = rootfs / name
        if path.is_file() and path.resolve().is_relative_to(rootfs.resolve()):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
            return {key.strip(): "".join(shlex.split(value)[:1]) for key, _, value in pairs}
    return {}


def python_of(rootfs: Path) -> tuple[str, str]:
    """Path and version (`3.11`) of the image's Python; both empty without one that is new enough."""
    for folder in ("usr/local/bin", "usr/bin"):
        generic = rootfs / folder / "python3"
        if not generic.is_symlink():
            continue
        found = _PYTHON.fullmatch(generic.readlink().name)
        if found and (3, int(found[1])) >= OLDEST:
            return f"/{folder}/python3", f"3.{found[1]}"
    return "", ""
