"""Relaying: a program's requests are handed on to whoever is the service now, and its answers handed back.

A connection of its own for each request towards the service, so that no request meets one that the service is
just closing. Bodies are streamed both ways.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from koalja_fn.lookups import masking
from koalja_fn.lookups.receiving import (
    HOP_BY_HOP,
    PIECE,
    Connection,
    Refusal,
    Taped,
    clean,
    moved,
    named,
    words,
)
from koalja_fn.lookups.switching import ANSWERED, LOOKUP, VERSION, Target, Unavailable, Upstream

if TYPE_CHECKING:
    from koalja_fn.lookups.proxy import Asking

_DOTS = re.compile(r"(^|/)(\.|%2e){1,2}(/|%2f|\\|%5c|$)", re.IGNORECASE)
# What a cluster's network says by itself while a service's pod comes or goes.
_GONE = frozenset({502, 503, 504})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110, 9.2.1
_LOOK = 0.2


class _BrokeOff(Refusal):
    """The service was gone before it said anything."""


class Relaying(Connection):
    """One connection from a program whose requests go to a service, `patience` seconds for each answer."""

    def __init__(
        self,
        client: socket.socket,
        wire: str,
        port: int,
        asking: Asking,
        upstream: Upstream,
        patience: float,
    ) -> None:
        super().__init__(client, wire, port, asking)
        self._upstream = upstream
        self._patience = patience

    def _answer(self, taped: Taped, length: int | None) -> None:
        deadline = time.monotonic() + self._patience
        try:
            self._ask(taped, length, deadline, None)
        except _BrokeOff:
            # A process that is just dying still takes connections; what changes nothing may be asked again.
            if length != 0 or self.command not in _SAFE or taped.target is None or taped.target.place:
                raise
            self._ask(taped, length, deadline, taped.target)

    def _ask(self, taped: Taped, length: int | None, deadline: float, gone: Target | None) -> None:
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

    def _connect(
        self, taped: Taped, deadline: float, gone: Target | None
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
                raise Refusal(504, f"service '{self._wire}' did not take the connection in time") from error
            except ssl.SSLError as error:
                self._upstream.release(target)
                raise Refusal(502, f"no secure connection to {target.place}: {words(error)}") from error
            except OSError as error:
                self._upstream.release(target)
                if target.place:
                    raise Refusal(502, f"{target.place} can't be reached: {words(error)}") from error
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

    def _unavailable(self, error: Unavailable) -> Refusal:
        if error.late:
            return Refusal(504, f"service '{self._wire}' gave no answer within {self._patience:g} s: {error}")
        return Refusal(503, f"service '{self._wire}' is not there: {error}")

    def _base(self, target: Target) -> None:
        if target.base and _DOTS.search(self.path.partition("?")[0]):
            raise Refusal(400, f"'.' and '..' can't stand in a path below {target.place}")

    def _exchange(
        self,
        taped: Taped,
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
            raise Refusal(400, f"this request can't be handed on: {words(error)}") from error
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
            raise Refusal(504, message, "give the service more time: its `timeout`") from error
        except (OSError, http.client.HTTPException) as error:
            if self._asking.is_closed:
                raise OSError from error
            message = f"service '{self._wire}' broke off before it answered: {words(error)}"
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
            HOP_BY_HOP
            | {"host", "content-length", LOOKUP.lower()}
            | named(self.headers.get_all("Connection", []))
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

    # Its answer

    def _hand_back(self, taped: Taped, target: Target, answer: http.client.HTTPResponse) -> None:
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
        dropped = HOP_BY_HOP | named(answer.msg.get_all("Connection", []))
        if answer.chunked:
            dropped |= {"content-length"}
        if target.relayed:
            dropped |= {ANSWERED.lower(), VERSION.lower()}
        self.send_response_only(answer.status, clean(answer.reason or ""))
        for name, value in answer.getheaders():
            if name.lower() not in dropped:
                known = name.lower() == "location"
                self.send_header(name, clean(moved(value, target) if known else value))
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self._answered = True

    def _put_answer_body(self, taped: Taped, answer: http.client.HTTPResponse, *, chunked: bool) -> None:
        while True:
            try:
                piece = answer.read1(PIECE)
            except TimeoutError as error:
                why = f"service '{self._wire}' stopped in the middle of its answer, for {self._patience:g} s"
                raise Refusal(504, why) from error
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise self._broken(error) from error
            if not piece:
                break
            taped.told.take(piece)
            if taped.told.size > self._asking.limits.body:
                raise Refusal(502, f"the answer is larger than {self._asking.limits.body} bytes: cut off")
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if answer.length:
            raise self._broken(None)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _broken(self, error: BaseException | None) -> Exception:
        if self._asking.is_closed:
            return OSError("the program ended")
        how = f": {words(error)}" if error else ""
        return Refusal(502, f"service '{self._wire}' broke off in the middle of its answer{how}")


def _connection(target: Target, timeout: float) -> http.client.HTTPConnection:
    if target.tls:
        return http.client.HTTPSConnection(
            target.host, target.port, timeout=timeout, context=ssl.create_default_context()
        )
    return http.client.HTTPConnection(target.host, target.port, timeout=timeout)


def _authority(target: Target) -> str:
    host = f"[{target.host}]" if ":" in target.host else target.host
    return host if target.port == (443 if target.tls else 80) else f"{host}:{target.port}"


def _send(connection: http.client.HTTPConnection, piece: bytes, *, chunked: bool) -> None:
    connection.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
