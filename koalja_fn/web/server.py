"""The server: one thread for all connections, some for the application, and two for the express way.

The loop reads whatever has come on all connections, and only then hands on: requests that came together
reach the express way together. Whoever made an answer sends it; what the socket does not take at once goes
to the loop.
"""

from __future__ import annotations

import errno
import io
import logging
import queue
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from koalja_fn.web import answers, wsgi
from koalja_fn.web.connection import Body, Connection, Request
from koalja_fn.web.heads import BadRequest, Head

_LOG = logging.getLogger(__name__)
_CONNECTIONS = 1000
_IDLE = 120.0  # seconds after which a connection on which nothing happens is closed
_LINGER = 2.0
_LOOK = 1.0
_TOGETHER = 128  # requests for one commit
_SETTLERS = 2  # one batch is taken in while another waits for the disk
# Before a batch is settled others are waited for, for this part of the time that settling takes.
_WORTH = 0.33
_LONGEST = 0.002


class Answer(NamedTuple):
    """The answer to what came by the express way."""

    status: int
    body: bytes = b""
    type: str = "application/json"


class Express(Protocol):
    """A way around the application for requests that many senders send, and that can be answered together."""

    def take(self, head: Head, body: bytes) -> Any:
        """What is to be settled; None for a request that the application shall have. In the loop: quick."""

    def settle(self, taken: Sequence[Any]) -> Sequence[Answer | None]:
        """Answer what was taken; None for a request that the application shall have after all."""


class Server:
    """Serves a WSGI application; `start` tells the port, `drain` ends it.

    Args:
        app: Its answers are small: they are sent as a whole.
        spool: Makes what takes a large body in.
        body: The largest body, in bytes; larger ones get 413.
        headers: The largest head, in bytes; larger ones get 431.
        listener: A socket that listens already; else one at 127.0.0.1:`port` is made (0: any free port).
        threads: How many requests the application has at once.
        express: A way around the application, for small bodies.
        idle: Seconds after which an idle connection is closed.
    """

    def __init__(
        self,
        app: wsgi.Application,
        *,
        spool: Callable[[], Body],
        body: int,
        headers: int,
        port: int = 0,
        listener: socket.socket | None = None,
        threads: int = 8,
        express: Express | None = None,
        idle: float = _IDLE,
    ) -> None:
        self._app = app
        self._spool = spool
        self._limits = (body, headers)
        self._wanted = port
        self._listener = listener
        self._threads = threads
        self._express = express
        self._idle = idle
        self._address = ("127.0.0.1", port)
        self._selector = selectors.DefaultSelector()
        self._connections: set[Connection] = set()
        self._together: list[tuple[Request, Any]] = []
        self._woken: deque[Connection] = deque()
        self._work: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._settling: queue.SimpleQueue[list[tuple[Request, Any]] | None] = queue.SimpleQueue()
        self._busy = 0
        self._quiet = threading.Condition()
        self._draining = False
        self._ending = False
        self._running: list[threading.Thread] = []

    @property
    def port(self) -> int:
        """The port in use; 0 before `start` where any will do."""
        return self._address[1]

    def start(self) -> int:
        """Listen, and serve in threads; return the port. OSError if the port is taken."""
        listener = self._listener or _listening(self._wanted)
        self._listener = listener
        listener.setblocking(False)
        name = listener.getsockname()
        self._address = (name[0], name[1]) if isinstance(name, tuple) else ("127.0.0.1", 0)
        self._bell, self._ears = socket.socketpair()
        self._bell.setblocking(False)
        self._ears.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._ears, selectors.EVENT_READ)
        targets = [self._loop] + [self._serve] * self._threads
        if self._express is not None:
            targets += [self._settle] * _SETTLERS
        for target in targets:
            thread = threading.Thread(target=target, name="koalja-entry", daemon=True)
            thread.start()
            self._running.append(thread)
        return self.port

    def refuse(self) -> None:
        """Begin nothing new: requests get 503. For a signal handler, too."""
        self._draining = True

    def drain(self, timeout: float = 30.0) -> bool:
        """Refuse new requests (503), answer those in flight, close; False if some took longer."""
        if not self._running:
            return True
        self.refuse()
        with self._quiet:
            done = self._quiet.wait_for(lambda: self._busy == 0, timeout)
        self._ending = True
        self._wake()
        for _ in range(self._threads):
            self._work.put(None)
        for _ in range(_SETTLERS):
            self._settling.put(None)
        for thread in self._running:
            thread.join(5 if done else 0.1)
        self._running = []
        return done

    # The loop

    def _loop(self) -> None:
        look = time.monotonic() + _LOOK
        while not self._ending:
            for key, _ in self._selector.select(_LOOK):
                try:
                    self._ready(key)
                except Exception:
                    _LOG.exception("unexpected error in the server")
                    if isinstance(key.data, Connection):
                        self._close(key.data)
            if self._together:
                self._settling.put(self._together)
                self._together = []
            if time.monotonic() > look:
                look = time.monotonic() + _LOOK
                self._close_idle()
        self._end()

    def _ready(self, key: selectors.SelectorKey) -> None:
        if isinstance(key.data, Connection):
            self._come(key.data) if not key.data.out else self._flush(key.data)
        elif key.fileobj is self._ears:
            self._ears.recv(4096)
            while self._woken:
                one = self._woken.popleft()
                if not one.closed:
                    self._flush(one) if one.out or not one.kept else self._advance(one)
        else:
            self._accept()

    def _accept(self) -> None:
        assert self._listener is not None
        for _ in range(32):
            try:
                accepted, peer = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    time.sleep(0.02)  # until some connection ends
                return
            if len(self._connections) >= _CONNECTIONS:
                accepted.close()
                continue
            accepted.setblocking(False)
            if accepted.family != socket.AF_UNIX:
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            where = (peer[0], peer[1]) if isinstance(peer, tuple) else ("", 0)
            one = Connection(accepted, where, self._limits, self._spool)
            self._connections.add(one)
            self._selector.register(accepted, selectors.EVENT_READ, one)
            self._come(one)  # as a rule the request is there already

    def _come(self, one: Connection) -> None:
        """Read what has come."""
        try:
            piece = one.socket.recv(one.piece)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        one.seen = time.monotonic()
        if one.lingers:
            if not piece or one.seen > one.lingers:
                self._close(one)
            return
        if not piece:
            if not one.busy:
                self._close(one)
            else:  # it may have closed its side only, and waits for the answer
                one.silent = True
                self._look(one, 0)
            return
        one.buffer += piece
        if not one.busy:
            self._advance(one)
        elif len(one.buffer) > one.most:
            self._look(one, 0)

    def _advance(self, one: Connection) -> None:
        """Go on with what is in the buffer, up to one whole request."""
        if one.busy:
            return
        if not one.reading and not one.silent:
            self._look(one, selectors.EVENT_READ)
        try:
            request = one.next()
        except BadRequest as error:
            self._refuse(one, answers.refusal(error))
        except OSError:
            self._close(one)
        else:
            if request is not None:
                self._hand_over(one, request)
            elif one.silent:
                self._close(one)

    def _hand_over(self, one: Connection, request: Request) -> None:
        if self._draining:
            if request.body is not None and not isinstance(request.body, bytes):
                request.body.close()
            what, cure = "this server is being stopped", "send the same again to the next one"
            self._refuse(one, answers.problem(503, what, cure=cure, retry=1))
            return
        one.busy = True
        with self._quiet:
            self._busy += 1
        taken = None
        if self._express is not None and isinstance(request.body, bytes):
            taken = self._express.take(request.head, request.body)
        if taken is None:
            self._work.put(request)
            return
        self._together.append((request, taken))
        if len(self._together) >= _TOGETHER:
            self._settling.put(self._together)
            self._together = []

    def _refuse(self, one: Connection, said: bytes) -> None:
        """Answer what is not handed over; the connection ends with it."""
        one.busy = True
        with self._quiet:
            self._busy += 1
        one.kept = False
        one.out = said
        one.lingers = time.monotonic() + _LINGER
        self._flush(one)

    def _flush(self, one: Connection) -> None:
        """Send more of an answer, then go on."""
        try:
            sent = one.socket.send(one.out) if one.out else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            one.out, one.kept, one.lingers, sent = b"", False, 0.0, 0
        one.out = one.out[sent:]
        if one.out:
            self._look(one, selectors.EVENT_WRITE)
            return
        self._answered()
        one.busy = False
        if one.kept:
            self._look(one, 0 if one.silent else selectors.EVENT_READ)
            self._advance(one)
        elif one.lingers and not one.silent:  # what is still on its way would reset the connection
            try:
                one.socket.shutdown(socket.SHUT_WR)
            except OSError:
                self._close(one)
                return
            self._look(one, selectors.EVENT_READ)
        else:
            self._close(one)

    def _look(self, one: Connection, what: int) -> None:
        """Have the selector look for these events of a connection."""
        registered = one.socket.fileno() in self._selector.get_map()
        if what and registered:
            self._selector.modify(one.socket, what, one)
        elif what:
            self._selector.register(one.socket, what, one)
        elif registered:
            self._selector.unregister(one.socket)
        one.reading = what == selectors.EVENT_READ

    def _close_idle(self) -> None:
        now = time.monotonic()
        for one in list(self._connections):
            over = now > one.lingers if one.lingers else now - one.seen > self._idle
            if over and not (one.busy and not one.out):
                if one.busy:
                    self._answered()
                self._close(one)

    def _close(self, one: Connection) -> None:
        if one.closed:
            return
        self._look(one, 0)
        self._connections.discard(one)
        one.forget()

    def _end(self) -> None:
        assert self._listener is not None
        self._selector.close()
        self._listener.close()
        for one in self._connections:
            one.forget()
        self._connections.clear()
        self._bell.close()
        self._ears.close()

    def _wake(self) -> None:
        try:
            self._bell.send(b"\0")
        except OSError:  # it is full, so the loop wakes up anyway; or closed, and nobody is left to wake
            return

    # Answering, in any thread

    def _answered(self) -> None:
        with self._quiet:
            self._busy -= 1
            if not self._busy:
                self._quiet.notify_all()

    def _answer(self, one: Connection, said: bytes) -> None:
        try:
            sent = one.socket.send(said)
        except BlockingIOError:
            sent = 0
        except OSError:
            sent, one.kept = len(said), False
        if sent == len(said) and one.kept:
            one.busy = False
            self._answered()
            if not one.buffer and not one.silent:
                return
        else:
            one.out = said[sent:]
        self._woken.append(one)
        self._wake()

    def _serve(self) -> None:
        """Have the application answer."""
        while (request := self._work.get()) is not None:
            _, body, one = request
            try:
                said = self._called(request)
            except Exception:
                _LOG.exception("unexpected error in the application")
                one.kept = False
                said = answers.problem(500, "something unexpected went wrong", cure="see the log")
            finally:
                if body is not None and not isinstance(body, bytes):
                    body.close()
            self._answer(one, said)

    def _called(self, request: Request) -> bytes:
        head, body, one = request
        stream = io.BytesIO(body or b"") if isinstance(body, bytes | None) else body.getfile()
        size = None if body is None else len(body)
        environ = wsgi.environ_of(head, size, stream, self._address, one.peer)
        environ["koalja.body"] = body
        return wsgi.called(self._app, environ, kept=one.kept)

    def _settle(self) -> None:
        """Answer what came by the express way; all that waits at once."""
        took, expected = 0.0, 1
        while (batch := self._settling.get()) is not None:
            until = time.perf_counter() + min(took * _WORTH, _LONGEST)
            while len(batch) < _TOGETHER and (more := self._more(batch, expected, until)):
                batch += more
            began = time.perf_counter()
            for (request, _), said in zip(batch, self._settled([taken for _, taken in batch]), strict=True):
                if said is None:
                    self._work.put(request)
                else:
                    one = request.connection
                    self._answer(one, answers.short(*said, kept=one.kept))
            took = time.perf_counter() - began
            expected = self._busy + len(batch)

    def _more(
        self, batch: list[tuple[Request, Any]], expected: int, until: float
    ) -> list[tuple[Request, Any]] | None:
        """What else waits. Senders that were just answered soon come again: they are worth a short while."""
        left = until - time.perf_counter() if len(batch) < expected else 0.0
        try:
            more = self._settling.get(timeout=left) if left > 0 else self._settling.get_nowait()
        except queue.Empty:
            return None
        if more is None:
            self._settling.put(None)
        return more

    def _settled(self, taken: Sequence[Any]) -> Sequence[Answer | None]:
        assert self._express is not None
        try:
            return self._express.settle(taken)
        except Exception:
            _LOG.exception("unexpected error on the express way")
            return [None] * len(taken)


def _listening(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(1024)
    except BaseException:
        listener.close()
        raise
    return listener
