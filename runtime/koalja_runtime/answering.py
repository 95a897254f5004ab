"""Role service: a long-running program of the user's, and the address at which it is asked.

Its pod is asked as any web server is. Requests go on to the process of the newest snapshot and wait while
there is none, so that none fails when another takes its place. `POST /` takes doorbells: the request stays
open until the process that it asks for listens, so that the autoscaler sees it.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

from koalja_fn.engine import sweeping
from koalja_fn.engine.ringing import is_ring_request, walk_of_ring
from koalja_fn.engine.serving import Elsewhere, Services, Talk
from koalja_fn.engine.working import Post
from koalja_fn.errors import KoaljaError
from koalja_fn.lookups import Proxy, Switch, Target, Unavailable
from koalja_fn.lookups.switching import ANSWERED, LOOKUP, VERSION
from koalja_fn.program.calling import Caller
from koalja_fn.registry import standing
from koalja_fn.registry.registry import Transaction
from koalja_runtime import telling
from koalja_runtime.bells import Bells
from koalja_runtime.joining import Bench, Joined, distant
from koalja_runtime.settings import Settings

_PIECE = 65_536
_LOOK = 1.0
# They concern one connection, not the request (RFC 9110, 7.6.1).
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-connection", "te", "trailer", "upgrade"}
)
_OURS = frozenset({"host", "expect", "transfer-encoding", "content-length", LOOKUP.lower()})

Headers = list[tuple[str, str]]
Start = Callable[..., Any]


class ServiceDesk:
    """The service as a WSGI application."""

    def __init__(self, joined: Joined, bench: Bench, bells: Bells) -> None:
        settings = joined.settings
        self._joined = joined
        self._bench = bench
        self._bells = bells
        self._working = settings.working
        self._name = settings.task
        self._bell = threading.Condition()
        self._following = threading.Lock()
        self._was_ready = False
        self._post = bench.post()
        self._services = Services(
            joined.registry,
            Proxy(joined.store, joined.registry.clock),
            Caller(joined.store, joined.scratch / "work"),
            self._post.circuit,
            self._elsewhere(self._post),
        )
        self._switch: Switch = self._services.switch(self._name)
        self._services.start(Talk(telling.ended, telling.say, telling.trouble, self._told))

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Join the circuit, with the program of this image."""
        joined = Joined.of(settings)
        try:
            return cls(joined, Bench(joined), Bells(settings.broker, settings.circuit))
        except BaseException:
            joined.close()
            raise

    @property
    def is_ready(self) -> bool:
        """Whether requests find a process here, or there is none to be started; once so, for good."""
        self._was_ready = self._was_ready or self._switch.is_up or not self._services.busy
        return self._was_ready

    def __call__(self, environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        """Take a doorbell, or hand a request on."""
        until = time.monotonic() + self._working
        bare = environ.get("PATH_INFO", "/") in ("", "/") and environ["REQUEST_METHOD"] == "POST"
        if bare and is_ring_request(environ) and not environ.get(_variable(LOOKUP)):
            walk = walk_of_ring(environ)
            status = self._haunted(environ, walk) if walk else self._rung(until)
            start_response(status, [("Content-Length", "0")])
            return []
        return self._answer(environ, start_response, until)

    # Doorbells

    def _rung(self, until: float) -> str:
        """See what is new, and wait until it is served; the status to answer."""
        try:
            self._follow()
            sweeping.form_all(self._joined.registry, self._post.plan)
        except KoaljaError as error:
            telling.trouble(error)
            return "503 Service Unavailable"
        self._services.wake([self._name])
        with self._bell:
            while self._services.busy and time.monotonic() < until:
                self._bell.wait(_LOOK)
        self._bells.flush()
        return "202 Accepted"

    def _haunted(self, environ: dict[str, Any], walk: str) -> str:
        """A ghost has come: look, and ask nothing of the service; the status to answer."""
        from koalja_runtime.ghosts import Ghosts, wire_of_ring

        try:
            self._follow()
            Ghosts(self._joined, self._bells).come(self._post, wire_of_ring(environ), walk)
        except Exception as error:
            telling.trouble(error)
            return "503 Service Unavailable"
        return "202 Accepted"

    def _follow(self) -> None:
        """Where the circuit was installed anew, go on with it as it is now."""
        with self._following:
            post = self._post
            if self._joined.registry.peek(lambda tx: standing.installs(tx, post.circuit.id)) == post.installs:
                return
            self._post = self._bench.post()
            self._services.renew(self._post.circuit, self._elsewhere(self._post))

    def _elsewhere(self, post: Post) -> Elsewhere:
        def outdated(tx: Transaction) -> bool:
            return not post.current or standing.installs(tx, post.circuit.id) != post.installs

        upstreams = distant(self._joined.settings, post.circuit, but=self._name)
        return Elsewhere(upstreams, self._joined.settings.lease, outdated)

    def _told(self, names: Iterable[str]) -> None:
        """The service has come up, or there is nothing to start: tell who waits for that."""
        for name in names:
            self._bells.call(name, self._post.circuit.tasks[name].task.concurrency)
        with self._bell:
            self._bell.notify_all()

    # Requests

    def _answer(self, environ: dict[str, Any], start_response: Start, until: float) -> Iterable[bytes]:
        try:
            if not self._switch.is_up:
                self._follow()
            target, connection = self._connect(until)
        except (Unavailable, KoaljaError) as error:
            late = isinstance(error, Unavailable) and error.late
            status = "504 Gateway Timeout" if late else "503 Service Unavailable"
            return _refuse(start_response, status, f"service '{self._name}' is not there: {error}", ours=True)
        try:
            answer = _exchange(environ, target, connection)
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            self._switch.release(target)
            message = f"service '{self._name}' broke off before it answered: {error or type(error).__name__}"
            return _refuse(start_response, "502 Bad Gateway", message, ours=False)
        headers = [
            (name, value)
            for name, value in answer.getheaders()
            if name.lower() not in _HOP_BY_HOP | {"transfer-encoding", ANSWERED.lower(), VERSION.lower()}
        ]
        headers += [(ANSWERED, str(target.answered or 0)), (VERSION, target.version)]
        start_response(f"{answer.status} {answer.reason}", headers)
        return self._body(answer, target, connection)

    def _connect(self, until: float) -> tuple[Target, http.client.HTTPConnection]:
        """Connect to the process there is; where it has just gone, to the next one."""
        gone: Target | None = None
        while True:
            target = self._switch.acquire(until, but=gone)
            connection = http.client.HTTPConnection(
                target.host, target.port, timeout=max(0.001, until - time.monotonic())
            )
            try:
                connection.connect()
                return target, connection
            except OSError:
                self._switch.release(target)
                gone = target

    def _body(
        self, answer: http.client.HTTPResponse, target: Target, connection: http.client.HTTPConnection
    ) -> Iterator[bytes]:
        """The answer's body, as it comes; what is cut short there is cut short here."""
        try:
            while piece := answer.read1(_PIECE):
                yield piece
            if answer.length:
                raise ConnectionError("the service broke off in the middle of its answer")
        finally:
            connection.close()
            self._switch.release(target)

    def drain(self) -> None:
        """Nothing: what is under way is answered."""

    def give_back(self) -> None:
        """What still asks is cut off with the processes, at the end."""

    def close(self) -> None:
        """End the processes; none of them is a failure."""
        self._services.stop()
        self._bells.flush()
        self._bench.close()
        self._joined.close()


def _exchange(
    environ: dict[str, Any], target: Target, connection: http.client.HTTPConnection
) -> http.client.HTTPResponse:
    """Hand a request on, and wait for the head of its answer."""
    path = environ.get("RAW_URI") or environ.get("PATH_INFO", "/")
    connection.putrequest(environ["REQUEST_METHOD"], path, skip_host=True, skip_accept_encoding=True)
    connection.putheader("Host", f"{target.host}:{target.port}")
    for name, value in _headers(environ):
        connection.putheader(name, value)
    chunked = "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
    length = environ.get("CONTENT_LENGTH", "")
    if chunked:
        connection.putheader("Transfer-Encoding", "chunked")
    elif length:
        connection.putheader("Content-Length", length)
    connection.putheader("Connection", "close")
    connection.endheaders()
    body = environ["wsgi.input"]
    if chunked or length:
        while piece := body.read(_PIECE):
            connection.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
    if chunked:
        connection.send(b"0\r\n\r\n")
    return connection.getresponse()


def _headers(environ: dict[str, Any]) -> Headers:
    """The request's headers, but for those that concern the connection."""
    found = [
        (name[5:].replace("_", "-").title(), str(value))
        for name, value in environ.items()
        if name.startswith("HTTP_")
    ]
    if environ.get("CONTENT_TYPE"):
        found.append(("Content-Type", environ["CONTENT_TYPE"]))
    return [(name, value) for name, value in found if name.lower() not in _HOP_BY_HOP | _OURS]


def _variable(header: str) -> str:
    """A header's name in WSGI's environment."""
    return "HTTP_" + header.upper().replace("-", "_")


def _refuse(start_response: Start, status: str, what: str, *, ours: bool) -> list[bytes]:
    """An answer of our own, as JSON. `ours`: no process was asked, so that to ask again is of no use."""
    body = json.dumps({"error": what}, ensure_ascii=False).encode() + b"\n"
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response(status, headers + ([(ANSWERED, "0")] if ours else []))
    return [body]
