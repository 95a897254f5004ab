"""Bringing a blob into a repository: looked for, mounted, sent whole, or sent in chunks that can resume."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit

from koalja_fn.errors import Damaged, PackError, Unauthorised
from koalja_fn.pack.oci.messages import Answer, Body, Broken
from koalja_fn.pack.oci.reference import Reference, Target
from koalja_fn.pack.oci.values import Descriptor

if TYPE_CHECKING:
    from koalja_fn.pack.oci.client import Holders, Repository

_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")
_OCTETS = {"Content-Type": "application/octet-stream"}
_NO_CHUNKS = {400, 405, 411, 413, 501}


class _Lost(Exception):
    """The registry knows nothing of the upload any more: begin again."""


class _Session:
    """An upload that the registry has opened: where to send to, and how far it got."""

    def __init__(self, repository: Repository, answer: Answer) -> None:
        self._repository = repository
        self.offset = 0
        self.least = int(answer.headers.get("OCI-Chunk-Min-Length") or 0)
        self.address = ""
        self.follow(answer)

    def follow(self, answer: Answer) -> None:
        """Take over the address for the next request."""
        location = answer.headers.get("Location")
        if location:
            address = urlsplit(urljoin(answer.url, location))
            ours = urlsplit(self._repository.root)
            # A registry behind a proxy that ends TLS may not know how it was called.
            self.address = address._replace(
                scheme=ours.scheme if address[1] == ours[1] else address[0]
            ).geturl()
        if not self.address:
            raise PackError(f"{self._repository.reference.registry} opened an upload without an address")

    def reached(self, answer: Answer, otherwise: int) -> None:
        """Take over how far the registry got."""
        told = _RANGE.fullmatch(answer.headers.get("Range", ""))
        self.offset = int(told[1]) + 1 if told else otherwise

    def ask(self) -> None:
        """Find out where to go on after a break; `_Lost` where the registry has no such upload."""
        with self._repository.request("GET", self.address) as answer:
            if answer.status not in (200, 202, 204):
                raise _Lost
            self.follow(answer)
            # Nothing and one byte have the same spelling: "0-0". Nothing is the likelier of the two, and
            # the digest at the end tells.
            nothing = answer.headers.get("Range", "0-0") in ("0-0", "bytes=0-0")
            self.reached(answer, 0)
            self.offset = 0 if nothing else self.offset


def upload(repository: Repository, blob: Descriptor, content: bytes | Path, source: Target | None) -> None:
    """Make sure that the blob is in the repository, at the least cost in bytes."""
    holders = repository.client.holders(repository.reference, blob.digest)
    with holders.lock:
        if _is_there(repository, blob, holders):
            return
        neighbour = _neighbour(repository, source, holders)
        session = _mounted(repository, blob, neighbour) if neighbour else _open(repository)
        if session is not None:
            _send(repository, blob, content, session)
        holders.repositories[repository.reference.repository] = None


def mount(repository: Repository, blob: Descriptor, source: Target) -> bool:
    """Mount the blob, or find it there already; an upload that the registry opens instead is given up."""
    holders = repository.client.holders(repository.reference, blob.digest)
    with holders.lock:
        if _is_there(repository, blob, holders):
            return True
        neighbour = _neighbour(repository, source, holders)
        session = _mounted(repository, blob, neighbour) if neighbour else None
        if session is not None:
            _cancel(repository, session)
        if session is not None or neighbour is None:
            return False
        holders.repositories[repository.reference.repository] = None
    return True


def _is_there(repository: Repository, blob: Descriptor, holders: Holders) -> bool:
    mine = repository.reference.repository
    if mine not in holders.repositories and not repository.has(blob.digest):
        return False
    holders.repositories[mine] = None
    repository.meter.count_spared(blob.size)
    return True


def _neighbour(repository: Repository, source: Target | None, holders: Holders) -> Reference | None:
    """A repository of the same registry to mount from: where the blob came from, or was brought to."""
    if isinstance(source, Reference) and _is_neighbour(repository, source):
        return source
    known = next(reversed(holders.repositories), None)
    return Reference(repository.reference.registry, known) if known else None


def _is_neighbour(repository: Repository, source: Reference) -> bool:
    mine = repository.reference
    return source.registry == mine.registry and source.repository != mine.repository


def _mounted(repository: Repository, blob: Descriptor, source: Reference) -> _Session | None:
    """None where the blob is there now, else the upload that was opened in its place."""
    path = f"blobs/uploads/?mount={quote(blob.digest)}&from={quote(source.repository, safe='')}"
    with (
        contextlib.suppress(Unauthorised),  # we may not read there: then the bytes must travel
        repository.request("POST", path, extra=f"repository:{source.repository}:pull") as answer,
    ):
        if answer.status == 201:
            repository.meter.count_spared(blob.size)
            return None
        if answer.status == 202:
            return _Session(repository, answer)
    return _open(repository)  # some registries refuse what they don't know


def _open(repository: Repository) -> _Session:
    with repository.request("POST", "blobs/uploads/") as answer:
        repository.expect(answer, (202,), f"uploads to {repository.reference.repository}")
        return _Session(repository, answer)


def _cancel(repository: Repository, session: _Session) -> None:
    with repository.request("DELETE", session.address):
        pass  # a registry forgets uploads in time; this is only polite


def _send(repository: Repository, blob: Descriptor, content: bytes | Path, session: _Session | None) -> None:
    """Try until the blob is there; each time around either progress is made or patience is lost."""
    chunked = isinstance(content, Path) and blob.size > repository.client.large
    failures, furthest, digest_refused = 0, 0, False
    while True:
        try:
            session = session or _open(repository)
            if chunked and not _chunks(repository, blob, content, session):
                chunked, session = False, None
                continue
            _close(repository, blob, content, session, whole=not chunked)
            return
        except (Broken, _Lost) as problem:
            reached = session.offset if session else 0
            failures = 0 if reached > furthest else failures + 1
            furthest = max(furthest, reached)
            broken = problem if isinstance(problem, Broken) else Broken("the upload was forgotten")
            repository.client.transport.pause(failures, broken)
            if repository.has(blob.digest):
                return  # only the answer was lost
            session = _resumed(session) if chunked and isinstance(problem, Broken) else None
        except Damaged:
            if digest_refused:
                raise
            # Resumed at the wrong byte, perhaps: once more from the start.
            digest_refused, session = True, None


def _resumed(session: _Session | None) -> _Session | None:
    """The session where the registry got to; docker-registry 2.x forgets one that broke within a chunk."""
    if session is None:
        return None
    try:
        session.ask()
    except _Lost:
        return None
    return session


def _chunks(repository: Repository, blob: Descriptor, content: bytes | Path, session: _Session) -> bool:
    """Send from where the session is to the end; False where the registry takes no chunks."""
    step = max(repository.client.chunk, session.least)
    while session.offset < blob.size:
        start = session.offset
        size = min(step, blob.size - start)
        headers = _OCTETS | {"Content-Range": f"{start}-{start + size - 1}"}
        body = Body(content, start, size, repository.meter.count_sent)
        with repository.request("PATCH", session.address, headers, body, once=True) as answer:
            if answer.status == 404:
                raise _Lost
            if answer.status == 416:
                session.ask()
                if session.offset == start:
                    raise _Lost
                continue
            if answer.status in _NO_CHUNKS and start == 0:
                return False
            repository.expect(answer, (202, 201, 204), f"a chunk of {blob.digest}")
            session.follow(answer)
            session.reached(answer, start + size)
    return True


def _close(
    repository: Repository, blob: Descriptor, content: bytes | Path, session: _Session, *, whole: bool
) -> None:
    joint = "&" if "?" in session.address else "?"
    url = f"{session.address}{joint}digest={quote(blob.digest, safe='')}"
    body = Body(content, 0, blob.size, repository.meter.count_sent) if whole else None
    with repository.request("PUT", url, dict(_OCTETS), body, once=True) as answer:
        if answer.status == 404:
            raise _Lost
        if answer.status == 400:
            _look_at_refusal(answer, blob, repository)
        repository.expect(answer, (201, 202, 204), f"blob {blob.digest}")


def _look_at_refusal(answer: Answer, blob: Descriptor, repository: Repository) -> None:
    said = answer.read(1 << 14)
    if b"DIGEST_INVALID" in said or b"SIZE_INVALID" in said or b"BLOB_UPLOAD_INVALID" in said:
        raise Damaged(
            f"{repository.reference.registry} got other bytes than {blob.digest} promises",
            cure="pack again; if it stays so, look at the network and the disk",
        )
    raise PackError(
        f"{repository.reference.registry} refuses blob {blob.digest}", why=f"status {answer.status}"
    )
