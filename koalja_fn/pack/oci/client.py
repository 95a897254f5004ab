"""A registry, as the OCI distribution specification 1.1 has it: manifests and blobs of a repository.

HTTPS, or plain HTTP with this machine and where it is asked for. What is read is checked against its
digest; what is written is looked for first. Uploading is in `upload.py`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urljoin, urlsplit

from koalja_fn.errors import Damaged, PackError
from koalja_fn.pack.oci.auth import Authoriser, Keychain
from koalja_fn.pack.oci.messages import Answer, Body, Broken
from koalja_fn.pack.oci.place import (
    MANIFEST_LIMIT,
    Checking,
    Meter,
    Place,
    checked_manifest,
    digest_of,
    nothing_there,
)
from koalja_fn.pack.oci.reference import LayoutTarget, Reference, Target
from koalja_fn.pack.oci.transport import Transport
from koalja_fn.pack.oci.values import ACCEPT, Descriptor, Manifest

_SAID_LIMIT = 16 << 10


@dataclass
class Holders:
    """Who has a blob. One at a time brings it, so that the others find it there or mount it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    repositories: dict[str, None] = field(default_factory=dict)


class RegistryClient:
    """All registries that one command speaks to: their connections, tokens and counters.

    Blobs larger than `large` are uploaded in chunks of `chunk` bytes, so that little is sent twice
    when the connection breaks off. Threads may share it.
    """

    def __init__(
        self,
        *,
        insecure: bool = False,
        keychain: Keychain | None = None,
        transport: Transport | None = None,
        meter: Meter | None = None,
        large: int = 32 << 20,
        chunk: int = 32 << 20,
    ) -> None:
        self.transport = transport or Transport(insecure=insecure)
        self.meter = meter or Meter()
        self.large = large
        self.chunk = chunk
        self._keychain = keychain or Keychain()
        self._authorisers: dict[str, Authoriser] = {}
        self._bases: dict[str, str] = {}
        self._holders: dict[tuple[str, str], Holders] = {}
        self._manifests: dict[tuple[str, str, str], Manifest] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.transport.close()

    def place(self, target: Target, *, writing: bool = False, meter: Meter | None = None) -> Place:
        """The repository or folder of a target; say `writing` when it is pushed to, and who counts."""
        if isinstance(target, LayoutTarget):
            from koalja_fn.pack.oci.layout import Layout

            return Layout(target, meter or self.meter)
        return Repository(self, target, "pull,push" if writing else "pull", meter or self.meter)

    def base(self, reference: Reference) -> str:
        """Where the registry's API begins."""
        plain = self.transport.allows_plain(reference.host)
        return self._bases.get(reference.host) or f"{'http' if plain else 'https'}://{reference.host}"

    def speak_tls(self, reference: Reference) -> None:
        """Remember that a registry which may be spoken to in plain HTTP does not want that."""
        self._bases[reference.host] = f"https://{reference.host}"

    def holders(self, reference: Reference, digest: str) -> Holders:
        """Which repositories of the registry are known to have a blob; who brings it there holds its lock."""
        with self._lock:
            return self._holders.setdefault((reference.registry, digest), Holders())

    def seen(self, reference: Reference, which: str) -> Manifest | None:
        """The manifest of that digest, if it was read from this very repository before."""
        return self._manifests.get((reference.registry, reference.repository, which))

    def remember(self, reference: Reference, manifest: Manifest) -> None:
        """Keep a manifest: what a digest names never changes, so nobody has to ask for it again."""
        self._manifests[reference.registry, reference.repository, manifest.digest] = manifest

    def authoriser(self, reference: Reference) -> Authoriser:
        """Who gets us in there."""
        with self._lock:
            if reference.registry not in self._authorisers:
                made = Authoriser(reference.registry, self._keychain, self.transport)
                self._authorisers[reference.registry] = made
            return self._authorisers[reference.registry]


class Repository:
    """One repository of one registry."""

    def __init__(self, client: RegistryClient, reference: Reference, actions: str, meter: Meter) -> None:
        self.client = client
        self.meter = meter
        self.reference = reference
        self.scope = f"repository:{reference.repository}:{actions}"
        self._authoriser = client.authoriser(reference)

    @property
    def target(self) -> Target:
        """The reference that this repository was made for."""
        return self.reference

    @property
    def root(self) -> str:
        """The address of the repository."""
        return f"{self.client.base(self.reference)}/v2/{self.reference.repository}/"

    def manifest(self, which: str) -> Manifest:
        """The manifest of a tag or digest, its bytes checked."""
        seen = self.client.seen(self.reference, which)
        if seen is not None:
            return seen
        for attempt in range(self.client.transport.tries):
            try:
                with self.request("GET", f"manifests/{which}", {"Accept": ACCEPT}) as answer:
                    self.expect(answer, (200,), f"image '{which}'")
                    data = answer.read(MANIFEST_LIMIT)
                    said = answer.headers.get("Content-Type", "")
                break
            except Broken as broken:
                self.client.transport.pause(attempt, broken)
        if len(data) > MANIFEST_LIMIT:
            raise PackError(f"the manifest of {self.reference} is too large")
        found = checked_manifest(data, said, which, self.reference)
        claimed = answer.headers.get("Docker-Content-Digest", "")
        if claimed.startswith("sha256:") and claimed != digest_of(data):
            raise Damaged(f"the manifest of {self.reference} is damaged", why=f"it should be {claimed}")
        self.client.remember(self.reference, found)
        return found

    def digest_of(self, which: str) -> str | None:
        """The digest of a tag as the registry tells it."""
        with self.request("HEAD", f"manifests/{which}", {"Accept": ACCEPT}) as answer:
            if answer.status == 404:
                return None
            self.expect(answer, (200,), f"image '{which}'")
            return answer.headers.get("Docker-Content-Digest")

    def has(self, digest: str) -> bool:
        """Whether the blob is in this repository."""
        with self.request("HEAD", f"blobs/{digest}") as answer:
            if answer.status == 404:
                return False
            self.expect(answer, (200,), f"blob {digest}")
            return True

    def chunks(self, blob: Descriptor) -> Iterator[bytes]:
        """The blob's bytes; after a break the rest is asked for, and all of it is checked."""
        checking = Checking(blob, self.reference)
        failures = 0
        while True:
            before = checking.seen
            try:
                yield from checking.watch(self._pieces(blob, before))
            except Broken as broken:
                failures = failures + 1 if checking.seen == before else 0
                self.client.transport.pause(failures, broken)
                continue
            checking.finish()
            return

    def _pieces(self, blob: Descriptor, start: int) -> Iterator[bytes]:
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self.request("GET", f"blobs/{blob.digest}", headers) as answer:
            self.expect(answer, (200, 206), f"blob {blob.digest}")
            skip = start if answer.status == 200 else 0
            for piece in answer.chunks():
                if skip >= len(piece):
                    skip -= len(piece)
                    continue
                yield piece[skip:]
                skip = 0

    def push(self, blob: Descriptor, content: object, mount: Target | None = None) -> None:
        """Upload a blob unless it is there, or can be mounted."""
        from koalja_fn.pack.oci.upload import upload

        upload(self, blob, content, mount)  # type: ignore[arg-type]

    def mount(self, blob: Descriptor, source: Target) -> bool:
        """Ask the registry to take the blob from another of its repositories."""
        from koalja_fn.pack.oci.upload import mount

        return mount(self, blob, source)

    def put_manifest(self, manifest: Manifest, which: str) -> None:
        """Write a manifest; the registry must name the digest that we count."""
        headers = {"Content-Type": manifest.media_type}
        for attempt in range(self.client.transport.tries):
            with self.request("PUT", f"manifests/{which}", headers, Body.of(manifest.data)) as answer:
                if answer.status in (400, 404) and "BLOB_UNKNOWN" in _said(answer) and attempt < 3:
                    # docker-registry writes its links in place: while another process pushes the same blob
                    # they may be empty for a moment.
                    self.client.transport.pause(attempt, Broken("a blob is not there yet"))
                    continue
                self.expect(answer, (200, 201, 202), f"manifest {manifest.digest}")
                claimed = answer.headers.get("Docker-Content-Digest")
                break
        if claimed and claimed.startswith("sha256:") and claimed != manifest.digest:
            raise Damaged(f"{self.reference} took another manifest than we sent", why=f"it says {claimed}")
        self.meter.count_sent(len(manifest.data))

    def request(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: Body | None = None,
        *,
        extra: str = "",
        once: bool = False,
    ) -> Answer:
        """Send a request with what authorises it, and answer a challenge; `once`: the caller retries."""
        scope = f"{self.scope} {extra}".strip()
        send = self.client.transport.once if once else self.client.transport.send
        for last in (False, False, True):
            url = urljoin(self.root, path)
            mine = urlsplit(url)[:2] == urlsplit(self.root)[:2]
            authorisation = self._authoriser.header(scope) if mine else None
            sent = dict(headers or {}) | ({"Authorization": authorisation} if authorisation else {})
            answer = send(method, url, sent, body)
            if answer.status == 401 and mine and not last:
                challenges = answer.headers.get_all("WWW-Authenticate") or []
                answer.close()
                self._authoriser.answer(challenges, scope, authorisation)
            elif answer.status == 400 and url.startswith("http:") and _wants_tls(answer):
                self.client.speak_tls(self.reference)
            else:
                return answer
        raise self._authoriser.refusal()

    def expect(self, answer: Answer, good: tuple[int, ...], what: str) -> None:
        """Raise what another status means."""
        if answer.status in good:
            return
        said = _said(answer)
        if answer.status == 404 or "NAME_UNKNOWN" in said:
            raise nothing_there(what, self.reference)
        if answer.status in (401, 403):
            raise self._authoriser.refusal(why=f"{answer.status} for {what}" + (f": {said}" if said else ""))
        raise PackError(
            f"{self.reference.registry} refuses {what}", why=f"status {answer.status} {said}".strip()
        )


def _said(answer: Answer) -> str:
    """The registry's own words, from the JSON that the specification asks for."""
    try:
        errors = json.loads(answer.read(_SAID_LIMIT))["errors"]
        return "; ".join(f"{one.get('code', '')} {one.get('message', '')}".strip() for one in errors)[:500]
    except (ValueError, KeyError, TypeError, AttributeError, Broken):
        return ""


def _wants_tls(answer: Answer) -> bool:
    if answer.headers.get("Docker-Distribution-Api-Version"):
        return False
    with answer:
        return b"HTTPS server" in answer.read(_SAID_LIMIT)
