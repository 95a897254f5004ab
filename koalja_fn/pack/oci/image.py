"""Images as values: read a base, put layers upon it, and know the digest before anything is sent.

Same base, layers and words: same bytes, on any machine. The clock is never asked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from koalja_fn.errors import Damaged, NoSuchImage, PackError, UsageError, WrongPlatform
from koalja_fn.pack.oci.client import RegistryClient
from koalja_fn.pack.oci.place import Place, digest_of, read_blob
from koalja_fn.pack.oci.reference import Target
from koalja_fn.pack.oci.values import CONFIG, MANIFEST, Descriptor, Layer, Manifest, Platform, canonical

CREATED = "1980-01-01T00:00:01Z"


@dataclass(frozen=True, slots=True)
class BaseImage:
    """An image to build upon. `reference` is pinned to `digest`, the manifest of its platform."""

    reference: Target
    digest: str
    config: Mapping[str, Any] = field(repr=False)
    layers: tuple[Layer, ...]

    @property
    def top_layer(self) -> str:
        """The diff id of the last layer, as the label `io.buildpacks.lifecycle.metadata` names it."""
        return self.layers[-1].diff_id if self.layers else ""

    @property
    def platform(self) -> Platform:
        """Which machines it is for."""
        return _platform(self.config)

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return _labels(self.config)

    @property
    def env(self) -> dict[str, str]:
        """The variables that its processes begin with."""
        entries = (self.config.get("config") or {}).get("Env") or []
        return {name: value for name, _, value in (str(entry).partition("=") for entry in entries)}


@dataclass(frozen=True, slots=True)
class Image:
    """A finished image: its configuration, layers and manifest, as they will lie in the registry."""

    config: Mapping[str, Any] = field(repr=False)
    config_data: bytes = field(repr=False)
    layers: tuple[Layer, ...]
    manifest: Manifest = field(repr=False)

    @property
    def digest(self) -> str:
        """The image's digest, known before it is anywhere."""
        return self.manifest.digest

    @property
    def config_descriptor(self) -> Descriptor:
        """The configuration as a blob."""
        return Descriptor(CONFIG, digest_of(self.config_data), len(self.config_data))

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return _labels(self.config)


def load_base(target: Target, platform: Platform, client: RegistryClient) -> BaseImage:
    """Read what an image consists of, without its layers; of an index the one for the platform."""
    place = client.place(target)
    manifest = choose(place, place.manifest(target.which), platform)
    config, descriptors = _read_image(place, manifest)
    found = _platform(config)
    if found.os and found.architecture and not platform.fits(found):
        raise WrongPlatform(
            f"{target} is for {found}, not for {platform}",
            cure=f"name an image for {platform}, or pack for {found}",
        )
    source = target.at(manifest.digest)
    diff_ids = _diff_ids(config)
    if len(diff_ids) != len(descriptors):
        raise Damaged(
            f"{target} contradicts itself", why=f"{len(descriptors)} layers but {len(diff_ids)} diff ids"
        )
    layers = tuple(
        Layer(one.digest, diff_id, one.size, one.media_type, source=source)
        for one, diff_id in zip(descriptors, diff_ids, strict=True)
    )
    return BaseImage(source, manifest.digest, config, layers)


def pinned(target: Target, platform: Platform, client: RegistryClient) -> Target:
    """The target by its digest, of an index the one for the platform. Asks for one manifest only."""
    place = client.place(target)
    manifest = place.manifest(target.which)
    digest = _fitting(place, manifest, platform) if manifest.is_index else manifest.digest
    return target.at(digest)


def mark_of(
    target: Target, name: str, client: RegistryClient, platform: Platform
) -> tuple[str, str | None] | None:
    """An image's digest, and the annotation of that name or else the label; None where there is no image.

    The annotation costs one question; a label stands in the configuration, which is a second one.
    """
    place = client.place(target)
    try:
        manifest = choose(place, place.manifest(target.which), platform)
        annotations = manifest.parsed().get("annotations")
        if isinstance(annotations, dict) and name in annotations:
            return manifest.digest, str(annotations[name])
        config, _ = _read_image(place, manifest)
    except NoSuchImage:
        return None
    return manifest.digest, _labels(config).get(name)


def annotated(image: Image, annotations: Mapping[str, str]) -> Image:
    """The same image with annotations in its manifest, which can be read without its configuration."""
    parsed = image.manifest.parsed()
    parsed["annotations"] = {**(parsed.get("annotations") or {}), **annotations}
    data = canonical(parsed)
    return replace(image, manifest=Manifest(digest_of(data), image.manifest.media_type, data))


def labels_of(
    target: Target, client: RegistryClient, platform: Platform | None = None
) -> dict[str, str] | None:
    """The labels of an image from its manifest and configuration alone; None where there is no image."""
    place = client.place(target)
    try:
        manifest = choose(place, place.manifest(target.which), platform or Platform.here())
        config, _ = _read_image(place, manifest)
    except NoSuchImage:
        return None
    return _labels(config)


def compose(
    base: BaseImage | None,
    layers: Sequence[Layer],
    *,
    changes: Mapping[str, object | None] | None = None,
    env: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    history: Sequence[str] = (),
    platform: Platform | None = None,
    created: str | None = None,
) -> Image:
    """Put layers upon a base.

    `changes` are fields of the configuration's `config` (`Entrypoint`, `WorkingDir`, `User`, …), None
    takes one away; `env` and `labels` are added to the base's; `history` has a line for each new layer.
    """
    moment = created or creation_time(os.environ)
    every = (*(base.layers if base else ()), *layers)
    config: dict[str, Any] = dict(base.config) if base else _bare(platform or Platform.here())
    config["config"] = _changed(dict(config.get("config") or {}), changes or {}, env or {}, labels or {})
    config["created"] = moment
    config["rootfs"] = {"type": "layers", "diff_ids": [layer.diff_id for layer in every]}
    config["history"] = _history(base, layers, history, moment)
    for stale in ("container", "container_config", "docker_version", "id", "parent"):
        config.pop(stale, None)
    data = canonical(config)
    manifest = canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": Descriptor(CONFIG, digest_of(data), len(data)).written(),
            "layers": [layer.descriptor.written() for layer in every],
        }
    )
    return Image(config, data, every, Manifest(digest_of(manifest), MANIFEST, manifest))


def creation_time(environ: Mapping[str, str]) -> str:
    """When images claim to be made: SOURCE_DATE_EPOCH where it is set, else the buildpacks' 1980."""
    told = environ.get("SOURCE_DATE_EPOCH", "")
    if not told:
        return CREATED
    from datetime import UTC, datetime

    try:
        return datetime.fromtimestamp(int(told), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"SOURCE_DATE_EPOCH is '{told}'", why="it is no number of seconds since 1970"
        ) from None


def choose(place: Place, manifest: Manifest, platform: Platform) -> Manifest:
    """The manifest of a platform out of an index; a plain manifest is its own choice."""
    for _ in range(4):
        if not manifest.is_index:
            return manifest
        manifest = place.manifest(_fitting(place, manifest, platform))
    raise PackError(f"{place.target} is an index of indexes of indexes", why="that is deeper than we look")


def _fitting(place: Place, index: Manifest, platform: Platform) -> str:
    """The digest of the platform's entry."""
    entries = _images(index, place)
    fitting = [(one, found) for one, found in entries if platform.fits(found)]
    if not fitting:
        raise WrongPlatform(
            f"{place.target} has no image for {platform}",
            why="it has " + (", ".join(sorted({str(found) for _, found in entries})) or "none at all"),
            cure="name another image, or pack for one of these platforms",
        )
    exact = [one for one, found in fitting if found.variant == platform.variant]
    return (exact or [one for one, _ in fitting])[0]


def _images(index: Manifest, place: Place) -> list[tuple[str, Platform]]:
    try:
        return [
            (str(entry["digest"]), _platform(entry.get("platform") or {}))
            for entry in index.parsed()["manifests"]
            if (entry.get("platform") or {}).get("os") != "unknown"  # attestations stand there too
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Damaged(
            f"the index of {place.target} is damaged", why="a field is missing or of a wrong type"
        ) from None


def _read_image(place: Place, manifest: Manifest) -> tuple[dict[str, Any], list[Descriptor]]:
    try:
        parsed = manifest.parsed()
        described = Descriptor.read(parsed["config"])
        layers = [Descriptor.read(one) for one in parsed["layers"]]
        config = json.loads(read_blob(place, described))
        if not isinstance(config, dict):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise Damaged(
            f"the image {place.target} is damaged",
            why="its manifest or configuration lacks what each image has",
            cure="is it an image, and not an artifact of another kind?",
        ) from None
    return config, layers


def _diff_ids(config: Mapping[str, Any]) -> list[str]:
    rootfs = config.get("rootfs")
    found = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    return [str(one) for one in found] if isinstance(found, list) else []


def _platform(data: Mapping[str, Any]) -> Platform:
    return Platform(
        str(data.get("os") or ""), str(data.get("architecture") or ""), str(data.get("variant") or "")
    )


def _labels(config: Mapping[str, Any]) -> dict[str, str]:
    found = (config.get("config") or {}).get("Labels") or {}
    return {str(key): str(value) for key, value in found.items()}


def _bare(platform: Platform) -> dict[str, Any]:
    variant = {"variant": platform.variant} if platform.variant else {}
    return {"os": platform.os, "architecture": platform.architecture, **variant}


def _changed(
    config: dict[str, Any],
    changes: Mapping[str, object | None],
    env: Mapping[str, str],
    labels: Mapping[str, str],
) -> dict[str, Any]:
    config |= {key: value for key, value in changes.items() if value is not None}
    for key in (key for key, value in changes.items() if value is None):
        config.pop(key, None)
    if env:
        kept = {name: value for name, _, value in (one.partition("=") for one in config.get("Env") or [])}
        config["Env"] = [f"{name}={value}" for name, value in (kept | dict(env)).items()]
    if labels:
        config["Labels"] = {**(config.get("Labels") or {}), **labels}
    return config


def _history(
    base: BaseImage | None, layers: Sequence[Layer], lines: Sequence[str], moment: str
) -> list[dict[str, Any]]:
    """The base's lines, if there is one for each of its layers, else empty ones; then the new layers'."""
    below: list[dict[str, Any]] = list(base.config.get("history") or []) if base else []
    if base and sum(not line.get("empty_layer") for line in below) != len(base.layers):
        below = [{"created": moment} for _ in base.layers]
    words = [*lines, *[""] * (len(layers) - len(lines))][: len(layers)]
    return [*below, *({"created": moment, **({"created_by": line} if line else {})} for line in words)]
