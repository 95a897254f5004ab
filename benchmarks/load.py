"""A load generator that costs little: connections that are kept, over raw sockets, in processes of their own.

    python benchmarks/load.py PORT PATH CONNECTIONS SECONDS SIZE FIRST [NAME=TEXT …]

Each connection posts a CloudEvent in binary mode, waits for the answer and posts the next; FIRST is the
number of the first event, so that all events of a run have ids of their own. Tells as JSON how many
answers came, how long they took (seconds), and its own processor time. Imported, `posted` runs several.
"""

from __future__ import annotations

import json
import re
import resource
import selectors
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field

_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: *(\d+)")
_CHUNKED = re.compile(rb"\r\n[Tt]ransfer-[Ee]ncoding: *chunked")
_WARM_UP = 0.15  # of the time, at the beginning, that does not count


@dataclass(frozen=True)
class Load:
    """What some clients saw: answers a second, seconds for an answer in order, processor time used."""

    rate: float
    latencies: list[float]
    cpu: float
    wrong: dict[str, int] = field(default_factory=dict)

    def percentile(self, share: float) -> float:
        """Milliseconds within which this share of the answers came."""
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * share))] * 1000


def posted(
    port: int,
    path: str,
    *,
    connections: int = 8,
    seconds: float = 5.0,
    size: int = 1024,
    first: int = 0,
    processes: int = 2,
    headers: dict[str, str] | None = None,
) -> Load:
    """Post for some seconds from several processes."""
    each = connections // processes
    more = [f"{name}={text}" for name, text in (headers or {}).items()]
    running = [
        subprocess.Popen(
            [
                *(sys.executable, __file__, str(port), path, str(each), str(seconds), str(size)),
                *(str(first + n * 100_000_000), *more),
            ],
            stdout=subprocess.PIPE,
        )
        for n in range(processes)
    ]
    told = [json.loads(process.communicate()[0]) for process in running]
    wrong: dict[str, int] = {}
    for one in told:
        for status, count in one["wrong"].items():
            wrong[status] = wrong.get(status, 0) + count
    return Load(
        sum(one["rate"] for one in told),
        sorted(took for one in told for took in one["latencies"]),
        sum(one["cpu"] for one in told),
        wrong,
    )


class Connection:
    """One connection with one request under way; made anew where the server closes it between two."""

    def __init__(self, port: int, head: bytes, tail: bytes, waiting: selectors.BaseSelector) -> None:
        self._port, self._head, self._tail, self._waiting = port, head, tail, waiting
        self._said = b""
        self._number = 0
        self.sent = 0.0
        self._connect()

    def post(self, number: int) -> None:
        """Send an event with this number as its id."""
        self._number = number
        self.sent = time.perf_counter()
        try:
            self._socket.sendall(self._head + b"%d" % number + self._tail)
        except OSError:
            self._again()

    def answered(self) -> bytes:
        """Take what has come; the status once the answer is whole, else nothing."""
        try:
            piece = self._socket.recv(65536)
        except ConnectionResetError:
            piece = b""
        if not piece:
            self._again()
            return b""
        said = self._said = self._said + piece
        end = said.find(b"\r\n\r\n")
        if end < 0:
            return b""
        length = _LENGTH.search(said, 0, end)
        if length is None and _CHUNKED.search(said, 0, end):
            whole = said.endswith(b"0\r\n\r\n")
        else:
            whole = len(said) >= end + 4 + (int(length[1]) if length else 0)
        if not whole:
            return b""
        self._said = b""
        return said[9:12]

    def _connect(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._waiting.register(self._socket, selectors.EVENT_READ, self)

    def _again(self) -> None:
        """Some servers close a connection after a thousand requests."""
        if self._said:
            raise ConnectionResetError("the server closed the connection in the midst of an answer")
        self._waiting.unregister(self._socket)
        self._socket.close()
        self._connect()
        self.post(self._number)


def main() -> None:
    """Be one process of clients."""
    port, path, count, seconds, size, first = sys.argv[1:7]
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "User-Agent: load",
        "Accept: */*",
        "Content-Type: application/json",
        f"Content-Length: {size}",
        "ce-specversion: 1.0",
        "ce-type: org.example.reading",
        "ce-source: /stations/north",
        "ce-time: 2026-11-22T10:00:00.123Z",
        *(": ".join(text.split("=", 1)) for text in sys.argv[7:]),
        "ce-id: ",
    ]
    head = "\r\n".join(lines).encode()
    body = b'{"reading": "' + b"x" * (int(size) - 15) + b'"}'
    waiting = selectors.DefaultSelector()
    connections = [Connection(int(port), head, b"\r\n\r\n" + body, waiting) for _ in range(int(count))]
    number = int(first)
    began = time.perf_counter()
    counted, until = began + _WARM_UP * float(seconds), began + float(seconds)
    latencies: list[float] = []
    wrong: dict[str, int] = {}
    for one in connections:
        one.post(number)
        number += 1
    now = began
    while now < until:
        for key, _ in waiting.select(1):
            one = key.data
            status = one.answered()
            if not status:
                continue
            now = time.perf_counter()
            if not status.startswith(b"2"):
                wrong[status.decode()] = wrong.get(status.decode(), 0) + 1
            elif now >= counted:
                latencies.append(now - one.sent)
            one.post(number)
            number += 1
        now = time.perf_counter()
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "rate": len(latencies) / (until - counted),
                "latencies": latencies,
                "cpu": used.ru_utime + used.ru_stime,
                "wrong": wrong,
            }
        )
    )


if __name__ == "__main__":
    main()
