"""The export phase: layers, configuration and labels of the image, as the lifecycle would write them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koalja_fn.pack import tomls
from koalja_fn.pack.applayers import app_layers
from koalja_fn.pack.building import Contribution, Process, combined
from koalja_fn.pack.environment import PATH
from koalja_fn.pack.errors import PhaseError
from koalja_fn.pack.labels import (
    BUILD_LABEL,
    EXEC_ENV_LABEL,
    LIFECYCLE_LABEL,
    PROJECT_LABEL,
    REBASABLE_LABEL,
    Previous,
    build_metadata,
)
from koalja_fn.pack.launching import LAUNCHER, launcher_layer
from koalja_fn.pack.metadata import metadata_toml
from koalja_fn.pack.oci.image import BaseImage, Image, compose
from koalja_fn.pack.oci.layer import Entry, layer_from_tree, parents, tree
from koalja_fn.pack.oci.values import Layer
from koalja_fn.pack.site import OWNER, Site

PLATFORM_API = "0.15"
PROCESSES = "/cnb/process"


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
    pieces.append(_Piece(sbom, "Software Bill-of-Materials"))
    app = [_Piece(layer, line) for layer, line in app_layers(contributions, site, out)]
    launching = launcher_layer(out, interpreter)
    config = _config_layer(contributions, processes, default, site, out)
    types = _types_layer(processes, out)
    pieces += [*app, _Piece(launching, "Buildpacks Application Launcher")]
    pieces.append(_Piece(config, "Buildpacks Launcher Config"))
    pieces += [_Piece(types, "Buildpacks Process Types")] if types else []
    told = {
        "app": [{"sha": piece.layer.diff_id} for piece in app],
        "sbom": {"sha": sbom.diff_id},
        "config": {"sha": config.diff_id},
        "launcher": {"sha": launching.diff_id},
        "process-types": {"sha": types.diff_id} if types else None,
        "buildpacks": [_told(one, made[one.buildpack.id]) for one in contributions],
        "runImage": {"topLayer": base.top_layer, "reference": _pinned(base, base_name)}
        | ({"image": base_name} if base_name else {}),
        "stack": {"runImage": {"image": base_name}} if base_name else None,
    }
    image = compose(
        base,
        [piece.layer for piece in pieces],
        changes=_changes(site, base, default),
        env=_env(site, base),
        labels={
            LIFECYCLE_LABEL: _json({key: value for key, value in told.items() if value is not None}),
            BUILD_LABEL: _json(build_metadata(contributions, processes, default)),
            EXEC_ENV_LABEL: site.exec_env,
            PROJECT_LABEL: "{}",
            REBASABLE_LABEL: "false" if site.sandbox.on_host else "true",
            **dict(pair for one in contributions for pair in one.labels),
            **labels,
        },
        history=[piece.line for piece in pieces],
    )
    return Exported(image, made)


def _launch_layers(one: Contribution, site: Site, before: Previous, out: Path) -> dict[str, Layer]:
    found: dict[str, Layer] = {}
    for layer in one.layers:
        if not layer.launch:
            continue
        if layer.present:
            at = site.seen(layer.folder)
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


def _parents(at: str, site: Site) -> Iterator[Entry]:
    """Folders above a layer: in the folder of layers the build's user's, above it root's."""
    root = site.seen(site.layers)
    for entry in parents(at):
        own = entry.path == root or entry.path.startswith(f"{root}/")
        yield Entry.folder(entry.path, 0o755, OWNER, OWNER) if own else entry


def _told(one: Contribution, made: Mapping[str, Layer]) -> dict[str, Any]:
    layers = {
        layer.name: {
            "sha": made[layer.name].diff_id,
            "data": _plain(layer.metadata) or None,
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
    return json.loads(json.dumps(data, default=lambda date: date.isoformat().replace("+00:00", "Z")))


def _json(data: object) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _pinned(base: BaseImage, name: str) -> str:
    """The base image by its digest, with its repository if it has a name."""
    return str(base.reference) if name else base.digest


def _sbom_layer(contributions: Sequence[Contribution], site: Site, out: Path) -> Layer:
    """The bills of materials; the one of the old form is always there, and empty."""
    files: dict[str, Path] = {}
    root = site.seen(site.layers) + "/sbom/launch"
    for one in contributions:
        for ending, path in one.sboms.items():
            files[f"{root}/{one.buildpack.key}/sbom.{ending}"] = path
        for layer in one.layers:
            if layer.launch:
                for ending, path in layer.sboms.items():
                    files[f"{root}/{one.buildpack.key}/{layer.name}/sbom.{ending}"] = path
    contents = {at: tomls.read_bytes(path) or b"" for at, path in files.items()}
    contents[f"{root}/sbom.legacy.json"] = b"null\n"
    entries = [Entry.file(at, content, 0o644, OWNER, OWNER) for at, content in contents.items()]
    return layer_from_tree([*(e for at in contents for e in _parents(at, site)), *entries], out)


def _types_layer(processes: Sequence[Process], out: Path) -> Layer | None:
    if not processes:
        return None
    links = [Entry.symlink(f"{PROCESSES}/{process.type}", LAUNCHER, mode=0o755) for process in processes]
    return layer_from_tree([Entry.folder("/cnb"), Entry.folder(PROCESSES), *links], out, order="given")


def _config_layer(
    contributions: Sequence[Contribution], processes: Sequence[Process], default: str, site: Site, out: Path
) -> Layer:
    path = f"{site.seen(site.layers)}/config/metadata.toml"
    entry = Entry.file(path, metadata_toml(contributions, processes, default), 0o644, OWNER, OWNER)
    return layer_from_tree([*_parents(path, site), entry], out)


def _changes(site: Site, base: BaseImage, default: str) -> dict[str, object | None]:
    user = str((base.config.get("config") or {}).get("User") or "")
    root = user.partition(":")[0] in ("", "0", "root")
    return {
        "Entrypoint": [f"{PROCESSES}/{default}" if default else LAUNCHER],
        "Cmd": None,
        "WorkingDir": site.seen(site.app),
        **({"User": f"{OWNER}:{OWNER}"} if root else {}),
    }


def _env(site: Site, base: BaseImage) -> dict[str, str]:
    return {
        "PATH": f"{PROCESSES}:/cnb/lifecycle:{base.env.get('PATH') or PATH}",
        "CNB_LAYERS_DIR": site.seen(site.layers),
        "CNB_APP_DIR": site.seen(site.app),
        "CNB_PLATFORM_API": PLATFORM_API,
        "CNB_DEPRECATION_MODE": "quiet",
    }
