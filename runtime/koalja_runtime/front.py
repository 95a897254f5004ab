"""The front of the server: health at once, everything else as soon as what is behind it is open.

What is behind it (registry, store, engine) is imported and opened by the first request that needs it, or a
moment after the server listens, so that nothing heavy stands before the first answer. Where it can't be
opened (the registry is away) requests get 503, and the next one tries again.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from koalja_runtime.settings import Settings

if TYPE_CHECKING:
    from koalja_fn.web import Answer, Head

Start = Callable[..., Any]
_WARM_UP = 0.05
_PAUSE = 1.0
# Whoever asks while it is being opened waits so long, and is then asked to come again.
_PATIENCE = 10.0


class Desk(Protocol):
    """What answers requests, once it is open."""

    def __call__(self, environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        """Answer a request."""

    def drain(self) -> None:
        """Begin nothing new; what is under way goes on. Called in a signal handler: takes no locks."""

    def give_back(self) -> None:
        """End the programs that run, and give their snapshots back."""

    def close(self) -> None:
        """Close all; nothing is under way."""


class Front:
    """The WSGI application."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._opening = threading.Lock()
        self._desk: Desk | None = None
        self._failed = 0.0
        self._told = ""
        self._draining = False

    def __call__(self, environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        """Answer health, and pass on everything else."""
        path = environ.get("PATH_INFO", "/")
        probed = environ.get("REQUEST_METHOD") in ("GET", "HEAD") and "HTTP_KOALJA_LOOKUP" not in environ
        if probed and path in ("/healthz", "/readyz"):
            fine = path == "/healthz" or self._is_ready()
            return _plain(start_response, "200 OK" if fine else "503 Service Unavailable")
        desk = self._desk or self._open()
        if desk is None or self._draining:
            return _plain(start_response, "503 Service Unavailable", [("Retry-After", "1")])
        return desk(environ, start_response)

    def take(self, head: Head, body: bytes) -> Any:
        """What can go the express way (`koalja_fn.web.Express`), once what is behind is open."""
        express = getattr(self._desk, "express", None)
        if express is None or self._draining:
            return None
        taken = express.take(head, body)
        return None if taken is None else (express, taken)

    def settle(self, taken: Sequence[Any]) -> Sequence[Answer | None]:
        """Answer what was taken."""
        answers: Sequence[Answer | None] = taken[0][0].settle([one for _, one in taken])
        return answers

    def _is_ready(self) -> bool:
        """Whether what is behind is open, and says of itself that it is ready where it does."""
        return self._desk is not None and bool(getattr(self._desk, "is_ready", True))

    def warm_up(self) -> None:
        """Open what is behind soon, even if nobody asks."""
        timer = threading.Timer(_WARM_UP, self._open)
        timer.daemon = True
        timer.start()

    def drain(self, patience: float) -> None:
        """Begin nothing new; after `patience` seconds end what still runs. For a signal handler."""
        self._draining = True
        desk = self._desk
        if desk is not None:
            desk.drain()
            timer = threading.Timer(patience, desk.give_back)
            timer.daemon = True
            timer.start()

    def close(self) -> None:
        """Close what is behind."""
        if self._desk is not None:
            self._desk.close()

    def _open(self) -> Desk | None:
        if not self._opening.acquire(timeout=_PATIENCE):
            return None
        try:
            lately = self._failed > 0 and time.monotonic() - self._failed < _PAUSE
            if self._desk is not None or lately:
                return self._desk
            try:
                with uncollected():
                    self._desk = _desk_of(self.settings)
            except Exception as error:
                self._failed = time.monotonic()
                self._tell(error)
            return self._desk
        finally:
            self._opening.release()

    def _tell(self, error: Exception) -> None:
        text = f"koalja: {type(error).__name__} while opening: {error}\n"
        if text != self._told:  # once, however often it is tried
            self._told = text
            sys.stderr.write(text)
            sys.stderr.flush()


def _desk_of(settings: Settings) -> Desk:
    """Open what the role asks for; heavy imports happen here."""
    if not settings.role:
        from koalja_runtime.alone import Alone

        return Alone.open(settings)
    if settings.role == "entry":
        from koalja_runtime.entering import EntryDesk

        return EntryDesk.open(settings)
    if settings.role == "service":
        from koalja_runtime.answering import ServiceDesk

        return ServiceDesk.open(settings)
    from koalja_runtime.tasking import TaskDesk

    return TaskDesk.open(settings)


@contextmanager
def uncollected() -> Iterator[None]:
    """Collect no garbage meanwhile: what imports make stays, and looking through it costs a tenth."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _plain(start_response: Start, status: str, headers: list[tuple[str, str]] | None = None) -> list[bytes]:
    start_response(status, [("Content-Length", "0"), *(headers or [])])
    return []
