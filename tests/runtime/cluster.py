"""A cluster in small: several runtime processes for each task, an entry, a broker between them, a sweep.

The registry and the store are shared; what a pod has for itself is its scratch folder. A Service's address
is a proxy that picks one of its pods, as Knative's does, and answers 502 where that has just died.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from koalja_fn.engine.auditing import audit
from koalja_fn.local.opening import joined
from koalja_fn.plain import plain_circuit
from koalja_fn.program.folder import open_circuit
from koalja_fn.registry import Registry, connect, standing, tasks, values
from koalja_fn.store import Store, open_store
from tests.ports import free_port
from tests.runtime.broker import Broker, Trigger, links, send

RUNTIME = Path(__file__).resolve().parents[2] / "runtime/koalja_runtime/__main__.py"
LEASE = 2.0
# As in a container without capabilities; whoever is root here can otherwise look into any process.
WITHOUT_RIGHTS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []


def start_runtime(
    folder: Path, environ: Mapping[str, str], log: Path, *arguments: str, plain: bool = False
) -> subprocess.Popen[bytes]:
    """Start the image's entry point, in a session of its own, with this environment only."""
    with open(log, "ab") as out:
        return subprocess.Popen(
            [*(WITHOUT_RIGHTS if plain else ()), sys.executable, "-I", str(RUNTIME), *arguments],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **environ},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


def wait_for(condition: Any, seconds: float = 30.0, what: str = "it") -> Any:
    until = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > until:
            raise AssertionError(f"{what} did not happen within {seconds} s")
        time.sleep(0.01)


def _below(pid: int) -> list[int]:
    """The processes below one."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *_below(int(child))]
    return found


@dataclass
class Pod:
    """One runtime process, restarted by `start` after it was killed."""

    folder: Path
    environ: dict[str, str]
    scratch: Path
    plain: bool = False
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.scratch.with_suffix(".log")

    def start(self) -> None:
        environ = {**self.environ, "PORT": str(self.port), "KOALJA_HOST": "127.0.0.1"}
        environ["KOALJA_SCRATCH"] = str(self.scratch)
        self.process = start_runtime(self.folder, environ, self.log, plain=self.plain)

    def wait(self, path: str = "/readyz") -> None:
        wait_for(lambda: self._get(path) == 200, what=f"{path} of {self.log}: {self.log.read_text()[-2000:]}")

    def _get(self, path: str) -> int:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            try:
                connection.request("GET", path)
                return connection.getresponse().status
            finally:
                connection.close()
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        return 0

    def kill(self) -> None:
        """SIGKILL for all that runs in the pod, as when the node dies."""
        if self.process is not None:
            programs = _below(self.process.pid)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            for pid in programs:  # they have sessions of their own
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def stop(self, seconds: float = 30.0) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


class Cluster:
    """A circuit deployed on this machine."""

    def __init__(
        self,
        folder: Path,
        home: Path,
        *,
        registry: str | None = None,
        store: str | None = None,
        pods: int = 1,
        places: int = 1,
        settings: Mapping[str, str] | None = None,
        broker: Broker | None = None,
        plain: bool = False,
    ) -> None:
        self.plain = plain
        self.folder, self.home = folder, home
        home.mkdir(parents=True, exist_ok=True)
        self.where = registry or f"sqlite:{home / 'registry.db'}"
        self.place = store or f"file:{home / 'objects'}"
        self.opened = open_circuit(folder)
        assert self.opened.circuit is not None, self.opened.findings
        self.circuit = self.opened.circuit
        self.broker = broker or Broker()
        self.address = self.broker.start()
        self.settings = dict(settings or {})
        self.pods: dict[str, list[Pod]] = {}
        self.proxies: dict[str, Proxy] = {}
        for task in self.circuit.tasks:
            if task.service:
                self._add(task.name, 1, {"KOALJA_ROLE": "service", "KOALJA_TASK": task.name})
        asked = [f"{name}={pods[0].url}" for name, pods in self.pods.items()]
        self.settings["KOALJA_SERVICES"] = " ".join(asked)
        for task in self.circuit.tasks:
            if task.mode == "service" and not task.service:
                self._add(
                    task.name,
                    pods,
                    {"KOALJA_ROLE": "task", "KOALJA_TASK": task.name, "KOALJA_PLACES": str(places)},
                )
        self._add("entry", 1, {"KOALJA_ROLE": "entry"})
        self._sweeping = threading.Event()

    def _add(self, name: str, count: int, more: Mapping[str, str]) -> None:
        self.pods[name] = [
            Pod(self.folder, {**self.environ, **more}, self.home / f"{name}-{n}", self.plain)
            for n in range(count)
        ]
        self.proxies[name] = Proxy(self.pods[name])

    @property
    def environ(self) -> dict[str, str]:
        return {
            "KOALJA_CIRCUIT": self.circuit.name,
            "KOALJA_REGISTRY": self.where,
            "KOALJA_STORE": self.place,
            "KOALJA_BROKER": self.address,
            "KOALJA_LEASE_SECONDS": str(LEASE),
            "KOALJA_GRACE_SECONDS": "20",
            **self.settings,
        }

    @property
    def entry(self) -> str:
        return self.proxies["entry"].url

    def install(self) -> dict[str, Any]:
        """Install as `deploy` does: JSON to `python -m koalja_runtime install`."""
        told = {
            "circuit": plain_circuit(self.circuit),
            "wiring": self.opened.file.read_text() if self.opened.file else "",
            "versions": {name: code.version for name, code in self.opened.located.items()},
        }
        done = subprocess.run(
            [sys.executable, "-I", str(RUNTIME), "install"],
            input=json.dumps(told),
            env={"PATH": os.environ["PATH"], **self.environ, "KOALJA_ROLE": "console"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def start(self) -> None:
        """Install, start all pods and wait for them; where that fails nothing stays behind."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        self.install()
        for pods in self.pods.values():
            for pod in pods:
                pod.start()
        for pods in self.pods.values():
            for pod in pods:
                pod.wait()
        self.broker.triggers[:] = self.links()
        self.broker.triggers += [
            Trigger(f"in-{name}", {"type": kind}, self.entry)
            for name, wire in self.circuit.wires.items()
            for kind in (wire.accept or "").replace(",", " ").split()
        ]

    def links(self) -> list[Trigger]:
        """A Trigger for each link, and each task's for its own rings."""
        urls = {name: proxy.url for name, proxy in self.proxies.items() if name != "entry"}
        reads = [
            (t.name, w) for t in self.circuit.tasks if t.name in urls for i in t.streams for w in i.wires
        ]
        return links(self.circuit.name, reads, urls, f"{self.entry}/letters")

    def sweep_each(self, seconds: float) -> None:
        """As a PingSource does."""

        def ping() -> None:
            while not self._sweeping.wait(seconds):
                self.sweep()

        threading.Thread(target=ping, daemon=True).start()

    def sweep(self) -> int:
        return send(f"{self.entry}/sweep", b"", {"Content-Length": "0"})[0]

    def send(self, wire: str, body: bytes, **headers: str) -> int:
        """A value by HTTP, binary mode where there are `ce_…` headers."""
        sent = {name.replace("_", "-"): text for name, text in headers.items()}
        return send(f"{self.entry}/{self.circuit.name}/{wire}", body, sent)[0]

    def stop(self) -> None:
        self._sweeping.set()
        for pods in self.pods.values():
            for pod in pods:
                pod.kill()
        for proxy in self.proxies.values():
            proxy.stop()
        self.broker.stop()

    # What came of it

    @contextlib.contextmanager
    def looking(self) -> Iterator[tuple[Registry, Store]]:
        registry = connect(self.where)
        store = joined(open_store(self.place, cache=self.home / "cache"), registry)
        try:
            yield registry, store
        finally:
            store.close()
            registry.close()

    def contents(self, wire: str) -> list[str]:
        with self.looking() as (registry, store):
            row = registry.read(lambda tx: tasks.wires(tx, tasks.circuit_id(tx, self.circuit.name) or 0))[
                wire
            ]
            found = registry.read(lambda tx: values.between(tx, row, 0, 1 << 40))
            return [store.read(value.digest).decode() for value in found]

    def findings(self) -> list[str]:
        with self.looking() as (registry, store):
            return registry.read(
                lambda tx: list(audit(tx, tasks.circuit_id(tx, self.circuit.name) or 0, store.verify))
            )

    def is_idle(self) -> bool:
        """Whether nothing is unread, ready or running."""
        with self.looking() as (registry, _):
            found = registry.read(
                lambda tx: standing.of_circuit(tx, tasks.circuit_id(tx, self.circuit.name) or 0)
            )
        return not any(s.unread or s.running or s.startable is not None for s in found)

    def wait_until_idle(self, seconds: float = 60.0) -> None:
        wait_for(self.is_idle, seconds, "becoming idle")

    def ready(self, task: str) -> int:
        """How many snapshots of a task are ready: what KEDA asks."""
        return self._count(task, "ready")

    def dead(self, task: str) -> int:
        """How many dead letters a task has."""
        return self._count(task, "dead")

    def _count(self, task: str, state: str) -> int:
        with self.looking() as (registry, _):
            row = registry.read(
                lambda tx: tx.one(
                    "SELECT count(*) FROM snapshot s JOIN task t ON t.id = s.task"
                    " WHERE t.name = ? AND s.state = ?",
                    task,
                    state,
                )
            )
        return int(row[0]) if row else 0

    def told(self, task: str) -> list[dict[str, Any]]:
        """What a task's runtimes said of their attempts."""
        lines = [line for pod in self.pods[task] for line in pod.log.read_text().splitlines()]
        return [json.loads(line[8:]) for line in lines if line.startswith("koalja: {")]

    def run_role(self, role: str, task: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a role that ends by itself."""
        more = {"KOALJA_ROLE": role, "KOALJA_TASK": task, "KOALJA_SCRATCH": str(self.home / f"{role}-once")}
        more |= settings
        return subprocess.run(
            [sys.executable, "-I", str(RUNTIME)],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], **self.environ, **more},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def rewire(self, text: str) -> None:
        """Deploy another wiring; the pods that run stay as they are."""
        assert self.opened.file is not None
        self.opened.file.write_text(text)
        self.opened = open_circuit(self.folder)
        assert self.opened.circuit is not None, self.opened.findings
        self.circuit = self.opened.circuit
        self.install()

    def logs(self) -> str:
        return "\n".join(
            f"--- {pod.log.name}\n{pod.log.read_text()[-3000:]}"
            for pods in self.pods.values()
            for pod in pods
            if pod.log.exists()
        )


class Proxy:
    """A Service's address: passes each request to one of its pods, in turn."""

    def __init__(self, pods: list[Pod]) -> None:
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        self._pods = pods
        self._chance = random.Random(len(pods))
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                pod = proxy._chance.choice(proxy._pods)
                skip = ("host", "connection", "content-length")
                headers = {k: v for k, v in self.headers.items() if k.lower() not in skip}
                headers["Content-Length"] = str(len(body))
                status, said = send(pod.url + self.path, body, headers)
                self.send_response(status or 502)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

            def handle_error(self, *_: object) -> None:
                """Who asked has gone."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return bytes(answer.read())
