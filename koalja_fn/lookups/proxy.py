"""The recording proxy: one door on loopback for each execution and service, and what came through it.

Each door has a port of its own, so that a request needs no token to be attributed, and programs may use any
path. Where a request goes is decided by the door alone, never by what its request line or Host header says.
"""

from __future__ import annotations

import os
import re
import select
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from koalja_fn.lookups.recorded import Record
from koalja_fn.lookups.switching import Upstream
from koalja_fn.registry.lookups import Body, Lookup
from koalja_fn.store import Store

if TYPE_CHECKING:
    from koalja_fn.lookups.receiving import Connection
    from koalja_fn.lookups.taping import Tape

Answers = tuple[Upstream, float] | Record
"""Who answers at a door: a service, with so many seconds for each answer, or the record."""

HOST = "127.0.0.1"
_PENDING = 4 << 20
_CLOSING = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How far look-ups may go. Sizes in bytes, times in seconds.

    `kept`: larger bodies go on record by their digest only. `body`: larger ones are refused (413), or cut
    off. `doors` bounds connections at once, `lookups` requests, both for one execution.
    """

    kept: int = 16 << 20
    body: int = 1 << 30
    connections: int = 256
    lookups: int = 100_000
    connect: float = 10.0


class Proxy:
    """Opens doors; one thread accepts at all of them, one more serves each connection.

    Args:
        store: Where bodies are kept.
        clock: The registry's time, µs since 1970.
        limits: How far look-ups may go.
    """

    def __init__(self, store: Store, clock: Callable[[], int], limits: Limits | None = None) -> None:
        self.store = store
        self.clock = clock
        self.limits = limits or Limits()
        self._lock = threading.Lock()
        self._doors: dict[int, _Door] = {}
        self._poll = select.epoll()
        self._closing = os.eventfd(0, os.EFD_CLOEXEC)
        self._poll.register(self._closing, select.EPOLLIN)
        self._thread: threading.Thread | None = None
        self._stopping = False

    def open(self, upstreams: Mapping[str, Upstream], patience: Mapping[str, float]) -> Asking:
        """Begin to take look-ups for one execution: for each wire, whom to ask and how many seconds to wait.

        Raises:
            OSError: No port is left.
        """
        return self._open({wire: (upstream, patience[wire]) for wire, upstream in upstreams.items()})

    def replay(self, records: Mapping[str, Record]) -> Asking:
        """Begin to take look-ups that are answered from the record: for each wire, what is on record.

        Raises:
            OSError: No port is left.
        """
        return self._open(records)

    def _open(self, answers: Mapping[str, Answers]) -> Asking:
        asking = Asking(self)
        try:
            for wire, answering in answers.items():
                self._add(_Door(asking, wire, answering))
        except BaseException:
            asking.close()
            raise
        return asking

    def close(self) -> None:
        """Close all doors that are still open."""
        self._stopping = True
        os.eventfd_write(self._closing, 1)
        with self._lock:
            asking = {id(door.asking): door.asking for door in self._doors.values()}
        for one in asking.values():
            one.close()
        if self._thread is not None:
            self._thread.join()
        self._poll.close()
        os.close(self._closing)

    def _add(self, door: _Door) -> None:
        door.asking.doors.append(door)
        with self._lock:
            self._doors[door.socket.fileno()] = door
            self._poll.register(door.socket.fileno(), select.EPOLLIN)
            if self._thread is None:
                self._thread = threading.Thread(target=self._accept, name="lookups", daemon=True)
                self._thread.start()

    def remove(self, door: _Door) -> None:
        """Close a door; connections that came through it stay."""
        with self._lock:
            if self._doors.pop(door.socket.fileno(), None) is not None:
                with suppress(OSError):
                    self._poll.unregister(door.socket.fileno())
            door.socket.close()

    def _accept(self) -> None:
        while not self._stopping:
            for fd, _ in self._poll.poll():
                with self._lock:
                    door = self._doors.get(fd)
                    if door is None:
                        continue
                    try:
                        client, _ = door.socket.accept()
                    except OSError:
                        continue
                    client.setblocking(True)
                door.asking.serve(door, client)


class _Door:
    """A port for the look-ups of one execution in one service."""

    def __init__(self, asking: Asking, wire: str, answers: Answers) -> None:
        self.asking = asking
        self.wire = wire
        self.answers = answers
        self.socket = socket.create_server((HOST, 0), backlog=128)
        self.socket.setblocking(False)
        self.port = int(self.socket.getsockname()[1])

    @property
    def url(self) -> str:
        """What the program is told."""
        return f"http://{HOST}:{self.port}"


class Asking:
    """The look-ups of one execution, from its start to its end."""

    def __init__(self, proxy: Proxy) -> None:
        self.doors: list[_Door] = []
        self._proxy = proxy
        self._bell = threading.Condition()
        self._sockets: set[socket.socket] = set()
        self._at_work = 0
        self._closed = False
        self._count = 0
        self._missing = ""
        self._lookups: dict[int, Lookup] = {}
        self._small: list[bytes] = []

    @property
    def env(self) -> tuple[tuple[str, str], ...]:
        """Where to ask: KOALJA_WIRE_URL for each wire, and KOALJA_LOOKUP_URL where there is one only."""
        found = {variable(door.wire): door.url for door in self.doors}
        if len(self.doors) == 1:
            found.setdefault("KOALJA_LOOKUP_URL", self.doors[0].url)
        return tuple(found.items())

    def close(self) -> list[Lookup]:
        """Cut off what is still open, and return what was asked, in order.

        Raises:
            StoreError: There is no room for the bodies.
        """
        for door in self.doors:
            self._proxy.remove(door)
        with self._bell:
            self._closed = True
            self._cut()
            self._bell.wait_for(lambda: not self._at_work, _CLOSING)
            found = [self._lookups[number] for number in sorted(self._lookups)]
            small, self._small = self._small, []
        if small:
            self._proxy.store.put_many(small)
        return found

    # For the threads that serve connections

    def serve(self, door: _Door, client: socket.socket) -> None:
        """Serve a connection in a thread of its own."""
        with self._bell:
            if self._closed or self._at_work >= self._proxy.limits.connections:
                client.close()  # beyond the limit a program has lost control of itself
                return
            self._at_work += 1
            self._sockets.add(client)
        threading.Thread(target=self._serve, args=(door, client), name="lookup", daemon=True).start()

    def _serve(self, door: _Door, client: socket.socket) -> None:
        try:
            with suppress(OSError):
                self._connection(door, client).serve()
        finally:
            with suppress(OSError):
                client.close()
            with self._bell:
                self._sockets.discard(client)
                self._at_work -= 1
                self._bell.notify_all()

    def _connection(self, door: _Door, client: socket.socket) -> Connection:
        # With http.client and ssl: only if somebody asks.
        if isinstance(door.answers, Record):
            from koalja_fn.lookups.replaying import Replaying

            return Replaying(client, door.wire, door.port, self, door.answers)
        from koalja_fn.lookups.relaying import Relaying

        return Relaying(client, door.wire, door.port, self, *door.answers)

    @property
    def store(self) -> Store:
        """Where bodies are kept."""
        return self._proxy.store

    @property
    def missing(self) -> str:
        """The first look-up that had no answer on record, and why; empty where none was without."""
        return self._missing

    @property
    def limits(self) -> Limits:
        """How far look-ups may go."""
        return self._proxy.limits

    @property
    def is_closed(self) -> bool:
        """Whether the execution is over."""
        return self._closed

    def clock(self) -> int:
        """The registry's time."""
        return self._proxy.clock()

    def number(self) -> int | None:
        """The next look-up's number; None where the execution has asked too often."""
        with self._bell:
            if self._count >= self.limits.lookups:
                return None
            self._count += 1
            return self._count

    def watch(self, upstream: socket.socket) -> None:
        """A connection to a service is open: it is cut when the execution ends."""
        with self._bell:
            self._sockets.add(upstream)
            if self._closed:
                self._cut()

    def unwatch(self, upstream: socket.socket) -> None:
        """It is closed."""
        with self._bell:
            self._sockets.discard(upstream)

    def record(self, number: int, lookup: Lookup) -> None:
        """A look-up is over."""
        with self._bell:
            self._lookups[number] = lookup

    def miss(self, what: str) -> None:
        """A look-up has no answer on record."""
        with self._bell:
            self._missing = self._missing or what

    def keep(self, tape: Tape) -> Body:
        """Store what was taped; small bodies wait for one another."""
        body, small = tape.body(self._proxy.store)
        if small:
            with self._bell:
                self._small.append(small)
                waiting = self._small if sum(map(len, self._small)) > _PENDING else []
                if waiting:
                    self._small = []
            if waiting:
                self._proxy.store.put_many(waiting)
        return body

    def _cut(self) -> None:
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def variable(wire: str) -> str:
    """The environment variable that tells where to ask a service."""
    return f"KOALJA_{re.sub(r'[^A-Za-z0-9]', '_', wire).upper()}_URL"
