"""The environment of detect and build: the rules of the Buildpack API, and nothing of our own.

Nothing of this process's environment gets through: what a buildpack sees is the base image's PATH, the
`CNB_*` variables, what earlier buildpacks' layers say, and what the user gave for the build.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from koalja_fn.pack import tomls
from koalja_fn.pack.buildpack import Buildpack, Machine

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOME = "/home/cnb"
BUILD_PATHS = {
    "PATH": "bin",
    "LD_LIBRARY_PATH": "lib",
    "LIBRARY_PATH": "lib",
    "CPATH": "include",
    "PKG_CONFIG_PATH": "pkgconfig",
}
INHERITED = (*BUILD_PATHS, "CNB_STACK_ID")
"""What buildpacks see of the base image's variables."""
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def of_machine(machine: Machine) -> dict[str, str]:
    """The `CNB_TARGET_*` variables; what is not known is not set."""
    known = {
        "CNB_TARGET_OS": machine.os,
        "CNB_TARGET_ARCH": machine.arch,
        "CNB_TARGET_ARCH_VARIANT": machine.variant,
        "CNB_TARGET_DISTRO_NAME": machine.distro,
        "CNB_TARGET_DISTRO_VERSION": machine.distro_version,
    }
    return {name: value for name, value in known.items() if value}


def with_user(base: Mapping[str, str], user: Mapping[str, str], buildpack: Buildpack) -> dict[str, str]:
    """What a buildpack is run with: the user's variables on top, unless it asks for a clear environment."""
    environ = dict(base)
    if buildpack.clear_env:
        return environ
    for name, value in user.items():
        if name in BUILD_PATHS and environ.get(name):
            environ[name] = f"{value}{os.pathsep}{environ[name]}"
        else:
            environ[name] = value
    return environ


class LayerEnvironment:
    """A set of variables that layers modify, one after the other."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = dict(variables)

    def add_buildpack(
        self, layers: Iterable[tuple[Path, str]], paths: Mapping[str, str], folders: tuple[str, ...]
    ) -> None:
        """Add one buildpack's layers, each as its folder here and its path as programs will know it.

        Paths of later buildpacks come first; those of one buildpack are in alphabetical order.
        """
        ordered = sorted(layers, key=lambda one: one[0].name)
        for name, child in paths.items():
            found = [f"{seen}/{child}" for here, seen in ordered if os.path.lexists(here / child)]
            before = self.variables.get(name)
            if found:
                self.variables[name] = os.pathsep.join([*found, *([before] if before else [])])
        for here, _ in ordered:
            self._add_files([here / folder for folder in folders], here)

    def _add_files(self, folders: list[Path], layer: Path) -> None:
        delimiters: dict[str, str] = {}
        found: list[tuple[str, str, str]] = []
        for folder in folders:
            if not folder.is_dir() or not folder.resolve().is_relative_to(layer.resolve()):
                continue
            for path in sorted(folder.iterdir()):
                name, _, action = path.name.partition(".")
                data = tomls.read_bytes(path)
                if data is None or not VARIABLE.fullmatch(name):
                    continue
                text = data.decode("utf-8", "surrogateescape")
                if action == "delim":
                    delimiters[name] = text
                else:
                    found.append((name, action, text))
        for name, action, text in found:
            self._modify(name, action, text, delimiters.get(name, ""))

    def _modify(self, name: str, action: str, text: str, delimiter: str) -> None:
        before = self.variables.get(name, "")
        if action in ("", "override"):
            self.variables[name] = text
        elif action == "default":
            self.variables[name] = before or text
        elif action == "append":
            self.variables[name] = f"{before}{delimiter}{text}" if before else text
        elif action == "prepend":
            self.variables[name] = f"{text}{delimiter}{before}" if before else text
