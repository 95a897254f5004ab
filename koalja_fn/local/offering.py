"""What every way in does alike: find the wire, make offers of events, wait while a backlog is full."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from koalja_fn.engine.arriving import Offer, Receipt
from koalja_fn.errors import Full, NotFound
from koalja_fn.events import UNTYPED, Event
from koalja_fn.model import Circuit

T = TypeVar("T")


class Intake(Protocol):
    """The part of the engine's intake that the ways in use."""

    @property
    def circuit(self) -> Circuit:
        """The circuit whose wires these are."""

    def accept(self, offers: Sequence[Offer]) -> list[Receipt]:
        """Put values on wires, all or none; durable when it returns."""

    def observe(self, wire: str, path: Path, *, name: str | None = None) -> Receipt | None:
        """Take a file that is new or has changed."""


def check_wire(circuit: Circuit, wire: str) -> str:
    """Refuse a wire that the circuit does not have.

    Raises:
        NotFound: With the name that was most likely meant.
    """
    if wire in circuit.wires:
        return wire
    close = difflib.get_close_matches(wire, list(circuit.wires), n=1, cutoff=0.6)
    known = ", ".join(sorted(circuit.wires)[:20])
    raise NotFound(
        f"circuit '{circuit.name}' has no wire {wire[:80]!r}",
        cure=f"did you mean '{close[0]}'?" if close else f"one of: {known}",
    )


def untyped_on(circuit: Circuit, wire: str) -> str:
    """The type of a value whose sender names none: what the wiring says about its wire."""
    return circuit.wires[wire].type or UNTYPED


def offers_of(events: Iterable[Event], wire: str) -> list[Offer]:
    """Offer events to a wire."""
    return [
        Offer(wire, e.payload, e.source, e.id, e.type, e.created, e.name, e.sequence, e.attributes)
        for e in events
    ]


def patiently(
    attempt: Callable[[], T], stop: threading.Event, told: Callable[[Full], None] | None = None
) -> T | None:
    """Try until no backlog is full, as often as it takes; None when `stop` is set meanwhile."""
    while not stop.is_set():
        try:
            return attempt()
        except Full as full:
            if told is not None:
                told(full)
            stop.wait(max(full.retry_after, 0.05))
    return None
