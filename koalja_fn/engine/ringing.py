"""Doorbells as CloudEvents: what is told to others after a commit, and how. No sockets here.

A doorbell only says where something is new. Who hears it reads the registry from its own position, so
that one may be lost, repeated or late (DESIGN, section 7). All attributes are URL-safe ASCII, since brokers
compare them byte for byte.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from koalja_fn.events.values import VALUE_TYPE, armour

RING_TYPE = "dev.koalja.ring.v1"


@dataclass(frozen=True, slots=True)
class News:
    """The newest value that a commit put on a wire; `count` values came with it, and `source` made them.

    `ghost` names the walk where it is no value that came, but a ghost.
    """

    wire: str
    id: str
    source: str
    digest: str = ""
    size: int = 0
    count: int = 1
    ghost: str = ""

    def after(self, earlier: News) -> News:
        """One doorbell for two."""
        return replace(self, count=self.count + earlier.count)


class Bells(Protocol):
    """What the engine rings; never fails and never waits long, since a lost ring is found by the sweep."""

    def news(self, found: Collection[News]) -> None:
        """Tell whoever reads these wires."""

    def call(self, task: str, count: int = 1) -> None:
        """Ask `count` times for somebody to work on a task."""


def news_headers(circuit: str, news: News) -> dict[str, str]:
    """A doorbell of a wire, as the headers of binary mode; the body is empty."""
    found = {
        "specversion": "1.0",
        "type": VALUE_TYPE,
        "id": news.id,
        "source": news.source,
        "subject": news.wire,
        "koaljacircuit": circuit,
        "koaljawire": news.wire,
        "koaljadigest": news.digest,
        "koaljasize": str(news.size),
        "koaljacount": str(news.count),
        "koaljaghost": news.ghost,
    }
    return _headers(found)


def call_headers(circuit: str, task: str, id: str) -> dict[str, str]:
    """A ring for a task, as the headers of binary mode; the body is empty."""
    found = {
        "specversion": "1.0",
        "type": RING_TYPE,
        "id": id,
        "source": source_of(circuit, task),
        "koaljacircuit": circuit,
        "koaljatask": task,
    }
    return _headers(found)


def source_of(circuit: str, task: str) -> str:
    """The event source of a task."""
    return f"/circuits/{circuit}/tasks/{task}"


def is_ring(event_type: str) -> bool:
    """Whether an event of this type is one of ours, and carries nothing but the ring."""
    return event_type in (VALUE_TYPE, RING_TYPE)


def is_ring_request(environ: Mapping[str, Any]) -> bool:
    """Whether a WSGI request is a doorbell of ours in binary mode."""
    return is_ring(environ.get("HTTP_CE_TYPE", "")) and "cloudevents" not in environ.get("CONTENT_TYPE", "")


def walk_of_ring(environ: Mapping[str, Any]) -> str:
    """The walk of ghosts that such a request belongs to; empty where it rings for values."""
    return str(environ.get("HTTP_CE_KOALJAGHOST", ""))


def _headers(attributes: Mapping[str, str]) -> dict[str, str]:
    return {f"ce-{name}": armour(text) for name, text in attributes.items() if text}
