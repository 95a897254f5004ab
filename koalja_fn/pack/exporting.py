"""The export phase: layers, configuration and labels of the image, as the lifecycle would write them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from koalja_fn.pack import launcher, tomls
from koalja_fn.pack.building import Contribution, LayerFolder, Process, combined
from koalja_fn.pack.errors import PhaseError
from koalja_fn.pack.oci.image import BaseImage, Image, compose
from koalja_fn.pack.oci.layer import Entry, layer_from_tree, parents, tree
from koalja_fn.pack.oci.values import Layer
from koalja_fn.pack.site import Site

OWNER = 1000
"""User and group of the application's and the buildpacks' files, and of the processes."""

PLATFORM_API = "0.15"
LAUNCHER, PROCESSES = "/cnb/lifecycle/launcher", "/cnb/process"
LIFECYCLE_LABEL = "io.buildpacks.lifecycle.metadata"
BUILD_LABEL = "io.buildpacks.build.metadata"
PROJECT_LABEL = "io.buildpacks.project.metadata"
REBASABLE_LABEL = "io.buildpacks.rebasable"


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished image, and each buildpack's launch layers in it: {buildpack id: {layer name: layer}}."""

    image: Image
    layers: Mapping[str, Mapping[str, Layer]]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A layer of the image with its line of history."""

    layer: Layer
    line: str


def export(
    contributions: Sequence[Contribution],
    site: Site,
    base: BaseImage,
    base_name: str,
    previous: BaseImage | None,
    out: Path,
    interpreter: str,
    labels: Mapping[str, str],
) -> Exported:
    """Make the image of a build; the layers' blobs are left in `out`.

    `interpreter` is the base image's Python, for the launcher; `base_name` is empty where the base lies in a
    folder, whose path is nobody's business. `previous` has the layers that are used again.

    Raises:
        PhaseError: A layer to be used again is nowhere.
    """
    processes, default = combined(contributions)
    before = Previous(previous)
    made = {one.buildpack.id: _launch_layers(one, site, before, out) for one in contributions}
    pieces = [
        _Piece(layer, f"Layer: '{name}', Created by buildpack: {one.buildpack}")
        for one in contributions
        for name, layer in made[one.buildpack.id].items()
    ]
    sbom = _sbom_layer(contributions, site, out)
    if sbom is not None:
        pieces.append(_Piece(sbom, "Software Bill-of-Materials"))
    app = [_Piece(layer, "Application Layer") for layer in _app_layers(contributions, site, out)]
    launching = _launcher_layer(out, interpreter)
    config = _config_layer(contributions, processes, default, site, out)
    types = _types_layer(processes, out)
    pieces += [*app, _Piece(launching, "Application Launcher"), _Piece(config, "Buildpacks Launcher Config")]
    pieces += [_Piece(types, "Buildpacks Process Types")] if types else []
    told = {
        "app": [{"sha": piece.layer.diff_id} for piece in app],
        "sbom": {"sha": sbom.diff_id} if sbom else None,
        "config": {"sha": config.diff_id},
        "launcher": {"sha": launching.diff_id},
        "process-types": {"sha": types.diff_id} if types else None,
        "buildpacks": [_told(one, made[one.buildpack.id]) for one in contributions],
        "runImage": {"topLayer": base.top_layer, "reference": base.digest}
        | ({"image": base_name} if base_name else {}),
    }
    image = compose(
        base,
        [piece.layer for piece in pieces],
        changes=_changes(site, base, default),
        env=_env(site, base),
        labels={
            LIFECYCLE_LABEL: _json({key: value for key, value in told.items() if value is not None}),
            BUILD_LABEL: _json(_build_metadata(contributions, processes)),
            PROJECT_LABEL: "{}",
            REBASABLE_LABEL: "false" if site.sandbox.on_host else "true",
            **dict(pair for one in contributions for pair in one.labels),
            **labels,
        },
        history=[piece.line for piece in pieces],
    )
    return Exported(image, made)


class Previous:
    """What the last image of the same name knows of its launch layers."""

    def __init__(self, image: BaseImage | None) -> None:
        self._layers = {layer.diff_id: layer for layer in image.layers} if image else {}
        try:
            data = json.loads(image.labels.get(LIFECYCLE_LABEL, "{}")) if image else {}
        except ValueError:
            data = {}
        self.buildpacks: dict[str, dict[str, Any]] = {
            str(one.get("key")): one for one in data.get("buildpacks") or [] if isinstance(one, dict)
        }

    def layers_of(self, buildpack: str) -> dict[str, dict[str, Any]]:
        """What the label says of a buildpack's layers."""
        found = self.buildpacks.get(buildpack, {}).get("layers")
        return dict(found) if isinstance(found, dict) else {}

    def store_of(self, buildpack: str) -> dict[str, Any]:
        """The `store.toml` that a buildpack left."""
        store = self.buildpacks.get(buildpack, {}).get("store")
        return dict(store) if isinstance(store, dict) else {}

    def layer(self, buildpack: str, name: str) -> Layer | None:
        """The layer itself, if it is really in the image."""
        return self._layers.get(str(self.layers_of(buildpack).get(name, {}).get("sha", "")))


def _launch_layers(one: Contribution, site: Site, before: Previous, out: Path) -> dict[str, Layer]:
    found: dict[str, Layer] = {}
    for layer in one.layers:
        if not layer.launch:
            continue
        if layer.present:
            at = _in_image(site, layer.folder)
            inside = tree(layer.folder, at, OWNER, OWNER)
            found[layer.name] = layer_from_tree([*_parents(at, site), *inside], out)
            continue
        old = before.layer(one.buildpack.id, layer.name)
        if old is None:
            raise PhaseError(
                f"{one.buildpack} wants to use its layer '{layer.name}' again, which is nowhere",
                phase="export",
                why="it left no folder, and the last image has no such layer",
            )
        found[layer.name] = old
    return found


def _in_image(site: Site, path: Path) -> str:
    return site.seen(path)


def _parents(at: str, site: Site) -> Iterator[Entry]:
    """Folders above a layer: in the folder of layers the build's user's, above it root's."""
    root = _in_image(site, site.layers)
    for entry in parents(at):
        own = entry.path == root or entry.path.startswith(f"{root}/")
        yield Entry.folder(entry.path, 0o755, OWNER, OWNER) if own else entry


def _told(one: Contribution, made: Mapping[str, Layer]) -> dict[str, Any]:
    layers = {
        layer.name: {
            "sha": made[layer.name].diff_id,
            "data": _plain(layer.metadata),
            "build": layer.build,
            "launch": True,
            "cache": layer.cache,
        }
        for layer in one.layers
        if layer.launch
    }
    told: dict[str, Any] = {"key": one.buildpack.id, "version": one.buildpack.version, "layers": layers}
    if one.store:
        told["store"] = _plain(one.store)
    return told


def _plain(data: Any) -> Any:
    """TOML as JSON can say it: dates become text."""
    return json.loads(json.dumps(data, default=str))


def _json(data: object) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _sbom_layer(contributions: Sequence[Contribution], site: Site, out: Path) -> Layer | None:
    files: dict[str, Path] = {}
    root = _in_image(site, site.layers) + "/sbom/launch"
    for one in contributions:
        for ending, path in one.sboms.items():
            files[f"{root}/{one.buildpack.key}/sbom.{ending}"] = path
        for layer in one.layers:
            if layer.launch:
                for ending, path in layer.sboms.items():
                    files[f"{root}/{one.buildpack.key}/{layer.name}/sbom.{ending}"] = path
    if not files:
        return None
    entries = [Entry.file(at, tomls.read_bytes(path) or b"", 0o644, OWNER, OWNER) for at, path in files.items()]
    return layer_from_tree([*(e for at in files for e in parents(at)), *entries], out)


def _app_layers(contributions: Sequence[Contribution], site: Site, out: Path) -> list[Layer]:
    """One layer for each slice that matches something, and one for the rest."""
    at = _in_image(site, site.app)
    rest = {entry.path: entry for entry in tree(site.app, at, OWNER, OWNER)}
    above = {entry.path: entry for entry in rest.values() if entry.kind == "folder"}
    made: list[Layer] = []
    for patterns in (patterns for one in contributions for patterns in one.slices):
        chosen = {p: rest[p] for p in _matching(patterns, rest, at)}
        if chosen:
            made.append(_app_layer(chosen.values(), above, at, out))
            for path in chosen:
                del rest[path]
    made.append(_app_layer(rest.values(), above, at, out))
    return made


def _app_layer(entries: Iterable[Entry], folders: Mapping[str, Entry], at: str, out: Path) -> Layer:
    chosen = {entry.path: entry for entry in entries}
    for path in list(chosen):
        while len(path) > len(at):
            path = path.rpartition("/")[0]
            chosen.setdefault(path, folders[path])
    return layer_from_tree([*parents(at), *chosen.values()], out, order="path")


def _matching(patterns: Iterable[str], entries: Mapping[str, Entry], at: str) -> set[str]:
    """Paths that a pattern of Go's filepath.Match names, and all below them."""
    hits: set[str] = set()
    for pattern in patterns:
        inside = pattern if pattern.startswith("/") else os.path.normpath(f"{at}/{pattern}")
        if inside != at and not inside.startswith(f"{at}/"):
            raise PhaseError(f"the slice '{pattern}' leaves the application's folder", phase="export")
        words = [re.sub(r"\[\^", "[!", word) for word in inside.split("/")]
        for path in entries:
            parts = path.split("/")
            if len(parts) == len(words) and all(map(fnmatchcase, parts, words)):
                hits.add(path)
    return {path for path in entries if any(path == hit or path.startswith(f"{hit}/") for hit in hits)}


def _launcher_layer(out: Path, interpreter: str) -> Layer:
    given = os.environ.get("KOALJA_CNB_LAUNCHER")
    if given:
        try:
            content = Path(given).read_bytes()
        except OSError as error:
            raise PhaseError("the launcher that KOALJA_CNB_LAUNCHER names can't be read", phase="export", why=str(error)) from error
    else:
        content = launcher_text(interpreter)
    folders = [Entry.folder(path) for path in ("/cnb", "/cnb/lifecycle")]
    return layer_from_tree([*folders, Entry.file(LAUNCHER, content, 0o755)], out, order="given")


def launcher_text(interpreter: str) -> bytes:
    """Our launcher for an image whose Python is at `interpreter`."""
    if not interpreter:
        raise PhaseError(
            "the run image has no Python of version 3.11 or newer",
            phase="export",
            why="the launcher of koalja-fn and the runtime are written in it",
            cure="name a run image with Python, such as python:3.12-slim",
        )
    text = Path(launcher.__file__).read_bytes()
    return f"#!{interpreter} -IS\n".encode() + text.split(b"\n", 1)[1]


def _types_layer(processes: Sequence[Process], out: Path) -> Layer | None:
    if not processes:
        return None
    links = [Entry.symlink(f"{PROCESSES}/{process.type}", LAUNCHER) for process in processes]
    return layer_from_tree([Entry.folder("/cnb"), Entry.folder(PROCESSES), *links], out, order="given")


def _config_layer(
    contributions: Sequence[Contribution], processes: Sequence[Process], default: str, site: Site, out: Path
) -> Layer:
    data: dict[str, Any] = {}
    if default:
        data["buildpack-default-process-type"] = default
    data["buildpacks"] = [
        _without_empty(
            {"id": b.id, "version": b.version, "api": b.api_text, "homepage": b.homepage}
        )
        for b in (one.buildpack for one in contributions)
    ]
    replaced = {one.buildpack.id: one.buildpack.api >= (0, 9) for one in contributions}
    data["processes"] = [
        {**_process(process), "buildpack-id": process.buildpack}
        | ({} if replaced[process.buildpack] else {"koalja-args-replaced": False})
        for process in processes
    ]
    data["slices"] = [{"paths": list(paths)} for one in contributions for paths in one.slices]
    root = _in_image(site, site.layers)
    path = f"{root}/config/metadata.toml"
    entry = Entry.file(path, tomls.dump({k: v for k, v in data.items() if v}).encode(), 0o644, OWNER, OWNER)
    return layer_from_tree([*parents(path), entry], out)


def _without_empty(data: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in data.items() if value}


def _process(process: Process) -> dict[str, Any]:
    told: dict[str, Any] = {
        "type": process.type,
        "command": list(process.command),
        "args": list(process.args),
        "direct": process.direct,
    }
    if process.working_dir:
        told["working-dir"] = process.working_dir
    if process.default:
        told["default"] = True
    if process.exec_env != ("*",):
        told["exec-env"] = list(process.exec_env)
    return told


def _build_metadata(contributions: Sequence[Contribution], processes: Sequence[Process]) -> dict[str, Any]:
    return {
        "buildpacks": [
            _without_empty({"id": b.id, "version": b.version, "api": b.api_text, "homepage": b.homepage})
            for b in (one.buildpack for one in contributions)
        ],
        "processes": [{**_process(process), "buildpackID": process.buildpack} for process in processes],
        "launcher": {"version": "koalja-fn", "source": {"git": {"repository": "", "commit": ""}}},
    }


def _changes(site: Site, base: BaseImage, default: str) -> dict[str, object | None]:
    user = str((base.config.get("config") or {}).get("User") or "")
    root = user.partition(":")[0] in ("", "0", "root")
    return {
        "Entrypoint": [f"{PROCESSES}/{default}" if default else LAUNCHER],
        "Cmd": None,
        "WorkingDir": _in_image(site, site.app),
        **({"User": f"{OWNER}:{OWNER}"} if root else {}),
    }


def _env(site: Site, base: BaseImage) -> dict[str, str]:
    from koalja_fn.pack.environment import PATH

    return {
        "PATH": f"{PROCESSES}:/cnb/lifecycle:{base.env.get('PATH') or PATH}",
        "CNB_LAYERS_DIR": _in_image(site, site.layers),
        "CNB_APP_DIR": _in_image(site, site.app),
        "CNB_PLATFORM_API": PLATFORM_API,
    }


def kept_layers(one: Contribution) -> list[LayerFolder]:
    """The layers that go to the cache."""
    return [layer for layer in one.layers if layer.cache and layer.present]
