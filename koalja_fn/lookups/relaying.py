"""Relaying: one connection of a program, its requests handed on one by one and their answers handed back.

HTTP/1.1 with keep-alive towards the program; a connection of its own for each request towards the service,
so that no request meets one that the service is just closing. Bodies are streamed both ways.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from koalja_fn.errors import StoreError
from koalja_fn.lookups import masking
from koalja_fn.lookups.switching import ANSWERED, LOOKUP, VERSION, Target, Unavailable, Upstream
from koalja_fn.lookups.taping import Tape
from koalja_fn.registry.lookups import Body, Lookup

if TYPE_CHECKING:
    from koalja_fn.lookups.proxy import Asking

_PIECE = 65_536
# They concern one connection, not the request (RFC 9110, 7.6.1).
_HOP_BY_HOP = frozenset(
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
_DOTS = re.compile(r"(^|/)(\.|%2e){1,2}(/|%2f|\\|%5c|$)", re.IGNORECASE)
# What a cluster's network says by itself while a service's pod comes or goes.
_GONE = frozenset({502, 503, 504})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110, 9.2.1
_LOOK = 0.2
_IDLE = 3600.0  # a program may keep its connection; it is cut when the program ends


@dataclass
class _Taped:
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


class _Refusal(Exception):
    """What the program is told in place of an answer."""

    def __init__(self, status: int, what: str, cure: str = "") -> None:
        super().__init__(what)
        self.status = status
        self.cure = cure


class _BrokeOff(_Refusal):
    """The service was gone before it said anything."""


class Connection(BaseHTTPRequestHandler):
    """One connection from a program."""

    protocol_version = "HTTP/1.1"
    timeout = _IDLE
    disable_nagle_algorithm = True

    def __init__(
        self,
        client: socket.socket,
        wire: str,
        port: int,
        upstream: Upstream,
        patience: float,
        asking: Asking,
    ) -> None:
        # No super().__init__: it would serve at once, and knows nothing of what is set here.
        self.request = client
        self.client_address = ("127.0.0.1", 0)
        self._wire = wire
        self._own = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self._upstream = upstream
        self._patience = patience
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
        taped = _Taped(
            number, self.command, path, self._asking.clock(), time.monotonic(), Tape(kept), Tape(kept)
        )
        taped.headers["asked"] = masking.headers(self.headers.items())
        self._answered = False
        try:
            self._hand_on(taped)
        except _Refusal as refusal:
            taped.problem = str(refusal)
            self.close_connection = True  # the rest of its body is not read
            if not self._answered:
                taped.status = refusal.status
                self._tell(refusal.status, str(refusal), refusal.cure)
        except OSError as error:
            self.close_connection = True
            over = self._asking.is_closed
            taped.problem = "cut off: the program ended" if over else f"cut off: {_words(error)}"
        finally:
            self._record(taped)

    def _record(self, taped: _Taped) -> None:
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
            ),
        )

    def _hand_on(self, taped: _Taped) -> None:
        self._check()
        length = self._length()
        deadline = time.monotonic() + self._patience
        try:
            self._ask(taped, length, deadline, None)
        except _BrokeOff:
            # A process that is just dying still takes connections; what changes nothing may be asked again.
            if length != 0 or self.command not in _SAFE or taped.target is None or taped.target.place:
                raise
            self._ask(taped, length, deadline, taped.target)

    def _ask(self, taped: _Taped, length: int | None, deadline: float, gone: Target | None) -> None:
        target, connection = self._connect(taped, deadline, gone)
        sock = connection.sock
        try:
            self._asking.watch(sock)
            try:
                self._exchange(taped, target, connection, length, deadline)
            finally:
                self._asking.unwatch(sock)
        finally:
            connection.close()
            self._upstream.release(target)

    def _check(self) -> None:
        """Refuse what is not for us to hand on."""
        if self.command == "CONNECT":
            raise _Refusal(501, "no tunnels here", "ask the service with plain HTTP/1.1 requests")
        if not self.path.startswith("/"):
            cure = f"write $KOALJA_LOOKUP_URL/PATH; this is no proxy for other places than '{self._wire}'"
            raise _Refusal(403, "the request line names another place", cure)
        host = self.headers.get("Host", "")
        if host and host.lower() not in self._own:
            raise _Refusal(403, f"the Host header names another place than '{self._wire}'", "leave it out")
        if "websocket" in self.headers.get("Upgrade", "").lower():
            raise _Refusal(
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
                raise _Refusal(400, "a body is either chunked or has a Content-Length")
            return None
        if not lengths:
            return 0
        if len(set(lengths)) > 1 or not re.fullmatch(r"[0-9]{1,18}", lengths[0].strip()):
            raise _Refusal(400, "Content-Length is no number, or is there twice")
        length = int(lengths[0])
        if length > self._asking.limits.body:
            raise _Refusal(413, f"a look-up may have {self._asking.limits.body} bytes, not {length}")
        return length

    def _connect(
        self, taped: _Taped, deadline: float, gone: Target | None
    ) -> tuple[Target, http.client.HTTPConnection]:
        """Connect to whoever is the service now; where it has just gone, to the next one."""
        while True:
            taped.target = None  # nobody, until somebody takes the connection
            target = self._acquire(deadline, gone)
            taped.target = target
            left = max(0.001, deadline - time.monotonic())
            connection = _connection(target, min(left, self._asking.limits.connect))
            try:
                self._base(target)
                connection.connect()
                return target, connection
            except TimeoutError as error:
                self._upstream.release(target)
                raise _Refusal(504, f"service '{self._wire}' did not take the connection in time") from error
            except ssl.SSLError as error:
                self._upstream.release(target)
                raise _Refusal(502, f"no secure connection to {target.place}: {_words(error)}") from error
            except OSError as error:
                self._upstream.release(target)
                if target.place:
                    raise _Refusal(502, f"{target.place} can't be reached: {_words(error)}") from error
                gone = target
            except BaseException:
                self._upstream.release(target)
                raise

    def _acquire(self, deadline: float, gone: Target | None) -> Target:
        """Whom to ask; the program may end while somebody is waited for."""
        while True:
            soon = time.monotonic() + _LOOK
            try:
                return self._upstream.acquire(min(soon, deadline), but=gone)
            except Unavailable as error:
                if self._asking.is_closed:
                    raise OSError from error
                if not error.late or soon > deadline:
                    raise self._unavailable(error) from error

    def _unavailable(self, error: Unavailable) -> _Refusal:
        if error.late:
            return _Refusal(
                504, f"service '{self._wire}' gave no answer within {self._patience:g} s: {error}"
            )
        return _Refusal(503, f"service '{self._wire}' is not there: {error}")

    def _base(self, target: Target) -> None:
        if target.base and _DOTS.search(self.path.partition("?")[0]):
            raise _Refusal(400, f"'.' and '..' can't stand in a path below {target.place}")

    def _exchange(
        self,
        taped: _Taped,
        target: Target,
        connection: http.client.HTTPConnection,
        length: int | None,
        deadline: float,
    ) -> None:
        sock = connection.sock
        sock.settimeout(self._patience)
        try:
            self._put_head(connection, target, length)
        except (ValueError, http.client.HTTPException) as error:
            raise _Refusal(400, f"this request can't be handed on: {_words(error)}") from error
        try:
            for piece in self._body(length, taped):
                _send(connection, piece, chunked=length is None)
            if length is None:
                connection.send(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # it may have answered without reading to the end
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            answer = connection.getresponse()
        except TimeoutError as error:
            message = f"service '{self._wire}' gave no answer within {self._patience:g} s"
            raise _Refusal(504, message, "give the service more time: its `timeout`") from error
        except (OSError, http.client.HTTPException) as error:
            if self._asking.is_closed:
                raise OSError from error
            message = f"service '{self._wire}' broke off before it answered: {_words(error)}"
            raise _BrokeOff(502, message) from error
        sock.settimeout(self._patience)
        if target.relayed:
            taped.target = target = self._who(target, answer)
        taped.status = answer.status
        taped.headers["told"] = masking.headers(answer.getheaders())
        with answer:
            self._hand_back(taped, target, answer)

    def _who(self, target: Target, answer: http.client.HTTPResponse) -> Target:
        """Who it is that answered."""
        row = answer.getheader(ANSWERED, "")
        if not row and answer.status in _GONE:
            message = f"service '{self._wire}' broke off: {target.host} answered {answer.status}"
            raise _BrokeOff(502, message)
        answered = int(row) if row.isdecimal() and row != "0" else None
        return replace(target, answered=answered, version=answer.getheader(VERSION, ""))

    def _put_head(self, connection: http.client.HTTPConnection, target: Target, length: int | None) -> None:
        connection.putrequest(
            self.command, target.base + self.path, skip_host=True, skip_accept_encoding=True
        )
        # A service on this machine sees the address that the program used, an outside one its own.
        host = self.headers.get("Host") if not target.place and not target.relayed else None
        connection.putheader("Host", host or _authority(target))
        if target.relayed:
            connection.putheader(LOOKUP, self._wire)
        dropped = (
            _HOP_BY_HOP
            | {"host", "content-length", LOOKUP.lower()}
            | _named(self.headers.get_all("Connection", []))
        )
        for name, value in self.headers.items():
            if name.lower() not in dropped:
                connection.putheader(name, value)
        if length is None:
            connection.putheader("Transfer-Encoding", "chunked")
        elif length or "Content-Length" in self.headers:
            connection.putheader("Content-Length", str(length))
        connection.putheader("Connection", "close")
        connection.endheaders()

    def _body(self, length: int | None, taped: _Taped) -> Iterator[bytes]:
        """The request's body, piece by piece as it comes."""
        pieces = self._chunks() if length is None else self._pieces(length)
        for piece in pieces:
            taped.asked.take(piece)
            if taped.asked.size > self._asking.limits.body:
                raise _Refusal(413, f"a look-up may have {self._asking.limits.body} bytes")
            yield piece
        taped.asked.end()

    def _pieces(self, left: int) -> Iterator[bytes]:
        while left:
            piece = self.rfile.read1(min(left, _PIECE))
            if not piece:
                raise ConnectionError("the request's body ended too soon")
            left -= len(piece)
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        while True:
            line = self.rfile.readline(1024)
            size = line.partition(b";")[0].strip()
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", size) or not line.endswith(b"\n"):
                raise _Refusal(400, "a chunk of the request's body has no size")
            if not int(size, 16):
                break
            yield from self._pieces(int(size, 16))
            if self.rfile.readline(3) not in (b"\r\n", b"\n"):
                raise _Refusal(400, "a chunk of the request's body is longer than its size")
        for _ in range(100):  # trailers
            if self.rfile.readline(_PIECE) in (b"\r\n", b"\n", b""):
                return
        raise _Refusal(400, "the request has too many trailers")

    # Its answer

    def _hand_back(self, taped: _Taped, target: Target, answer: http.client.HTTPResponse) -> None:
        bare = self.command == "HEAD" or answer.status in (204, 304)
        length = answer.getheader("Content-Length")
        chunked = not bare and (answer.chunked or length is None) and self.request_version == "HTTP/1.1"
        if not bare and not chunked and (answer.chunked or length is None):
            self.close_connection = True
        self._put_answer_head(target, answer, chunked=chunked)
        if not bare:
            self._put_answer_body(taped, answer, chunked=chunked)
        taped.told.end()

    def _put_answer_head(self, target: Target, answer: http.client.HTTPResponse, *, chunked: bool) -> None:
        dropped = _HOP_BY_HOP | _named(answer.msg.get_all("Connection", []))
        if answer.chunked:
            dropped |= {"content-length"}
        if target.relayed:
            dropped |= {ANSWERED.lower(), VERSION.lower()}
        self.send_response_only(answer.status, _clean(answer.reason or ""))
        for name, value in answer.getheaders():
            if name.lower() not in dropped:
                known = name.lower() == "location"
                self.send_header(name, _clean(_moved(value, target) if known else value))
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self._answered = True

    def _put_answer_body(self, taped: _Taped, answer: http.client.HTTPResponse, *, chunked: bool) -> None:
        while True:
            try:
                piece = answer.read1(_PIECE)
            except TimeoutError as error:
                why = f"service '{self._wire}' stopped in the middle of its answer, for {self._patience:g} s"
                raise _Refusal(504, why) from error
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise self._broken(error) from error
            if not piece:
                break
            taped.told.take(piece)
            if taped.told.size > self._asking.limits.body:
                raise _Refusal(502, f"the answer is larger than {self._asking.limits.body} bytes: cut off")
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if answer.length:
            raise self._broken(None)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _broken(self, error: BaseException | None) -> Exception:
        if self._asking.is_closed:
            return OSError("the program ended")
        how = f": {_words(error)}" if error else ""
        return _Refusal(502, f"service '{self._wire}' broke off in the middle of its answer{how}")

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
            while time.monotonic() < until and self.rfile.read1(_PIECE):
                pass


def _connection(target: Target, timeout: float) -> http.client.HTTPConnection:
    if target.tls:
        return http.client.HTTPSConnection(
            target.host, target.port, timeout=timeout, context=ssl.create_default_context()
        )
    return http.client.HTTPConnection(target.host, target.port, timeout=timeout)


def _authority(target: Target) -> str:
    host = f"[{target.host}]" if ":" in target.host else target.host
    return host if target.port == (443 if target.tls else 80) else f"{host}:{target.port}"


def _named(values: list[str]) -> set[str]:
    """The headers that a Connection header names."""
    return {name.strip().lower() for value in values for name in value.split(",")}


def _send(connection: http.client.HTTPConnection, piece: bytes, *, chunked: bool) -> None:
    connection.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)


def _moved(location: str, target: Target) -> str:
    """Where an answer sends the program: to us, where that is the service itself."""
    if not target.place:
        return location
    for prefix in (target.place, target.base):
        rest = location.removeprefix(prefix)
        if prefix and rest != location and rest[:1] in ("", "/", "?"):
            return rest if rest.startswith("/") else f"/{rest}"
    return location


def _clean(text: str) -> str:
    """A header's value on one line."""
    return re.sub(r"[\r\n]+\s*", " ", text)


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
