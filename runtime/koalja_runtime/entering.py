"""Role entry: where data come into a circuit, and what the circuit needs besides its tasks.

`POST /CIRCUIT/WIRE` takes values, in any mode; `POST /` foreign events from a Trigger, for the wires that
`accept` their type; `/sweep` finds what nobody rang for; `/letters` notes what a Trigger could not
deliver; `/sink` writes what wires with `to` have; `/ghost` begins a walk of ghosts.
"""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Callable, Iterable
from typing import Any, Self

from flask import Response

from koalja_fn.engine import sweeping, tidying
from koalja_fn.engine.plans import CircuitPlan
from koalja_fn.engine.sinking import Sinks
from koalja_fn.errors import Refused
from koalja_fn.events import Event
from koalja_fn.local.ghosting import ghosts_among
from koalja_fn.local.offering import offers_of
from koalja_runtime import letters, telling
from koalja_runtime.bells import Bells
from koalja_runtime.entrance import Entrance, application_of, events_of_request, express_of
from koalja_runtime.joining import Installed, Joined
from koalja_runtime.settings import Settings


class EntryDesk:
    """The entry as a WSGI application."""

    def __init__(self, joined: Joined, bells: Bells) -> None:
        self._joined = joined
        self._bells = bells
        self._plan = Installed(joined).plan
        self._sinking = threading.Lock()
        self._plan()
        self._entrance = Entrance(joined, bells, self._plan)
        self._app = application_of(self._entrance, joined)
        self.express = express_of(self._entrance)
        for path, view in {
            "/": self._accepted,
            "/sweep": self._sweep,
            "/letters": self._letter,
            "/sink": self._sink,
            "/ghost": self._ghost,
        }.items():
            self._app.add_url_rule(path, view.__name__, view, methods=["POST"])

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Join the circuit."""
        joined = Joined.of(settings)
        try:
            return cls(joined, Bells(settings.broker, settings.circuit))
        except BaseException:
            joined.close()
            raise

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        return self._app(environ, start_response)

    def _accepted(self) -> Response:
        """Foreign events that a Trigger brings."""
        plan = self._plan()
        for event in events_of_request(self._joined) or ():
            wires = accepting(plan, event)
            if not wires:
                raise Refused(
                    f"no wire of circuit {plan.circuit.name} accepts events of this type",
                    cure="say `accept = TYPE` under `wire NAME`, or POST to /CIRCUIT/WIRE",
                    http_status=422,
                )
            if ghosts_among([event]):
                for wire in wires:
                    self._entrance.haunt(wire, [event])
            else:
                self._entrance.accept([offer for wire in wires for offer in offers_of([event], wire)])
        return Response(status=202)

    def _sweep(self) -> Response:
        """Find what nobody rang for, and ring."""
        for task, count in sweeping.sweep(self._joined.registry, self._plan()).items():
            self._bells.call(task, count)
        self._bells.flush()
        try:
            self._write()
        finally:
            tidying.tidy(self._joined.registry, self._joined.store, self._plan())
        return Response(status=202)

    def _letter(self) -> Response:
        """Note what could not be delivered."""
        letters.note(self._joined, self._plan())
        return Response(status=202)

    def _sink(self) -> Response:
        """Write what wires with `to` have."""
        self._write()
        return Response(status=202)

    def _write(self) -> None:
        plan = self._plan()
        with self._sinking:
            sinks = Sinks(self._joined.registry, self._joined.store, plan, telling.trouble, files=False)
            try:
                sinks.flush()
            finally:
                sinks.close()

    def _ghost(self) -> Response:
        """Begin a walk of ghosts from several wires."""
        return self._entrance.ghosts.view(self._plan())

    def drain(self) -> None:
        """Nothing: what is under way is short."""

    def give_back(self) -> None:
        """Nothing runs here."""

    def close(self) -> None:
        """Close all, after the last ring."""
        self._bells.flush()
        self._joined.close()


def accepting(plan: CircuitPlan, event: Event) -> list[str]:
    """The wires that say they accept events of this type: a list of types, with * and ? for any text."""
    kind = str(event.attributes.get("type", ""))
    return [
        name
        for name, wire in sorted(plan.circuit.wires.items())
        if wire.accept and any(fnmatch.fnmatchcase(kind, p) for p in wire.accept.replace(",", " ").split())
    ]
