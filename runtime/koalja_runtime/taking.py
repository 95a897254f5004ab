"""What role task does with requests that bring values; doorbells never come here (`tasking`)."""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask, Response, request

from koalja_fn.engine.working import Span, Worker
from koalja_fn.errors import KoaljaError, Refused
from koalja_fn.local.ghosting import ghosts_among
from koalja_fn.local.offering import offers_of
from koalja_runtime import telling
from koalja_runtime.bells import Bells
from koalja_runtime.entrance import Entrance, application_of, events_of_request
from koalja_runtime.joining import Joined


def application(joined: Joined, bells: Bells, worker: Worker, work: Callable[[Span], None]) -> Flask:
    """Take values on the circuit's wires, and foreign events for the task's only source; `work` on them."""
    entrance = Entrance(joined, bells, lambda: worker.post.circuit)
    app = application_of(entrance, joined)

    @app.post("/")
    def take() -> Response:
        found = events_of_request(joined)
        if found and ghosts_among(found):
            entrance.haunt(_source(worker), found)
            return Response(status=202)
        if found:
            entrance.accept(offers_of(found, _source(worker)))
        try:
            work(request.environ["koalja.span"])
        except KoaljaError as error:
            if not found:
                raise
            telling.trouble(error)  # what came in is durable
        return Response(status=202)

    return app


def _source(worker: Worker) -> str:
    """The wire that foreign events enter by."""
    post = worker.post
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
