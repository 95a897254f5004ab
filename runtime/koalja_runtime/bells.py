"""Rings the circuit's Broker, in a thread: what is new on a busy wire shares a ring.

While one ring is under way others for the same wire are joined into the next, so that a slow wire gets one
for each commit and a busy one as many as the Broker takes. A ring that fails is tried once more and then
left to the sweep.
"""

from __future__ import annotations

import http.client
import os
import sys
import threading
import time
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from koalja_fn.engine.ringing import News, call_headers, news_headers

# A Broker that delivers while the sender waits is not waited for; it goes on without us.
_PATIENCE = 3.0
_MOST_CALLS = 100


class Bells:
    """The Broker of a circuit; with an empty address nobody is rung."""

    def __init__(self, address: str, circuit: str) -> None:
        parts = urlsplit(address)
        self._address = address
        self._host, self._port, self._secure = parts.hostname or "", parts.port, parts.scheme == "https"
        self._path = parts.path or "/"
        self._circuit = circuit
        self._bell = threading.Condition()
        self._news: dict[tuple[str, str], News] = {}
        self._calls: dict[str, int] = {}
        self._busy = False
        self._connection: http.client.HTTPConnection | None = None
        self._drawn = 0
        self._start = time.time_ns()
        self._troubled = 0.0
        self.posted = 0

    def news(self, found: Collection[News]) -> None:
        """Tell whoever reads these wires."""
        with self._bell:
            for news in found:
                earlier = self._news.get((news.wire, news.ghost))  # a ghost never shares a value's ring
                self._news[news.wire, news.ghost] = news.after(earlier) if earlier else news
            self._wake()

    def call(self, task: str, count: int = 1) -> None:
        """Ask `count` times for somebody to work on a task."""
        with self._bell:
            self._calls[task] = min(_MOST_CALLS, max(self._calls.get(task, 0), count))
            self._wake()

    def flush(self, seconds: float = 2 * _PATIENCE) -> bool:
        """Wait until all is rung; False where it took longer."""
        with self._bell:
            return self._bell.wait_for(lambda: not (self._busy or self._news or self._calls), seconds)

    def _wake(self) -> None:
        """Have a thread ring, which ends when there is nothing left; the bell is held."""
        if not self._address:
            self._news.clear()
            self._calls.clear()
        elif not self._busy:
            self._busy = True
            threading.Thread(target=self._ring_all, name="bells", daemon=True).start()

    def _ring_all(self) -> None:
        while True:
            with self._bell:
                headers = self._next()
                if headers is None:
                    self._busy = False
                    self._bell.notify_all()
                    return
            self._post(headers)

    def _next(self) -> dict[str, str] | None:
        if self._news:
            first = next(iter(self._news))
            return news_headers(self._circuit, self._news.pop(first))
        if self._calls:
            task, count = next(iter(self._calls.items()))
            if count > 1:
                self._calls[task] = count - 1
            else:
                del self._calls[task]
            self._drawn += 1
            named = f"{os.uname().nodename}-{os.getpid()}-{self._start}-{self._drawn}"
            return call_headers(self._circuit, task, named)
        return None

    def _post(self, headers: Mapping[str, str]) -> None:
        for again in (True, False):
            try:
                status = self._once(headers)
            except (OSError, http.client.HTTPException) as error:
                self._drop()
                if isinstance(error, TimeoutError) or not again:
                    self._tell(f"{type(error).__name__}: {error}")
                    return
            else:
                if status >= 300:
                    self._tell(f"it answered {status}")
                return

    def _once(self, headers: Mapping[str, str]) -> int:
        if self._connection is None:
            kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            self._connection = kind(self._host, self._port, timeout=_PATIENCE)
        self._connection.request("POST", self._path, b"", {"Content-Length": "0", **headers})
        answer = self._connection.getresponse()
        answer.read()
        self.posted += 1
        return answer.status

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _tell(self, what: str) -> None:
        """Say so, but not more often than once a minute: the sweep makes it good."""
        now = time.monotonic()
        if not self._troubled or now - self._troubled > 60:
            self._troubled = now
            sys.stderr.write(f"koalja: the broker at {self._host} was not rung: {what}\n")
            sys.stderr.flush()
