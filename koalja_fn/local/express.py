"""The express way in: small events that come together share one commit, past the web framework.

It takes what is in order and has nothing special about it. All else, and whatever an intake does not take
together with its neighbours, is left to the application (`serving`), which says what is wrong with it: so
there is one place for rules and their errors, and both ways give the same answers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from koalja_fn import events
from koalja_fn.engine.arriving import Offer, Receipt
from koalja_fn.errors import Refused
from koalja_fn.local.hosts import LOOPBACK, is_own
from koalja_fn.local.offering import offers_of, untyped_on
from koalja_fn.model import Circuit
from koalja_fn.web import Answer, Head

# The store keeps what is not larger in rows, which share one wait for the disk.
SMALL = 16 << 10
# Whoever sends these wants something that only the application knows of.
_SPECIAL = frozenset(("origin", "idempotency-key", "content-encoding", "prefer", "kn-namespace"))


class Together(Protocol):
    """The part of an intake that the express way uses."""

    @property
    def circuit(self) -> Circuit:
        """The circuit whose wires these are."""

    def accept_together(self, offers: Sequence[Offer]) -> list[Receipt | None]:
        """Put values of several senders on wires; None for what has to be offered alone."""


class Express:
    """Takes values by POST to `/CIRCUIT/WIRE`, and to `/` for the wire `root` (`koalja_fn.web.Express`)."""

    def __init__(
        self,
        intake: Together,
        limits: events.Limits = events.DEFAULT_LIMITS,
        *,
        hosts: Collection[str] | None = LOOPBACK,
        told: Callable[[Receipt], Answer],
        root: str | None = None,
    ) -> None:
        self._intake = intake
        self._limits = limits
        self._hosts = hosts
        self._told = told
        self._root = root
        self._circuit: Circuit | None = None
        self._wires: Mapping[str, tuple[str, str]] = {}

    def take(self, head: Head, body: bytes) -> Offer | None:
        """What a request offers; None where the application has to look at it."""
        place = self._places().get(head.target)
        fields = head.fields
        if place is None or head.method != "POST" or len(body) > SMALL or not _SPECIAL.isdisjoint(fields):
            return None
        if self._hosts is not None and not is_own(fields.get("host", ""), self._hosts):
            return None
        wire, untyped = place
        try:
            found = events.read_fields(fields, body, self._limits, untyped)
        except Refused:
            return None
        if len(found) != 1 or "koaljaghost" in found[0].attributes:
            return None
        return offers_of(found, wire)[0]

    def settle(self, taken: Sequence[Offer]) -> list[Answer | None]:
        """Put all on their wires; the answers."""
        receipts = self._intake.accept_together(taken)
        return [None if receipt is None else self._told(receipt) for receipt in receipts]

    def _places(self) -> Mapping[str, tuple[str, str]]:
        """By the target of a request: wire, and the type of what has none."""
        circuit = self._intake.circuit
        if circuit is not self._circuit:
            places = {f"/{circuit.name}/{wire}": wire for wire in circuit.wires}
            if self._root is not None:
                places["/"] = self._root
            self._wires = {place: (wire, untyped_on(circuit, wire)) for place, wire in places.items()}
            self._circuit = circuit
        return self._wires
