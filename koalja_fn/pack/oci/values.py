"""What images are made of, as frozen values, and the media types that say which is which.

Knows nothing of registries, files' contents or HTTP.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koalja_fn.errors import UsageError
from koalja_fn.pack.oci.reference import Target

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER_TAR = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"

MANIFESTS = (MANIFEST, DOCKER_MANIFEST)
INDEXES = (INDEX, DOCKER_INDEX)
ACCEPT = ", ".join((*MANIFESTS, *INDEXES))

# The bytes are the same; an OCI manifest names them by the OCI type.
OCI_TYPE = {
    "application/vnd.docker.image.rootfs.diff.tar": LAYER_TAR,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": LAYER_GZIP,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": LAYER_ZSTD,
    "application/vnd.oci.image.layer.nondistributable.v1.tar": LAYER_TAR,
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": LAYER_GZIP,
}

_PROCESSORS = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386", "ppc64le": "ppc64le"}


@dataclass(frozen=True, slots=True)
class Platform:
    """Which machines an image is for: `linux/amd64`, `linux/arm64/v8`."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read `os/architecture` or `os/architecture/variant`."""
        parts = text.split("/")
        if len(parts) not in (2, 3) or not all(parts):
            raise UsageError(f"'{text}' is no platform", why="it is os/architecture", cure="linux/amd64")
        return cls(*parts)

    @classmethod
    def here(cls) -> Platform:
        """The platform of this machine's Linux."""
        machine = os.uname().machine
        return cls("linux", _PROCESSORS.get(machine, machine))

    def fits(self, other: Platform) -> bool:
        """Whether an image for `other` runs here; a variant that isn't told fits each."""
        if (self.os, self.architecture) != (other.os, other.architecture):
            return False
        mine, theirs = self._known_variant(), other._known_variant()
        return not mine or not theirs or mine == theirs

    def _known_variant(self) -> str:
        return "v8" if self.architecture == "arm64" and not self.variant else self.variant

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob's or manifest's type, digest and size, as a manifest writes them down."""

    media_type: str
    digest: str
    size: int

    @classmethod
    def read(cls, data: Any) -> Descriptor:
        """Take the fields out of parsed JSON; KeyError, TypeError or ValueError where one is missing."""
        return cls(str(data["mediaType"]), str(data["digest"]), int(data["size"]))

    def written(self) -> dict[str, object]:
        """The descriptor as it stands in a manifest."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: `digest` and `size` are of the blob as it travels, `diff_id` is of the bare tar.

    `blob` is its file where it was made here; `source` is where it can be had from otherwise.
    """

    digest: str
    diff_id: str
    size: int
    media_type: str = LAYER_GZIP
    blob: Path | None = None
    source: Target | None = None

    @property
    def descriptor(self) -> Descriptor:
        """How an OCI manifest names it."""
        return Descriptor(OCI_TYPE.get(self.media_type, self.media_type), self.digest, self.size)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or index as the registry keeps it: these very bytes have this digest."""

    digest: str
    media_type: str
    data: bytes

    @property
    def is_index(self) -> bool:
        """Whether it lists images of several platforms."""
        return self.media_type in INDEXES

    def parsed(self) -> Any:
        """The JSON in it; ValueError where it is none."""
        return json.loads(self.data)


def canonical(data: object) -> bytes:
    """JSON with one spelling for one value, so that equal images have equal digests."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
