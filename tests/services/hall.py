"""A circuit with services under the real engine, in this process; its programs are written by the test."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from koalja_fn.engine.arriving import Intake, Offer
from koalja_fn.engine.auditing import audit
from koalja_fn.engine.claiming import Claim
from koalja_fn.engine.executing import Executed, Executor
from koalja_fn.engine.installing import install
from koalja_fn.engine.running import Engine
from koalja_fn.engine.serving import services_of
from koalja_fn.local.opening import joined
from koalja_fn.lookups import Proxy
from koalja_fn.model import AnnotatedValue
from koalja_fn.program.calling import Caller
from koalja_fn.program.folder import open_circuit
from koalja_fn.registry import connect, lookups, tasks, values
from koalja_fn.registry.lookups import LookupRow
from koalja_fn.store import FileStore
from tests.postgres.schemas import empty_registry

# Tells what it was given; /pid, /slow (until a file is there), /die and /status/N do what they say.
SERVER = """\
import os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

model = Path(sys.argv[1]).read_text() if len(sys.argv) > 1 else "none"

class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self.path == "/die":
            print("it hurts", file=sys.stderr, flush=True)
            os._exit(7)
        if self.path.startswith("/slow"):
            Path(self.path[5:] + ".begun").touch()
            while not Path(self.path[5:]).exists():
                time.sleep(0.01)
        said = str(os.getpid()) if self.path == "/pid" else f"{model}:{asked}"
        self.send_response(int(self.path[8:]) if self.path.startswith("/status/") else 200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said.encode())
    do_POST = do_GET
    def log_message(self, *words):
        pass

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Answers).serve_forever()
"""
ASKER = """\
import os, sys, urllib.request
from pathlib import Path

url = os.environ["KOALJA_LOOKUP_URL"]
with urllib.request.urlopen(url + "/ask", Path(sys.argv[1]).read_bytes()) as answer:
    print(answer.read().decode())
"""
WIRING = """\
(model) server (lookup implicit)
    run = python3 server.py {model}
    backoff = 10ms
(json, lookup implicit) predict (result)
    run = python3 predict.py {json}
"""


class Hall:
    """The circuit, wired up; `with hall.running():` runs its engine."""

    def __init__(self, folder: Path, wiring: str, where: str = "", **programs: str) -> None:
        self.folder = folder
        (folder / "hall.koalja").write_text("[hall]\n" + wiring)
        for name, text in ({"server": SERVER, "predict": ASKER} | programs).items():
            (folder / f"{name}.py").write_text(text)
        (folder / ".koalja").mkdir()
        self.registry = connect(where or folder / ".koalja/registry.db")
        self.store = joined(FileStore(folder / ".koalja/objects"), self.registry)
        self.ended: list[Executed] = []
        self.trouble: list[BaseException] = []
        self.said: list[str] = []
        opened = open_circuit(folder)
        assert opened.circuit is not None, opened.findings
        circuit = opened.circuit
        self.plan = self.registry.transact(
            lambda tx: install(tx, self.registry.clock(), circuit, folder, opened.located, "")
        ).plan

    @contextmanager
    def running(self) -> Iterator[Hall]:
        caller = Caller(self.store, self.folder / ".koalja/scratch")
        proxy = lambda: Proxy(self.store, self.registry.clock)  # noqa: E731
        self.services = services_of(self.registry, proxy, caller, self.plan)
        assert self.services is not None
        self.engine = Engine(
            self.registry,
            Executor(self.registry, self.store, caller, self.plan, self.services),
            self.plan,
            jobs=4,
            ended=self.ended.append,
            trouble=self.trouble.append,
            services=self.services,
            say=self.said.append,
        )
        self.intake = Intake(self.registry, self.store, self.plan, self.engine.ring)
        self.engine.start()
        try:
            yield self
        finally:
            self.engine.stop()
            caller.close()

    def send(self, wire: str, *texts: str) -> None:
        self.intake.accept([Offer(wire, text.encode()) for text in texts])

    def settle(self) -> None:
        """Wait until nothing more can happen."""
        until = time.monotonic() + 60
        assert self.engine.wait_until_idle(lambda: time.monotonic() > until)
        assert not self.trouble, self.trouble

    @contextmanager
    def asking(self, task: str = "predict") -> Iterator[str]:
        """A door as an execution of a task would have it."""
        assert self.services is not None
        asking = self.services.open(Claim(self.plan.tasks[task], 0, "", 0, 1, 1, 0, 0))
        assert asking is not None
        try:
            yield dict(asking.env)["KOALJA_LOOKUP_URL"]
        finally:
            asking.close()

    # Questions

    def values_on(self, wire: str) -> list[AnnotatedValue]:
        row = self.plan.wires[wire]
        return self.registry.read(lambda tx: values.between(tx, row, 0, 1 << 40))

    def said_on(self, wire: str) -> list[str]:
        return [self.store.read(value.digest).decode().strip() for value in self.values_on(wire)]

    def lookups(self, task: str = "predict") -> list[LookupRow]:
        """All that a task's executions asked, in order of its snapshots."""
        rows = self.ask("SELECT rid FROM snapshot WHERE task = ? ORDER BY number", self.plan.tasks[task].id)
        return self.registry.read(
            lambda tx: [one for (rid,) in rows for one in lookups.of_snapshot(tx, rid, 99)]
        )

    def states(self, task: str) -> list[str]:
        rows = self.ask("SELECT state FROM snapshot WHERE task = ? ORDER BY number", self.plan.tasks[task].id)
        return [state for (state,) in rows]

    def attempts(self, task: str) -> list[tuple[Any, ...]]:
        """Outcome, reason, status, message and standard error of a task's attempts."""
        sql = "SELECT outcome, reason, status, message, stderr FROM execution WHERE task = ? ORDER BY id"
        return self.ask(sql, self.plan.tasks[task].id)

    def ask(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        return self.registry.read(lambda tx: tx.all(sql, *params))

    def wrong(self) -> list[str]:
        return self.registry.read(
            lambda tx: list(audit(tx, tasks.circuit_id(tx, "hall") or 0, self.store.verify))
        )

    def close(self) -> None:
        self.store.close()
        self.registry.close()


@contextmanager
def hall(folder: Path, wiring: str = WIRING, kind: str = "sqlite", **programs: str) -> Iterator[Hall]:
    with ExitStack() as stack:
        where = stack.enter_context(empty_registry()) if kind == "postgres" else ""
        made = Hall(folder, wiring, where, **programs)
        stack.callback(made.close)
        yield made


def get(url: str, data: bytes | None = None, timeout: float = 30) -> tuple[int, str]:
    """Status and text of an answer, whatever the status."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def wait_for(true: Callable[[], Any], seconds: float = 30) -> Any:
    until = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)
    return found


class Crowd:
    """Asks again and again until told to stop."""

    def __init__(self, url: str) -> None:
        self.answers: list[tuple[int, str]] = []
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Crowd:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.answers.append(get(self._url))
