"""The build phase: each buildpack in turn, what it is given, and what it leaves behind."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from koalja_fn.pack import tomls
from koalja_fn.pack.buildpack import Buildpack
from koalja_fn.pack.environment import BUILD_PATHS, LayerEnvironment
from koalja_fn.pack.errors import PhaseError
from koalja_fn.pack.plan import Dependency, Plan
from koalja_fn.pack.sandbox import give
from koalja_fn.pack.site import Site

SBOMS = {
    "cdx.json": "application/vnd.cyclonedx+json",
    "spdx.json": "application/spdx+json",
    "syft.json": "application/vnd.syft+json",
}
_RESERVED = frozenset({"build", "launch", "store"})
_TYPE = re.compile(r"[A-Za-z0-9._-]+")
_DIRECT_SINCE = (0, 9)


@dataclass(frozen=True, slots=True)
class LayerFolder:
    """A layer that a buildpack left: its folder may be missing, where the one of the last image is meant."""

    name: str
    folder: Path
    launch: bool
    build: bool
    cache: bool
    metadata: Mapping[str, Any]
    sboms: Mapping[str, Path]

    @property
    def present(self) -> bool:
        """Whether its content is here."""
        return self.folder.is_dir() and not self.folder.is_symlink()


@dataclass(frozen=True, slots=True)
class Process:
    """A process type of the image."""

    type: str
    command: tuple[str, ...]
    args: tuple[str, ...] = ()
    direct: bool = True
    default: bool = False
    working_dir: str = ""
    exec_env: tuple[str, ...] = ("*",)
    buildpack: str = ""


@dataclass(frozen=True, slots=True)
class Contribution:
    """All that one buildpack left."""

    buildpack: Buildpack
    layers: tuple[LayerFolder, ...] = ()
    processes: tuple[Process, ...] = ()
    slices: tuple[tuple[str, ...], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    store: Mapping[str, Any] = field(default_factory=dict)
    sboms: Mapping[str, Path] = field(default_factory=dict)
    build_sboms: Mapping[str, Path] = field(default_factory=dict)
    output: str = ""


def build(plan: Plan, site: Site, say: Callable[[str], None]) -> list[Contribution]:
    """Run every `bin/build` of the plan, in order.

    Raises:
        PhaseError: One failed, or left what the specification forbids; with its output.
    """
    variables = LayerEnvironment(site.variables())
    open_dependencies = {one.name: one for one in plan.dependencies}
    done: list[Contribution] = []
    for member in plan.members:
        buildpack = member.buildpack
        mine = [d for d in open_dependencies.values() if buildpack.id in d.providers]
        output = _run(buildpack, mine, site, variables.variables, say)
        try:
            left = _left(buildpack, site.layers / buildpack.key, output)
            unmet = _unmet(site.layers / buildpack.key, mine)
        except PhaseError as error:
            error.output = error.output or output
            error.what = f"{buildpack}: {error.what}"
            raise
        for dependency in mine:
            if dependency.name not in unmet:
                del open_dependencies[dependency.name]
        done.append(left)
        built = [layer for layer in left.layers if layer.build and layer.present]
        variables.add_buildpack(
            [(layer.folder, site.seen(layer.folder)) for layer in built], BUILD_PATHS, ("env", "env.build")
        )
    return done


def _run(
    buildpack: Buildpack,
    dependencies: Sequence[Dependency],
    site: Site,
    variables: Mapping[str, str],
    say: Callable[[str], None],
) -> str:
    layers = site.layers / buildpack.key
    layers.mkdir(mode=0o755, exist_ok=True)
    give(layers)
    path = site.plans / f"{buildpack.key}-plan.toml"
    entries = [dict(entry) for dependency in dependencies for entry in dependency.requires]
    path.write_text(tomls.dump({"entries": entries}) if entries else "")
    give(path)
    seen, platform, plan = site.seen(layers), site.seen(site.platform), site.seen(path)
    environ = {**variables, "CNB_LAYERS_DIR": seen, "CNB_BP_PLAN_PATH": plan}
    say(f"builds: {buildpack}")
    ran = site.run(buildpack, "build", [seen, platform, plan], environ)
    if ran.output.strip():
        say(f"[{buildpack.id}] {ran.output.strip()}")
    if ran.status != 0:
        raise PhaseError(
            f"{buildpack} failed with exit status {ran.status}", phase="build", output=ran.output
        )
    return ran.output


def _unmet(folder: Path, dependencies: Sequence[Dependency]) -> set[str]:
    data = tomls.read_toml(folder / "build.toml", phase="build")
    names = {
        str(one.get("name", "")) for one in tomls.tables(data, "unmet", phase="build", where="build.toml")
    }
    strange = names - {dependency.name for dependency in dependencies}
    if strange:
        raise PhaseError(
            f"build.toml says that '{sorted(strange)[0]}' is unmet, which it was never asked for",
            phase="build",
        )
    return names


def _left(buildpack: Buildpack, folder: Path, output: str) -> Contribution:
    launch = tomls.read_toml(folder / "launch.toml", phase="build")
    store = tomls.read_toml(folder / "store.toml", phase="build")
    return Contribution(
        buildpack,
        _layers(folder),
        _processes(launch, buildpack),
        tuple(
            tuple(str(path) for path in one.get("paths", []))
            for one in tomls.tables(launch, "slices", phase="build", where="launch.toml")
        ),
        _labels(launch),
        store,
        _sboms(folder, "launch"),
        _sboms(folder, "build"),
        output,
    )


def _layers(folder: Path) -> tuple[LayerFolder, ...]:
    """The layers by their toml files; a folder without types, or without a toml, is put out of the way."""
    found = []
    names = {p.name for p in folder.iterdir()}
    for name in sorted(n.removesuffix(".toml") for n in names if n.endswith(".toml")):
        if name in _RESERVED:
            if (folder / name).is_dir():
                raise PhaseError(f"a layer must not be called '{name}'", phase="build")
            continue
        data = tomls.read_toml(folder / f"{name}.toml", phase="build")
        types = data.get("types", {})
        if not isinstance(types, dict) or not all(isinstance(v, bool) for v in types.values()):
            raise PhaseError(f"[types] in {name}.toml must hold true or false", phase="build")
        metadata = data.get("metadata", {})
        layer = LayerFolder(
            name,
            folder / name,
            types.get("launch", False),
            types.get("build", False),
            types.get("cache", False),
            metadata if isinstance(metadata, dict) else {},
            _sboms(folder, name),
        )
        if layer.launch or layer.build or layer.cache:
            found.append(layer)
    kept = {layer.name for layer in found}
    for name in names:
        path = folder / name
        if path.is_dir() and not path.is_symlink() and name not in kept and not name.endswith(".ignore"):
            path.rename(folder / f"{name}.ignore")
    return tuple(found)


def _sboms(folder: Path, name: str) -> dict[str, Path]:
    paths = {ending: folder / f"{name}.sbom.{ending}" for ending in SBOMS}
    return {ending: path for ending, path in paths.items() if path.is_file() and not path.is_symlink()}


def _labels(launch: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    found = []
    for one in tomls.tables(launch, "labels", phase="build", where="launch.toml"):
        if not one.get("key"):
            raise PhaseError("a label in launch.toml has no key", phase="build")
        found.append((str(one["key"]), str(one.get("value", ""))))
    return tuple(found)


def _processes(launch: Mapping[str, Any], buildpack: Buildpack) -> tuple[Process, ...]:
    found: list[Process] = []
    for one in tomls.tables(launch, "processes", phase="build", where="launch.toml"):
        kind, command = str(one.get("type", "")), one.get("command", [])
        words = tuple(map(str, command)) if isinstance(command, list) else (str(command),)
        if not _TYPE.fullmatch(kind) or kind in (".", ".."):
            raise PhaseError(
                f"the process type {kind!r} is not allowed", phase="build", why="letters, digits, . _ -"
            )
        if not words or not words[0]:
            raise PhaseError(f"the process '{kind}' has no command", phase="build")
        if any(before.type == kind for before in found):
            raise PhaseError(f"the process type '{kind}' is there twice", phase="build")
        if buildpack.api < _DIRECT_SINCE:
            direct = bool(one.get("direct", False))
        elif "direct" in one or not isinstance(command, list):
            raise PhaseError(
                f"the process '{kind}' must have a list as its command, and no 'direct'",
                phase="build",
                why=f"so it is since API 0.9, and {buildpack} says {buildpack.api_text}",
            )
        else:
            direct = True
        found.append(
            Process(
                kind,
                words,
                tuple(map(str, one.get("args", []))),
                direct,
                bool(one.get("default", False)),
                str(one.get("working-dir", "")),
                tuple(map(str, one.get("exec-env", []))) or ("*",),
                buildpack.id,
            )
        )
    if sum(process.default for process in found) > 1:
        raise PhaseError("two processes of one buildpack are the default", phase="build")
    return tuple(found)


def combined(contributions: Sequence[Contribution]) -> tuple[tuple[Process, ...], str]:
    """All processes, the later of one type standing, and the type of the default one, if any."""
    processes: dict[str, Process] = {}
    default = ""
    for one in contributions:
        for process in one.processes:
            if process.type == default and not process.default:
                default = ""
            if process.default:
                default = process.type
            processes[process.type] = process
    return tuple(processes[kind] for kind in sorted(processes)), default
