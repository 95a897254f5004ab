"""Receiving: one connection of a program, its requests taken one by one and put on record with their answers.

HTTP/1.1 with keep-alive. Who answers is for others to say: whoever is the service now (`relaying`), or the
record (`replaying`).
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from koalja_fn.errors import StoreError
from koalja_fn.lookups import masking
from koalja_fn.lookups.switching import Target
from koalja_fn.lookups.taping import Tape
from koalja_fn.registry.lookups import Body, Lookup

if TYPE_CHECKING:
    from koalja_fn.lookups.proxy import Asking

PIECE = 65_536
# They concern one connection, not the request (RFC 9110, 7.6.1).
HOP_BY_HOP = frozenset(
    {
        "connection",
        "expect",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_IDLE = 3600.0  # a program may keep its connection; it is cut when the program ends


@dataclass
class Taped:
    """A look-up while it goes on."""

    number: int
    method: str
    path: str
    at: int
    began: float
    asked: Tape
    told: Tape
    target: Target | None = None
    status: int = 0
    problem: str = ""
    headers: dict[str, list[list[str]]] = field(default_factory=dict)
    replayed: int | None = None


class Refusal(Exception):
    """What the program is told in place of an answer."""

    def __init__(self, status: int, what: str, cure: str = "") -> None:
        super().__init__(what)
        self.status = status
        self.cure = cure


class Connection(BaseHTTPRequestHandler):
    """One connection from a program; who answers is for those to say that follow."""

    protocol_version = "HTTP/1.1"
    timeout = _IDLE
    disable_nagle_algorithm = True

    def __init__(
        self,
        client: socket.socket,
        wire: str,
        port: int,
        asking: Asking,
    ) -> None:
        # No super().__init__: it would serve at once, and knows nothing of what is set here.
        self.request = client
        self.client_address = ("127.0.0.1", 0)
        self._wire = wire
        self._own = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self._asking = asking
        self._answered = False

    def serve(self) -> None:
        """Serve until either side closes."""
        self.setup()
        try:
            self.handle()
        finally:
            self.finish()

    def __getattr__(self, name: str) -> Any:  # any method is handed on
        if name.startswith("do_"):
            return self._relay
        raise AttributeError(name)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged: the record has it all."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """An error of ours, as JSON."""
        self.request_version = "HTTP/1.1"  # not yet known: 0.9, whose answers have no head
        self._tell(int(code), message or "this request can't be understood", explain or "")

    # One request

    def _relay(self) -> None:
        number = self._asking.number()
        if number is None:
            self._tell(429, f"more than {self._asking.limits.lookups} look-ups in one execution")
            return
        kept = self._asking.limits.kept
        path = masking.path(self.path)
        taped = Taped(
            number, self.command, path, self._asking.clock(), time.monotonic(), Tape(kept), Tape(kept)
        )
        taped.headers["asked"] = masking.headers(self.headers.items())
        self._answered = False
        try:
            self._check()
            self._answer(taped, self._length())
        except Refusal as refusal:
            taped.problem = str(refusal)
            self.close_connection = True  # the rest of its body is not read
            if not self._answered:
                taped.status = refusal.status
                self._tell(refusal.status, str(refusal), refusal.cure)
        except OSError as error:
            self.close_connection = True
            over = self._asking.is_closed
            taped.problem = "cut off: the program ended" if over else f"cut off: {words(error)}"
        finally:
            self._record(taped)

    def _record(self, taped: Taped) -> None:
        target = taped.target
        problem = taped.problem
        try:
            asked, told = self._asking.keep(taped.asked), self._asking.keep(taped.told)
        except StoreError as error:
            problem = problem or f"its bodies could not be kept: {error}"
            asked = told = Body()
        self._asking.record(
            taped.number,
            Lookup(
                wire=self._wire,
                method=taped.method,
                path=taped.path,
                at=taped.at,
                took=round((time.monotonic() - taped.began) * 1e6),
                status=taped.status,
                answered=target.answered if target else None,
                version=target.version if target else "",
                place=target.place if target else "",
                asked=asked,
                told=told,
                headers=taped.headers,
                problem=problem,
                replayed=taped.replayed,
            ),
        )

    def _answer(self, taped: Taped, length: int | None) -> None:
        """Take the request's body, and answer.

        Raises:
            Refusal: There is no answer; the program is told why.
            OSError: The program is gone.
        """
        raise NotImplementedError

    def _check(self) -> None:
        """Refuse what is not for us to hand on."""
        if self.command == "CONNECT":
            raise Refusal(501, "no tunnels here", "ask the service with plain HTTP/1.1 requests")
        if not self.path.startswith("/"):
            cure = f"write $KOALJA_LOOKUP_URL/PATH; this is no proxy for other places than '{self._wire}'"
            raise Refusal(403, "the request line names another place", cure)
        host = self.headers.get("Host", "")
        if host and host.lower() not in self._own:
            raise Refusal(403, f"the Host header names another place than '{self._wire}'", "leave it out")
        if "websocket" in self.headers.get("Upgrade", "").lower():
            raise Refusal(
                501,
                "no WebSockets here: a look-up is one request and one answer, so that it can be recorded",
                "use plain requests",
            )

    def _length(self) -> int | None:
        """The body's length; None where it comes in chunks."""
        lengths = self.headers.get_all("Content-Length", [])
        codings = ",".join(self.headers.get_all("Transfer-Encoding", [])).lower().replace(" ", "")
        if codings:
            if lengths or codings != "chunked":
                raise Refusal(400, "a body is either chunked or has a Content-Length")
            return None
        if not lengths:
            return 0
        if len(set(lengths)) > 1 or not re.fullmatch(r"[0-9]{1,18}", lengths[0].strip()):
            raise Refusal(400, "Content-Length is no number, or is there twice")
        length = int(lengths[0])
        if length > self._asking.limits.body:
            raise Refusal(413, f"a look-up may have {self._asking.limits.body} bytes, not {length}")
        return length

    def _body(self, length: int | None, taped: Taped) -> Iterator[bytes]:
        """The request's body, piece by piece as it comes."""
        pieces = self._chunks() if length is None else self._pieces(length)
        for piece in pieces:
            taped.asked.take(piece)
            if taped.asked.size > self._asking.limits.body:
                raise Refusal(413, f"a look-up may have {self._asking.limits.body} bytes")
            yield piece
        taped.asked.end()

    def _pieces(self, left: int) -> Iterator[bytes]:
        while left:
            piece = self.rfile.read1(min(left, PIECE))
            if not piece:
                raise ConnectionError("the request's body ended too soon")
            left -= len(piece)
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        while True:
            line = self.rfile.readline(1024)
            size = line.partition(b";")[0].strip()
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", size) or not line.endswith(b"\n"):
                raise Refusal(400, "a chunk of the request's body has no size")
            if not int(size, 16):
                break
            yield from self._pieces(int(size, 16))
            if self.rfile.readline(3) not in (b"\r\n", b"\n"):
                raise Refusal(400, "a chunk of the request's body is longer than its size")
        for _ in range(100):  # trailers
            if self.rfile.readline(PIECE) in (b"\r\n", b"\n", b""):
                return
        raise Refusal(400, "the request has too many trailers")

    def _tell(self, status: int, what: str, cure: str = "") -> None:
        """An answer of our own, as JSON."""
        told = {"error": what} | ({"try": cure} if cure else {})
        body = json.dumps(told, ensure_ascii=False).encode() + b"\n"
        self.close_connection = True
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        # What is left of the request is read for a while: a reset would take the answer with it.
        with suppress(OSError):
            self.request.shutdown(socket.SHUT_WR)
            self.request.settimeout(0.2)
            until = time.monotonic() + 1
            while time.monotonic() < until and self.rfile.read1(PIECE):
                pass


def named(values: list[str]) -> set[str]:
    """The headers that a Connection header names."""
    return {name.strip().lower() for value in values for name in value.split(",")}


def moved(location: str, target: Target) -> str:
    """Where an answer sends the program: to us, where that is the service itself."""
    if not target.place:
        return location
    for prefix in (target.place, target.base):
        rest = location.removeprefix(prefix)
        if prefix and rest != location and rest[:1] in ("", "/", "?"):
            return rest if rest.startswith("/") else f"/{rest}"
    return location


def clean(text: str) -> str:
    """A header's value on one line."""
    return re.sub(r"[\r\n]+\s*", " ", text)


def words(error: BaseException) -> str:
    """What went wrong, in words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
