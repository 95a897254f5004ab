"""The HTTP side that task and entry share: values by POST to /CIRCUIT/WIRE, answered as a Broker wants it.

A Broker delivers again after 404, 409, 429 and 5xx, and takes a body with 200 for a reply event. So what it
delivers is answered with 202 and no body, and with a 4xx that it does not repeat where that would be useless
(DESIGN, section 11; Knative's delivery contract).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flask import Flask, Response, request

from koalja_fn import events
from koalja_fn.engine import sweeping
from koalja_fn.engine.arriving import Intake, Offer, Receipt
from koalja_fn.engine.plans import CircuitPlan
from koalja_fn.engine.ringing import News, is_ring, is_ring_request
from koalja_fn.errors import KoaljaError
from koalja_fn.events import Event
from koalja_fn.local.ghosting import Walked
from koalja_fn.local.serving import Express, entry
from koalja_fn.local.spool import spool_stream, too_large
from koalja_fn.model import Circuit
from koalja_fn.web import Answer
from koalja_runtime import telling
from koalja_runtime.bells import Bells
from koalja_runtime.ghosts import Ghosts
from koalja_runtime.joining import Joined

# Structured events and batches are read in memory, of which a container has little; large data are streamed.
LIMITS = events.Limits(document=8 << 20)
_GIVE_BODY = "return=representation"


class Entrance:
    """The way in of a circuit as it is installed now, which rings for what came in."""

    def __init__(self, joined: Joined, bells: Bells, plan: Callable[[], CircuitPlan]) -> None:
        self._joined = joined
        self._bells = bells
        self._plan = plan
        self.seen = plan().circuit
        self.ghosts = Ghosts(joined, bells)

    @property
    def circuit(self) -> Circuit:
        """The circuit whose wires these are."""
        return self._plan().circuit

    def haunt(self, wire: str, found: Sequence[Event]) -> list[Walked]:
        """Have ghosts walk from a wire."""
        return self.ghosts.enter(self._plan(), wire, found)

    def accept(self, offers: Sequence[Offer]) -> list[Receipt]:
        """Put values on wires, all or none; durable when it returns. Then whoever reads them is rung."""
        plan = self._plan()
        receipts = self._intake(plan).accept(offers)
        self._tell(plan, receipts)
        return receipts

    def accept_together(self, offers: Sequence[Offer]) -> list[Receipt | None]:
        """Put values of several senders on wires; None for what has to be offered alone."""
        plan = self._plan()
        self.seen = plan.circuit
        told: list[Receipt | None] = [None] * len(offers)
        known = [n for n, offer in enumerate(offers) if offer.wire in plan.wires]  # rewired meanwhile
        receipts = self._intake(plan).accept_together([offers[n] for n in known])
        self._tell(plan, [receipt for receipt in receipts if receipt is not None])
        for n, receipt in zip(known, receipts, strict=True):
            told[n] = receipt
        return told

    def _intake(self, plan: CircuitPlan) -> Intake:
        return Intake(self._joined.registry, self._joined.store, plan, lambda _: None)

    def _tell(self, plan: CircuitPlan, receipts: Sequence[Receipt]) -> None:
        """Ring for what is new."""
        newest: dict[str, News] = {}
        for receipt in receipts:
            if not receipt.duplicate:
                source = f"/circuits/{plan.circuit.name}/wires/{receipt.wire}"
                news = News(receipt.wire, receipt.id, source, receipt.digest, receipt.size)
                newest[receipt.wire] = news.after(newest[receipt.wire]) if receipt.wire in newest else news
        if newest:
            self._bells.news(newest.values())
            try:
                sweeping.form_jobs(self._joined.registry, plan, set(newest))
            except KoaljaError as error:  # the value is durable; the sweep forms
                telling.trouble(error)


class Beside:
    """The way in for `Express`, which asks for the circuit at each request: as it was at the last commit."""

    def __init__(self, entrance: Entrance) -> None:
        self._entrance = entrance

    @property
    def circuit(self) -> Circuit:
        """The circuit whose wires these are."""
        return self._entrance.seen

    def accept_together(self, offers: Sequence[Offer]) -> list[Receipt | None]:
        """Put values of several senders on wires; None for what has to be offered alone."""
        return self._entrance.accept_together(offers)


def express_of(entrance: Entrance) -> Express:
    """The way around the application for small events; what is not as usual is left to the application."""
    return Express(Beside(entrance), LIMITS, hosts=None, told=lambda _: Answer(202))


def application_of(entrance: Entrance, joined: Joined) -> Flask:
    """The application that takes values; more routes may be added to it."""
    app = entry(
        entrance,  # type: ignore[arg-type]
        LIMITS,
        spool=joined.scratch / "spool",
        hosts=None,
        ghosts=entrance.haunt,
    )

    @app.after_request
    def as_brokers_want_it(response: Response) -> Response:
        if request.method != "POST":
            return response
        if 200 <= response.status_code < 300 and _GIVE_BODY not in request.headers.get("Prefer", ""):
            response.status_code = 202
            response.set_data(b"")
            response.headers.pop("Content-Type", None)
        elif response.status_code in (404, 405, 409) and by_broker():
            response.status_code = 422
        return response

    return app


def by_broker() -> bool:
    """Whether a Broker or a channel delivers, who would repeat what is answered with 404."""
    return "Kn-Namespace" in request.headers or request.headers.get("Prefer") == "reply"


def events_of_request(joined: Joined) -> list[Event] | None:
    """The events of the request; None where they are doorbells of ours, which carry nothing.

    Raises:
        Refused: It is no event, or it breaks a rule or a limit.
    """
    if is_ring_request(request.environ):
        return None
    if (request.content_length or 0) > LIMITS.body:
        raise too_large(LIMITS.body)
    body = spool_stream(request.stream, joined.scratch / "spool", LIMITS.body)  # type: ignore[arg-type]
    headers = dict(request.headers.items())
    if events.mode_of({name.lower(): text for name, text in headers.items()}) is events.Mode.RAW:
        if not isinstance(body, bytes):
            body.unlink(missing_ok=True)
        from koalja_fn.errors import Refused

        raise Refused(
            "this is no event",
            why="it has neither the headers nor the content type of a CloudEvent",
            cure="POST to /CIRCUIT/WIRE of the circuit's entry, which takes any payload",
        )
    found = events.read(headers, body, LIMITS)
    if found and all(is_ring(str(event.attributes.get("type", ""))) for event in found):
        return None
    return found
