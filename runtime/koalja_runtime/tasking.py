"""Role task: a doorbell is a request that works, until nothing is left that can be claimed.

`POST /` takes doorbells, and foreign events for the task's only source; `POST /CIRCUIT/WIRE` takes values;
`POST /errands/KEY` has an execution run that `make` asked for.
The request stays open while it works, so that the autoscaler sees it. Most tasks only ever hear doorbells:
the web framework, and whatever else reads values, is imported when the first one comes.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Self

from koalja_fn.engine.ringing import is_ring_request, walk_of_ring
from koalja_fn.engine.working import Span, Worker
from koalja_fn.errors import NotFound
from koalja_runtime import telling
from koalja_runtime.bells import Bells
from koalja_runtime.joining import Bench, Joined
from koalja_runtime.settings import Settings

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


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
        self._making = threading.Lock()
        self._app: Application | None = None

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
            and is_ring_request(environ)
        ):
            walk = walk_of_ring(environ)
            status = self._haunted(environ, walk) if walk else self._rung(span)
            start_response(status, [("Content-Length", "0")])
            return []
        if environ["REQUEST_METHOD"] == "POST" and environ.get("PATH_INFO", "").startswith("/errands/"):
            return self._sent(environ["PATH_INFO"].removeprefix("/errands/"), span, start_response)
        if environ["REQUEST_METHOD"] == "POST" and environ.get("PATH_INFO", "").startswith("/lanes/"):
            return self._redone(environ["PATH_INFO"].removeprefix("/lanes/"), span, start_response)
        environ["koalja.span"] = span
        return (self._app or self._taking())(environ, start_response)

    def _rung(self, span: Span) -> str:
        """Work; the status to answer."""
        try:
            self.work(span)
        except Exception as error:
            telling.trouble(error)
            return "503 Service Unavailable"
        return "202 Accepted"

    def _haunted(self, environ: dict[str, Any], walk: str) -> str:
        """A ghost has come: look, ring on, and run nothing; the status to answer."""
        from koalja_runtime.ghosts import Ghosts, wire_of_ring

        try:
            Ghosts(self._joined, self._bells).come(self.worker.post, wire_of_ring(environ), walk)
        except Exception as error:
            telling.trouble(error)
            return "503 Service Unavailable"
        return "202 Accepted"

    def _sent(self, key: str, span: Span, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """A run of `make` waits for an execution."""
        from koalja_runtime.errands import see_to

        try:
            status, said = see_to(self._joined, self._bench.caller, self.worker, key, span)
        except Exception as error:
            telling.trouble(error)
            status, said = "503 Service Unavailable", {"why": str(error)}
        return _told(status, said, start_response)

    def _redone(self, named: str, span: Span, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """A recompute waits for an execution."""
        from koalja_runtime.lanes import see_to

        try:
            status, said = see_to(self._joined, self._bench, self.worker, named, span)
        except Exception as error:
            telling.trouble(error)
            status, said = "503 Service Unavailable", {"why": str(error)}
        return _told(status, said, start_response)

    def work(self, span: Span) -> None:
        """Work until nothing is left, or the span is over; then whoever is to be rung has been."""
        try:
            self.worker.work(span)
        except NotFound as error:  # removed, or not installed yet
            telling.trouble(error)
        finally:
            self._bells.flush()

    def _taking(self) -> Application:
        """What takes values, made once."""
        with self._making:
            if self._app is None:
                from koalja_runtime.taking import application

                self._app = application(self._joined, self._bells, self.worker, self.work)
            return self._app

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


def _told(status: str, said: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    body = json.dumps(said).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
