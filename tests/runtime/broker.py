"""A small HTTP broker that behaves as Knative's does: triggers, retries, dead letters, trouble on demand.

Filters compare attributes byte for byte. 404, 408, 409, 429, 5xx and broken connections are delivered again
with growing pauses; other answers that are no 2xx, and a 200 with a body, go to the dead letters. With
`Weather` it loses, repeats and delays events. Delivery is asynchronous, or holds the sender as
Knative's in-memory channel does.
"""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

AGAIN = {404, 408, 409, 429}
OF_BROKER = {"Prefer": "reply", "Kn-Namespace": "ns"}


@dataclass(frozen=True)
class Trigger:
    """Who gets events with these attributes; an empty value fits any."""

    name: str
    filters: Mapping[str, str]
    subscriber: str
    dead_letters: str = ""

    def fits(self, event: Mapping[str, str]) -> bool:
        return all(k in event and (not v or event[k] == v) for k, v in self.filters.items())


@dataclass(frozen=True)
class Weather:
    """Chances, from 0 to 1, that an event is lost, delivered twice, or held up for a while."""

    loses: float = 0.0
    repeats: float = 0.0
    delays: float = 0.0
    longest: float = 0.05


@dataclass
class Delivery:
    """An attempt to deliver, as it came out; status 0 is a broken connection."""

    trigger: str
    event: Mapping[str, str]
    status: int
    seconds: float


@dataclass
class Broker:
    """Serves on loopback from `start` to `stop`; triggers may come and go."""

    triggers: list[Trigger] = field(default_factory=list)
    weather: Weather = field(default_factory=Weather)
    synchronous: bool = False
    retries: int = 5
    backoff: float = 0.05
    seed: int = 1
    deliveries: list[Delivery] = field(default_factory=list)
    received: int = 0
    wrong: list[str] = field(default_factory=list)

    def start(self) -> str:
        """Listen; return the address."""
        broker = self
        self._chance = random.Random(self.seed)
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(200)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                event = {k.lower()[3:]: v for k, v in self.headers.items() if k.lower().startswith("ce-")}
                status = broker.take(event, self.headers.get("Content-Type", ""), body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

            def handle_error(self, *_: object) -> None:
                """A sender that was killed is no trouble here."""

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}/ns/broker"

    def stop(self) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._pool.shutdown(cancel_futures=True)

    def take(self, event: dict[str, str], kind: str, body: bytes) -> int:
        """Accept an event and deliver it; the status that its sender gets."""
        if any(name not in event for name in ("id", "source", "type", "specversion")):
            return 400
        for name, text in event.items():
            if not (name.isascii() and name.isalnum() and name == name.lower()):
                return 400
            if not text.isascii() or "%" in text or " " in text or '"' in text:
                self.wrong.append(f"{name}: {text!r}")
        self.received += 1
        waiting: list[Future[bool]] = []
        for trigger in list(self.triggers):
            if not trigger.fits(event) or self._chance.random() < self.weather.loses:
                continue
            copies = 2 if self._chance.random() < self.weather.repeats else 1
            for _ in range(copies):
                late = self._chance.random() < self.weather.delays
                pause = self._chance.uniform(0, self.weather.longest) if late else 0.0
                waiting.append(self._pool.submit(self._deliver, trigger, event, kind, body, pause))
        if self.synchronous and not all(f.result() for f in waiting):
            return 500
        return 202

    def _deliver(
        self, trigger: Trigger, event: Mapping[str, str], kind: str, body: bytes, pause: float
    ) -> bool:
        if self._stopping.wait(pause):
            return False
        status, said = 0, b""
        for attempt in range(self.retries + 1):
            began = time.monotonic()
            status, said = post(trigger.subscriber, event, kind, body, OF_BROKER)
            self.deliveries.append(Delivery(trigger.name, event, status, time.monotonic() - began))
            if status in (202, 204) or (status == 200 and not said):
                return True
            if not (status == 0 or status in AGAIN or status >= 500 or status == 200):
                break
            if self._stopping.wait(self.backoff * 2**attempt):
                return False
        if trigger.dead_letters:
            more = {**event, "knativeerrorcode": str(status or 502), "knativeerrordest": trigger.subscriber}
            return post(trigger.dead_letters, more, kind, body)[0] == 202
        return False


def post(
    url: str,
    event: Mapping[str, str],
    kind: str = "",
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    timeout: float = 120.0,
) -> tuple[int, bytes]:
    """Post an event in binary mode; status 0 where the connection broke."""
    sent = {f"ce-{name}": text for name, text in event.items()} | dict(headers or {})
    if kind:
        sent["Content-Type"] = kind
    return send(url, body, sent, timeout)


def send(url: str, body: bytes, headers: Mapping[str, str], timeout: float = 120.0) -> tuple[int, bytes]:
    """POST; status 0 where the connection broke."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request("POST", parts.path or "/", body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def links(
    circuit: str, reads: Iterable[tuple[str, str]], urls: Mapping[str, str], letters: str
) -> list[Trigger]:
    """Triggers as `deploy` makes them: one for each (task, wire), one for each task's own rings."""
    found = [
        Trigger(f"{task}-{wire}", {"koaljacircuit": circuit, "koaljawire": wire}, urls[task], letters)
        for task, wire in reads
    ]
    return found + [
        Trigger(f"{task}-ring", {"koaljacircuit": circuit, "koaljatask": task}, url, letters)
        for task, url in urls.items()
    ]
