"""What an image tells of its own making: labels, written for whoever looks and read by the next build."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from koalja_fn.pack.building import Contribution, Process
from koalja_fn.pack.buildpack import Buildpack
from koalja_fn.pack.oci.image import BaseImage
from koalja_fn.pack.oci.values import Layer

LIFECYCLE_LABEL = "io.buildpacks.lifecycle.metadata"
BUILD_LABEL = "io.buildpacks.build.metadata"
PROJECT_LABEL = "io.buildpacks.project.metadata"
EXEC_ENV_LABEL = "io.buildpacks.exec-env"
REBASABLE_LABEL = "io.buildpacks.rebasable"


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
