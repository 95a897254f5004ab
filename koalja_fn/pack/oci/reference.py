"""Names of images: `registry/repository:tag@digest`, and `oci:FOLDER` for an image without a registry.

Pure: nothing is looked up. Docker Hub's short forms mean what they mean everywhere else.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from pathlib import Path

from koalja_fn.errors import UsageError

HUB = "docker.io"
_HUB_HOST = "registry-1.docker.io"
_HUB_NAMES = {HUB, "index.docker.io", _HUB_HOST}

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_REGISTRY = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_EXAMPLE = "names look like ghcr.io/me/thing:1, 127.0.0.1:5000/thing or oci:FOLDER"


@dataclass(frozen=True, slots=True)
class Reference:
    """An image in a registry. With a digest, the tag is for people only."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a name as people write it; without tag and digest the tag is `latest`."""
        rest, at, digest = text.partition("@")
        if at and not _DIGEST.fullmatch(digest):
            raise _wrong(text, f"'{digest}' is no digest: sha256: and 64 hexadecimal digits")
        rest, tag = _cut_tag(rest)
        if tag is not None and not _TAG.fullmatch(tag):
            raise _wrong(text, f"'{tag}' is no tag: letters, digits and . _ -, at most 128")
        registry, repository = _cut_registry(rest)
        if not _REGISTRY.fullmatch(registry):
            raise _wrong(text, f"'{registry}' is no registry: a host, and a port if need be")
        if not _REPOSITORY.fullmatch(repository) or len(repository) > 255:
            raise _wrong(text, f"'{repository}' is no repository: lower-case words with . _ - between, and /")
        return cls(registry, repository, tag or (None if digest else "latest"), digest or None)

    @property
    def host(self) -> str:
        """Where to connect to: Docker Hub's registry lives under another name."""
        return _HUB_HOST if self.registry == HUB else self.registry

    @property
    def which(self) -> str:
        """What to ask the registry for: the digest, else the tag."""
        return self.digest or self.tag or "latest"

    def at(self, digest: str) -> Reference:
        """The same repository, pinned to a digest."""
        return replace(self, tag=None, digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"


@dataclass(frozen=True, slots=True)
class LayoutTarget:
    """An image in a folder of the OCI image layout: `oci:FOLDER`, or `oci:FOLDER:TAG` for one of several."""

    folder: Path
    tag: str = "latest"
    digest: str | None = None

    @property
    def which(self) -> str:
        """What to look for in the folder: the digest, else the tag."""
        return self.digest or self.tag

    def at(self, digest: str) -> LayoutTarget:
        """The same folder, pinned to a digest."""
        return replace(self, digest=digest)

    def __str__(self) -> str:
        return f"oci:{self.folder}:{self.tag}" + (f"@{self.digest}" if self.digest else "")


Target = Reference | LayoutTarget


def target(text: str) -> Target:
    """Read where an image is or shall go: `oci:FOLDER[:TAG]`, else a name in a registry."""
    if not text.startswith("oci:"):
        return Reference.parse(text)
    rest, at, digest = text.removeprefix("oci:").partition("@sha256:")
    folder, colon, tag = rest.rpartition(":")
    if not colon or not _TAG.fullmatch(tag):
        folder, tag = rest, "latest"
    if not folder:
        raise _wrong(text, "there is no folder after 'oci:'")
    if at and not _DIGEST.fullmatch(f"sha256:{digest}"):
        raise _wrong(text, f"'sha256:{digest}' is no digest: sha256: and 64 hexadecimal digits")
    return LayoutTarget(Path(folder), tag, f"sha256:{digest}" if at else None)


def is_loopback(host: str) -> bool:
    """Whether the host, with or without a port, is this machine by its very name."""
    name = host.rsplit("]", 1)[0].lstrip("[") if host.startswith("[") else host.rsplit(":", 1)[0]
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _cut_tag(text: str) -> tuple[str, str | None]:
    head, colon, tail = text.rpartition(":")
    if not colon or "/" in tail:
        return text, None
    return head, tail


def _cut_registry(text: str) -> tuple[str, str]:
    """The first part is a registry where it could be no repository of Docker Hub."""
    first, slash, rest = text.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        registry, repository = first, rest
    else:
        registry, repository = HUB, text
    if registry in _HUB_NAMES:
        registry = HUB
        repository = repository if "/" in repository or not repository else f"library/{repository}"
    return registry, repository


def _wrong(text: str, why: str) -> UsageError:
    return UsageError(f"'{text}' is no name of an image", why=why, cure=_EXAMPLE)
