"""What one build leaves for the next: cached layers on this machine, metadata in the last image's label."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from koalja_fn.pack import tomls
from koalja_fn.pack.building import SBOMS, Contribution, LayerFolder
from koalja_fn.pack.labels import Previous
from koalja_fn.pack.oci.values import Layer
from koalja_fn.pack.places import cache_folder
from koalja_fn.pack.plan import Plan
from koalja_fn.pack.sandbox import give
from koalja_fn.pack.site import Site

_INDEX, _KNOWN = "layers.json", "known.json"


class Cache:
    """The cached layers of one image's builds, by buildpack and layer."""

    def __init__(self, image: str) -> None:
        self.folder = cache_folder() / "layers" / hashlib.sha256(image.encode()).hexdigest()[:32]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep others away: two builds of one image at a time would tear each other's layers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def restore(self, plan: Plan, site: Site, previous: Previous) -> None:
        """Lay out what the buildpacks may find: by the table of layer types in the specification."""
        index, known = self._index(), self._known()
        for buildpack in (member.buildpack for member in plan.members):
            folder = site.layers / buildpack.key
            folder.mkdir(mode=0o755, exist_ok=True)
            old, cached = previous.layers_of(buildpack.id), index.get(buildpack.id, {})
            for name, told in old.items():
                if told.get("launch") and not told.get("cache") and not told.get("build") and _safe(name):
                    self._lay_out(folder, name, told.get("data") or {}, str(told.get("sha")))
                    if told.get("sha") not in known:  # it was made on another machine
                        for ending, content in previous.bills(buildpack.key, name).items():
                            if ending in SBOMS:
                                (folder / f"{name}.sbom.{ending}").write_bytes(content)
            for name, kept in cached.items():
                stale = kept["launch"] and old.get(name, {}).get("sha") != kept["sha"]
                source = self.folder / buildpack.key / name
                if not stale and source.is_dir() and _safe(name):
                    _copy(source, folder / name)
                    self._lay_out(folder, name, kept["data"], kept["sha"])
            store = previous.store_of(buildpack.id)
            if store:
                (folder / "store.toml").write_text(tomls.dump(store))
            give(folder)

    def keep(self, contributions: Sequence[Contribution], made: Mapping[str, Mapping[str, Layer]]) -> None:
        """Take over the cached layers of a build that succeeded, and drop all others."""
        index: dict[str, dict[str, Any]] = {}
        for one in contributions:
            own = self.folder / one.buildpack.key
            kept = [layer for layer in one.layers if layer.cache and layer.present]
            for layer in kept:
                _copy(layer.folder, own / layer.name)
                sha = made[one.buildpack.id][layer.name].diff_id if layer.launch else ""
                index.setdefault(one.buildpack.id, {})[layer.name] = {
                    "sha": sha,
                    "launch": layer.launch,
                    "data": json.loads(json.dumps(layer.metadata, default=str)),
                }
                self._keep_sboms(layer, sha or f"{one.buildpack.key}-{layer.name}")
            for layer in one.layers:
                if layer.launch and layer.sboms:
                    self._keep_sboms(layer, made[one.buildpack.id][layer.name].diff_id)
            names = {layer.name for layer in kept}
            for path in own.iterdir() if own.is_dir() else ():
                if path.name not in names:
                    shutil.rmtree(path, ignore_errors=True)
        known = sorted(layer.diff_id for layers in made.values() for layer in layers.values())
        for name, data in ((_INDEX, json.dumps(index, sort_keys=True)), (_KNOWN, json.dumps(known))):
            part = self.folder / f"{name}.part"
            part.write_text(data)
            part.replace(self.folder / name)

    def _known(self) -> list[str]:
        """The launch layers of the last build on this machine; their bills are here, if they have any."""
        try:
            found = json.loads((self.folder / _KNOWN).read_text())
        except (OSError, ValueError):
            return []
        return found if isinstance(found, list) else []

    def _index(self) -> dict[str, dict[str, Any]]:
        try:
            found = json.loads((self.folder / _INDEX).read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _lay_out(self, folder: Path, name: str, data: Mapping[str, Any], sha: str) -> None:
        (folder / f"{name}.toml").write_text(tomls.dump({"metadata": data}))
        for ending in SBOMS:
            kept = self._sbom(sha or f"{folder.name}-{name}", ending)
            if kept.is_file():
                shutil.copyfile(kept, folder / f"{name}.sbom.{ending}")

    def _keep_sboms(self, layer: LayerFolder, sha: str) -> None:
        for ending, path in layer.sboms.items():
            kept = self._sbom(sha, ending)
            kept.parent.mkdir(exist_ok=True)
            kept.write_bytes(tomls.read_bytes(path) or b"")

    def _sbom(self, sha: str, ending: str) -> Path:
        return self.folder / "sboms" / f"{sha.removeprefix('sha256:')}.{ending}"


def _safe(name: str) -> bool:
    return bool(name) and "/" not in name and name not in (".", "..")


def _copy(source: Path, to: Path) -> None:
    """A copy of a tree, sharing blocks where the file system can; links, modes and times are kept."""
    shutil.rmtree(to, ignore_errors=True)
    to.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    done = subprocess.run(
        ["cp", "-a", "--reflink=auto", "--", str(source), str(to)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise OSError(f"can't copy {source}: {done.stderr.strip()}")
