"""Waitress on loopback in a thread of its own, which ends by answering first what it has in hand."""

from __future__ import annotations

import codecs
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import create_server
from waitress.task import ErrorTask, WSGITask

from koalja_fn.events import DEFAULT_LIMITS, Limits
from koalja_fn.local import spool as spools

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]
_CURES = {
    413: "send it in parts, or put the file into an in-tray",
    431: "use fewer and shorter headers",
    400: "send plain HTTP/1.1",
}


class Server:
    """Serves an application on 127.0.0.1; `start` tells the port, `drain` ends it."""

    def __init__(
        self,
        app: Application,
        *,
        spool: Path,
        limits: Limits = DEFAULT_LIMITS,
        port: int = 0,
        threads: int = 8,
    ) -> None:
        self._app = app
        self._spool = spool
        self._limits = limits
        self._wanted = port
        self._threads = threads
        self._busy = 0
        self._quiet = threading.Condition()
        self._draining = False
        self._map: dict[int, Any] = {}
        self._server: Any = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port in use; 0 before `start`."""
        return int(self._server.effective_port) if self._server else 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> int:
        """Listen, and serve in a thread; return the port. OSError if the port is taken."""
        # Werkzeug looks up the codec 'idna'. Two first requests at a time may break its import, and
        # CPython remembers the failure for the rest of the process.
        codecs.lookup("idna")
        "x".encode("idna")
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a queue of requests is no trouble
        self._spool.mkdir(parents=True, exist_ok=True)
        spools.clear(self._spool)
        self._server = create_server(
            self._serve,
            map=self._map,
            listen=f"127.0.0.1:{self._wanted}",
            threads=self._threads,
            ident="koalja-fn",
            max_request_body_size=self._limits.body + 1,  # waitress refuses what is as large as this
            max_request_header_size=self._limits.headers,
            clear_untrusted_proxy_headers=True,
            connection_limit=1000,
            asyncore_use_poll=True,
            recv_bytes=65_536,
        )
        self._server.channel_class = _channel_for(self._spool)
        self._thread = threading.Thread(target=self._server.run, name="koalja-entry", daemon=True)
        self._thread.start()
        return self.port

    def drain(self, timeout: float = 30.0) -> bool:
        """Refuse new requests (503), answer those in flight, close; False if some took longer."""
        if self._server is None or self._thread is None:
            return True
        until = time.monotonic() + timeout
        with self._quiet:
            self._draining = True
            done = self._quiet.wait_for(lambda: self._busy == 0, timeout)
        while done and self._unsent() and time.monotonic() < until:
            time.sleep(0.005)
        self._close()
        self._thread.join(5)
        self._server.task_dispatcher.shutdown(timeout=1)
        self._server = None
        return done

    def _close(self) -> None:
        """Have the server's loop close all, its wake-up pipe too: not before we have written to that."""
        woken = threading.Event()

        def close() -> None:
            woken.wait(5)
            wasyncore.close_all(self._map)

        self._server.trigger.pull_trigger(close)
        woken.set()

    def _unsent(self) -> bool:
        channels = list(self._server.active_channels.values())
        return any(channel.requests or channel.total_outbufs_len for channel in channels)

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self._quiet:
            if self._draining:
                return _closing(start_response)
            self._busy += 1
        try:
            return list(self._app(environ, start_response))  # answers are small, so they end here
        finally:
            with self._quiet:
                self._busy -= 1
                self._quiet.notify_all()


def _closing(start_response: Any) -> list[bytes]:
    body = _problem(503, "the circuit is being stopped", "send the same again to the next run")
    length = ("Content-Length", str(len(body)))
    start_response(
        "503 Service Unavailable", [("Content-Type", "application/json"), ("Retry-After", "1"), length]
    )
    return [body]


def _problem(status: int, what: str, cure: str, why: str = "") -> bytes:
    return json.dumps({"status": status, "what": what, "why": why, "cure": cure}).encode() + b"\n"


def _channel_for(folder: Path) -> type[Any]:
    """Waitress's connection with bodies spooled where we say, and with errors as JSON.

    Left alone it spools to the temporary folder of the machine, which may be memory, and each
    large body would be written twice.
    """

    class Parser(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
        def parse_header(self, header_plus: bytes) -> None:
            try:
                super().parse_header(header_plus)
            except ValueError as error:  # a Content-Length of thousands of digits
                raise ParsingError("Content-Length is invalid") from error
            if self.body_rcv is not None:
                self.body_rcv.buf = spools.Spooled(folder)

    class Task(WSGITask):  # type: ignore[misc]
        def get_environment(self) -> dict[str, Any]:
            environ: dict[str, Any] = super().get_environment()
            receiver = self.request.body_rcv
            environ["koalja.body"] = receiver.getbuf() if receiver is not None else None
            return environ

    class Failure(ErrorTask):  # type: ignore[misc]
        def execute(self) -> None:
            error = self.request.error
            self.status = f"{error.code} {error.reason}"
            self.response_headers.append(("Content-Type", "application/json"))
            self.set_close_on_finish()
            body = _problem(error.code, error.reason.lower(), _CURES.get(error.code, ""), str(error.body))
            self.content_length = len(body)
            self.write(body)

    class Channel(HTTPChannel):  # type: ignore[misc]
        parser_class = Parser
        task_class = Task
        error_task_class = Failure

    return Channel
