"""What an image tells of its own making: labels, written for whoever looks and read by the next build."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from koalja_fn.errors import KoaljaError
from koalja_fn.pack.building import Contribution, Process
from koalja_fn.pack.buildpack import Buildpack
from koalja_fn.pack.oci.client import RegistryClient
from koalja_fn.pack.oci.image import BaseImage
from koalja_fn.pack.oci.place import read_blob
from koalja_fn.pack.oci.values import Layer

LIFECYCLE_LABEL = "io.buildpacks.lifecycle.metadata"
BUILD_LABEL = "io.buildpacks.build.metadata"
PROJECT_LABEL = "io.buildpacks.project.metadata"
EXEC_ENV_LABEL = "io.buildpacks.exec-env"
_LARGEST = 32 * 1024 * 1024
REBASABLE_LABEL = "io.buildpacks.rebasable"


class Previous:
    """What the last image of the same name knows of its launch layers."""

    def __init__(self, image: BaseImage | None, client: RegistryClient | None = None) -> None:
        self._client = client
        self._layers = {layer.diff_id: layer for layer in image.layers} if image else {}
        try:
            data = json.loads(image.labels.get(LIFECYCLE_LABEL, "{}")) if image else {}
        except ValueError:
            data = {}
        self._sbom = str((data.get("sbom") or {}).get("sha", ""))
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

    def bills(self, buildpack_key: str, name: str) -> dict[str, bytes]:
        """The bills of materials of a launch layer: {`cdx.json`: content}."""
        start = f"/sbom/launch/{buildpack_key}/{name}/sbom."
        return {
            path.partition(start)[2]: content for path, content in self._bills.items() if start in f"/{path}"
        }

    @cached_property
    def _bills(self) -> dict[str, bytes]:
        """All files of the image's layer of bills; without one that can be read a build only knows less."""
        layer = self._layers.get(self._sbom)
        if layer is None or layer.source is None or self._client is None:
            return {}
        try:
            packed = read_blob(self._client.place(layer.source), layer.descriptor, _LARGEST)
            with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
                files = [entry for entry in archive if entry.isfile() and entry.size <= _LARGEST]
                return {entry.name: _content(archive, entry) for entry in files}
        except (KoaljaError, OSError, tarfile.TarError, EOFError):
            return {}


def _content(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(entry)
    return file.read() if file is not None else b""


def about(buildpack: Buildpack) -> dict[str, str]:
    """A buildpack as metadata name it."""
    told = {"id": buildpack.id, "version": buildpack.version}
    return told | ({"homepage": buildpack.homepage} if buildpack.homepage else {})


def process_of(process: Process) -> dict[str, Any]:
    """A process type as `metadata.toml` and the build label have it."""
    told: dict[str, Any] = {
        "type": process.type,
        "command": list(process.command),
        "args": list(process.args) or None,
        "direct": process.direct,
    }
    if process.working_dir:
        told["working-dir"] = process.working_dir
    if process.exec_env != ("*",):
        told["exec-env"] = list(process.exec_env)
    return told


def build_metadata(
    contributions: Sequence[Contribution], processes: Sequence[Process], default: str
) -> dict[str, Any]:
    """The label `io.buildpacks.build.metadata`."""
    told = {"buildpack-default-process-type": default} if default else {}
    return told | {
        "buildpacks": [about(one.buildpack) for one in contributions],
        "processes": [{**process_of(process), "buildpackID": process.buildpack} for process in processes],
        "launcher": {"version": "koalja-fn", "source": {"git": {"repository": "", "commit": ""}}},
    }
