"""What is asked of a cluster, as a small protocol: the real client and its users know nothing of each other.

There is no `watch`: whoever waits lists by label twice a second. That is one request for all objects of a
kind, needs no care for expired or broken watches, and survives an API server that goes away for a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from koalja_fn.cluster.kinds import Kind, Object


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command in a pod ended."""

    status: int
    out: bytes
    err: bytes


class Cluster(Protocol):
    """A cluster, with the rights of whoever calls.

    Each method raises Unanswered where the API server can't be reached, Forbidden where it does not let us,
    and Rejected where it refuses what it is given; `get` gives None and `list` nothing where there is none.
    """

    @property
    def namespace(self) -> str:
        """The namespace that the caller's configuration names."""

    def apply(self, item: Object, *, dry_run: bool = False) -> Object:
        """Apply our part of an object; return the whole as it is (or would be) afterwards."""

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """One object."""

    def list(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> list[Object]:
        """The objects of a kind that have all these labels; an empty namespace means all."""

    def serves(self, kind: Kind, namespace: str) -> bool:
        """Whether the cluster knows a kind at all."""

    def delete(self, kind: Kind, namespace: str, name: str, *, grace: int | None = None) -> bool:
        """Begin to delete an object and all that depends on it; False where there is none."""

    def execute(
        self,
        namespace: str,
        pod: str,
        command: Sequence[str],
        stdin: bytes | Pieces = b"",
        *,
        out: Writer | None = None,
        err: Writer | None = None,
    ) -> Ended:
        """Run a command in a pod to its end. What it writes goes to `out` and `err` where they are given.

        Its standard input has the bytes of `stdin`, and then stays open until the caller goes away.
        """

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        previous: bool = False,
    ) -> Iterator[str]:
        """The lines that a container has written, and with `follow` those that it will."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """Bytes that are read as they are sent: `size` in all."""

    size: int
    parts: Iterable[bytes]


class Writer(Protocol):
    """Where bytes go as they come."""

    def __call__(self, data: bytes, /) -> object:
        """Take some."""
