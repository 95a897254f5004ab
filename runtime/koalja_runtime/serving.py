"""The HTTP side: health at once, values as soon as the task is open, an orderly end on SIGTERM.

`POST /` takes a CloudEvent or raw bytes for the task's only source, `POST /CIRCUIT/WIRE` for any wire. The
answer is 202 without a body once the value is durable: a body would be taken for a reply event by
a Knative broker. Errors are JSON with what, why and cure.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from waitress import wasyncore
from waitress.server import create_server

_LONGEST_BODY = 256 * 1024 * 1024
_PATIENCE = 30.0

Start = Callable[..., Any]


class Front:
    """The WSGI application; what it passes on waits until the worker behind it is open."""

    def __init__(self) -> None:
        self._opened = threading.Event()
        self._worker: Any = None
        self._trouble: BaseException | None = None
        self._quiet = threading.Condition()
        self._busy = 0
        self._draining = False

    def open(self) -> None:
        """Open the task; in a thread, while health is answered already."""
        try:
            from koalja_runtime.working import Worker

            self._worker = Worker.open()
        except BaseException as error:  # told on standard error; requests get 503
            self._trouble = error
            sys.stderr.write(f"koalja: the task can't be opened: {error}\n")
            sys.stderr.flush()
        self._opened.set()

    def __call__(self, environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        """Answer health at once, and pass on everything else."""
        path = environ.get("PATH_INFO", "/")
        if environ.get("REQUEST_METHOD") in ("GET", "HEAD") and path in ("/healthz", "/readyz"):
            ready = self._opened.is_set() and self._trouble is None
            return _plain(
                start_response, "200 OK" if ready or path == "/healthz" else "503 Service Unavailable"
            )
        with self._quiet:
            if self._draining:
                return _plain(start_response, "503 Service Unavailable", [("Retry-After", "1")])
            self._busy += 1
        try:
            return self._pass_on(environ, start_response)
        finally:
            with self._quiet:
                self._busy -= 1
                self._quiet.notify_all()

    def _pass_on(self, environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        if not self._opened.wait(_PATIENCE) or self._worker is None:
            return _plain(start_response, "503 Service Unavailable", [("Retry-After", "5")])
        answer: Iterable[bytes] = self._worker.answer(environ, start_response)
        return answer

    def drain(self) -> None:
        """Refuse what is new, answer what is under way, end programs cleanly."""
        with self._quiet:
            self._draining = True
            self._quiet.wait_for(lambda: self._busy == 0, _PATIENCE)
        if self._worker is not None:
            self._worker.close()


def _plain(start_response: Start, status: str, headers: list[tuple[str, str]] | None = None) -> list[bytes]:
    start_response(status, [("Content-Length", "0"), *(headers or [])])
    return []


def serve() -> int:
    """Serve until SIGTERM; the exit status."""
    front = Front()
    ports: dict[int, Any] = {}
    server = create_server(
        front,
        map=ports,
        host=os.environ.get("KOALJA_HOST", "0.0.0.0"),  # noqa: S104  a container has its own network
        port=int(os.environ.get("PORT", "8080")),
        threads=8,
        ident="koalja",
        max_request_body_size=_LONGEST_BODY + 1,
        clear_untrusted_proxy_headers=True,
        asyncore_use_poll=True,
    )
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    threading.Thread(target=front.open, name="opening", daemon=True).start()
    threading.Thread(target=server.run, name="http", daemon=True).start()
    while not ended.wait(1.0):
        _reap()
    front.drain()
    until = time.monotonic() + 5
    channels = server.active_channels
    while (
        any(c.requests or c.total_outbufs_len for c in list(channels.values())) and time.monotonic() < until
    ):
        time.sleep(0.01)
    server.trigger.pull_trigger(lambda: wasyncore.close_all(ports))
    return 0


def _reap() -> None:
    """As the first process of a container: take in orphans that ended, but nobody's own children."""
    if os.getpid() != 1:
        return
    known = _own_children()
    for pid in _zombies() - known:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            continue


def _own_children() -> set[int]:
    """Children that threads of ours have started and wait for: their session or group is not foreign."""
    found = set()
    for pid in _zombies():
        try:
            with open(f"/proc/{pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == pid:  # leads its process group, as every program that is called does
            found.add(pid)
    return found


def _zombies() -> set[int]:
    found = set()
    try:
        with open("/proc/1/task/1/children") as file:
            children = file.read().split()
    except OSError:
        return found
    for pid in children:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    found.add(int(pid))
        except OSError:
            continue
    return found
