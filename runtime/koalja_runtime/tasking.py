"""Role task: a doorbell is a request that works, until nothing is left that can be claimed.

`POST /` takes doorbells, and foreign events for the task's only source; `POST /CIRCUIT/WIRE` takes values.
The request stays open while it works, so that the autoscaler sees it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Self

from flask import Response, request

from koalja_fn.engine.plans import CircuitPlan
from koalja_fn.engine.working import Span, Worker
from koalja_fn.errors import KoaljaError, NotFound, Refused
from koalja_fn.local.ghosting import ghosts_among
from koalja_fn.local.offering import offers_of
from koalja_runtime import telling
from koalja_runtime.bells import Bells
from koalja_runtime.entrance import Entrance, application, events_of_request, rings
from koalja_runtime.ghosts import walk_of_ring, wire_of_ring
from koalja_runtime.joining import Bench, Joined
from koalja_runtime.settings import Settings


class TaskDesk:
    """The task as a WSGI application."""

    def __init__(self, joined: Joined, bench: Bench, bells: Bells) -> None:
        settings = joined.settings
        self._joined = joined
        self._bench = bench
        self._bells = bells
        self._working = settings.working
        self.worker = Worker(
            joined.registry,
            bench.post,
            bells,
            places=settings.places,
            lease=settings.lease,
            ended=telling.ended,
            trouble=telling.trouble,
        )
        self._entrance = Entrance(joined, bells, self._plan)
        self._app = application(self._entrance, joined)
        self._app.post("/")(self._ring)
        self._draining = False

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Join the circuit, with the program of this image."""
        joined = Joined.of(settings)
        try:
            return cls(joined, Bench(joined), Bells(settings.broker, settings.circuit))
        except BaseException:
            joined.close()
            raise

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request; a doorbell, which carries nothing, without the framework's help."""
        began = time.monotonic()
        span = Span(began, began + self._working)
        if (
            environ["REQUEST_METHOD"] == "POST"
            and environ.get("PATH_INFO", "/") in ("", "/")
            and rings(environ)
        ):
            walk = walk_of_ring(environ)
            status = self._haunted(walk, wire_of_ring(environ)) if walk else self._rung(span)
            start_response(status, [("Content-Length", "0")])
            return []
        environ["koalja.span"] = span
        return self._app(environ, start_response)

    def _rung(self, span: Span) -> str:
        """Work; the status to answer."""
        try:
            self._work(span)
        except Exception as error:
            telling.trouble(error)
            return "503 Service Unavailable"
        return "202 Accepted"

    def _haunted(self, walk: str, wire: str) -> str:
        """A ghost has come: look, ring on, and run nothing; the status to answer."""
        try:
            self._entrance.ghosts.come(self.worker.post, wire, walk)
        except Exception as error:
            telling.trouble(error)
            return "503 Service Unavailable"
        return "202 Accepted"

    def _work(self, span: Span) -> None:
        try:
            self.worker.work(span)
        except NotFound as error:  # removed, or not installed yet
            telling.trouble(error)
        finally:
            self._bells.flush()

    def _plan(self) -> CircuitPlan:
        return self.worker.post.circuit

    def _ring(self) -> Response:
        """Take a doorbell, or foreign events, and work."""
        found = events_of_request(self._joined)
        if found and ghosts_among(found):
            self._entrance.haunt(self._source(), found)
            return Response(status=202)
        if found:
            self._entrance.accept(offers_of(found, self._source()))
        try:
            self._work(request.environ["koalja.span"])
        except KoaljaError as error:
            if not found:
                raise
            telling.trouble(error)  # what came in is durable
        return Response(status=202)

    def _source(self) -> str:
        """The wire that foreign events enter by."""
        post = self.worker.post
        sources = [wire for wire in post.plan.spec.wires if wire in post.circuit.circuit.sources]
        if len(sources) != 1:
            names = ", ".join(sources) or "none"
            raise Refused(
                f"which wire of task {post.plan.name} is meant?",
                why=f"its sources: {names}",
                cure=f"POST to /{post.circuit.circuit.name}/WIRE of the circuit's entry",
                http_status=422,
            )
        return sources[0]

    def drain(self) -> None:
        """Claim nothing more."""
        self.worker.stop()

    def give_back(self) -> None:
        """End the programs that run, and give their snapshots back."""
        self.worker.give_back()

    def close(self) -> None:
        """Close all."""
        self.worker.close()
        self._bells.flush()
        self._bench.close()
        self._joined.close()
