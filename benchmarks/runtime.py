"""Speed and weight of the runtime that is in each container, each figure beside a peer of the same run.

    python benchmarks/runtime.py [--quick] [--registry ADDRESS] [--store ADDRESS] [--report FILE]

The peers are served by gunicorn's threads with the same settings: an empty Flask application, and one that
forks /bin/true for each request and keeps nothing; with --framework PATH the first answer is measured beside
that of functions-framework, too, of an environment where it is installed. Without --registry a PostgreSQL
server is started for the occasion, with its own fsync; without --store payloads are files. Runs alternate;
medians are given.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(HERE), str(HERE / "runtime")]
MAIN = HERE / "runtime/koalja_runtime/__main__.py"
PLACES = 8
WIRING = f"[bench]\n(in) task ()\n    run = /bin/true\n    concurrency = {PLACES}\n"

PEER = """
import os, subprocess, sys
sys.path.insert(0, {runtime!r})
from koalja_runtime.streaming import Served
from koalja_runtime.settings import Settings

class App:
    def __init__(self, app):
        self.app = app
    def __call__(self, environ, start_response):
        return self.app(environ, start_response)
    def __getattr__(self, name):
        return lambda *_: None

class Peer(Served):
    def load(self):
        from flask import Flask
        app = Flask("peer", static_folder=None)
        @app.get("/healthz")
        def health():
            return b""
        @app.post("/")
        def empty():
            return b"", 204
        @app.post("/true")
        def fork():
            subprocess.run(["/bin/true"], check=True)
            return b"", 204
        return App(app)

Peer(Settings.of(os.environ)).run()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def served(
    folder: Path, environ: Mapping[str, str], *, peer: bool = False
) -> Iterator[tuple[int, int, float]]:
    """A server: its port, its process, and when it was started."""
    port = free_port()
    program = ["-c", PEER.format(runtime=str(HERE / "runtime"))] if peer else [str(MAIN)]
    variables = {"PATH": os.environ["PATH"], "PORT": str(port), "KOALJA_HOST": "127.0.0.1", **environ}
    with open(folder.with_suffix(".log"), "ab") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-I", *program], cwd=folder, env=variables, stdout=log, stderr=log
        )
    try:
        yield port, process.pid, began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def ask(port: int, request: bytes) -> int:
    """One request on a fresh connection; its status, 0 where nobody answers."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(request)
            return int(connection.recv(4096).split()[1])
    except (OSError, IndexError):
        return 0


def message(
    path: str, headers: Mapping[str, str] | None = None, method: str = "POST", body: bytes = b""
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {text}" for name, text in (headers or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


HEALTH = message("/healthz", method="GET")
RING = message(
    "/", {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/b", "ce-type": "dev.koalja.ring.v1"}
)


def event(number: int) -> bytes:
    """A foreign event, which becomes a value and runs the task."""
    named = {"ce-specversion": "1.0", "ce-id": str(number), "ce-source": "/bench", "ce-type": "b"}
    return message("/", {**named, "Content-Type": "text/plain"}, body=b"x")


def first_answer(folder: Path, environ: Mapping[str, str], request: bytes, *, peer: bool = False) -> float:
    """Milliseconds from the process's start to its first answer."""
    with served(folder, environ, peer=peer) as (port, _, began):
        while ask(port, request) not in (200, 202, 204):
            time.sleep(0.002)
        return (time.perf_counter() - began) * 1000


def first_answer_of(framework: str, home: Path) -> float:
    """Milliseconds from the start of functions-framework to its first answer."""
    source, port = home / "framework.py", free_port()
    source.write_text("def take(request):\n    return ''\n")
    arguments = ["--target", "take", "--source", str(source), "--host", "127.0.0.1", "--port", str(port)]
    began = time.perf_counter()
    process = subprocess.Popen([framework, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while ask(port, HEALTH) != 200:
            time.sleep(0.002)
        return (time.perf_counter() - began) * 1000
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def rate(port: int, make: Callable[[int], bytes], seconds: float, clients: int = 8) -> float:
    """Requests/s of some clients that keep their connections."""
    counts = [0] * clients
    until = time.perf_counter() + seconds

    def client(me: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            while time.perf_counter() < until:
                connection.sendall(make(me * 10_000_000 + counts[me]))
                said = connection.recv(4096)
                while b"\r\n\r\n" not in said:
                    said += connection.recv(4096)
                assert said[9:12] in (b"200", b"202", b"204"), said
                counts[me] += 1

    threads = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


def executions(port: int, registry: str, seconds: float, run: int) -> float:
    """Executions/s from the first event to the last commit: a request may leave its value to another one."""
    from koalja_fn.registry import connect

    opened = connect(registry)

    def states() -> dict[str, int]:
        rows = opened.read(lambda tx: tx.all("SELECT state, count(*) FROM snapshot GROUP BY state"))
        return {str(state): int(count) for state, count in rows}

    before, began = states().get("done", 0), time.perf_counter()
    sent = rate(port, lambda m: event(m + run * 1_000_000_000), seconds) * seconds
    while set(states()) != {"done"}:
        assert time.perf_counter() - began < 10 * seconds + 30, states()
        time.sleep(0.01)
    took, done = time.perf_counter() - began, states()["done"] - before
    opened.close()
    assert done > 0.9 * sent
    return done / took


def memory(pid: int) -> tuple[float, float]:
    """MB of a process and its children: proportional set size, and the sum of resident sizes."""
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    pss = rss = 0
    for one in pids:
        for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
            pss += int(line.split()[1]) if line.startswith("Pss:") else 0
            rss += int(line.split()[1]) if line.startswith("Rss:") else 0
    return pss / 1024, rss / 1024


def ready(port: int, request: bytes = RING) -> None:
    while ask(port, request) not in (200, 202, 204):
        time.sleep(0.01)


def install(folder: Path, registry: str) -> None:
    """Put the circuit into the registry, as `deploy` does, and the packer's note into the image's folder."""
    from koalja_fn.pack.collecting import NOTE, collect
    from koalja_fn.plain import plain_circuit
    from koalja_fn.program.folder import open_circuit

    found = open_circuit(folder)
    assert found.circuit is not None
    (folder / NOTE).parent.mkdir()
    (folder / NOTE).write_text(json.dumps(collect(found, found.circuit.task("task")).note))
    versions = {name: code.version for name, code in found.located.items()}
    told = {"circuit": plain_circuit(found.circuit), "wiring": WIRING, "versions": versions}
    variables = {"PATH": os.environ["PATH"], "KOALJA_REGISTRY": registry, "KOALJA_ROLE": "console"}
    subprocess.run(
        [sys.executable, "-I", str(MAIN), "install"],
        input=json.dumps(told).encode(),
        env=variables,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def parts(folder: Path, registry: str, store: str, count: int) -> dict[str, float]:
    """Milliseconds of the steps that one execution is made of, one after the other in this process."""
    from koalja_fn.engine import claiming, forming
    from koalja_fn.engine.arriving import Intake, Offer
    from koalja_fn.engine.attaching import attach
    from koalja_fn.program.calling import Caller
    from koalja_fn.program.contract import Job
    from koalja_fn.program.folder import open_circuit
    from koalja_fn.registry import connect
    from koalja_fn.store import open_store

    found = open_circuit(folder)
    opened, payloads = connect(registry), open_store(store)
    plan = opened.read(lambda tx: attach(tx, "bench", found.located, folder)).plan
    task = plan.tasks["task"]
    caller = Caller(payloads, folder.with_suffix(".parts"))
    intake = Intake(opened, payloads, plan, lambda _: None)
    spent: dict[str, list[float]] = {}

    def timed(name: str, step: Callable[[], object]) -> object:
        began = time.perf_counter()
        result = step()
        spent.setdefault(name, []).append((time.perf_counter() - began) * 1000)
        return result

    for n in range(count):
        payload = f"payload {n}".encode()
        timed("put the payload", lambda payload=payload: payloads.put_bytes(payload))
        timed("arrive", lambda p=payload, n=n: intake.accept([Offer("in", p, "/parts", str(n))]))
        timed("form", lambda: opened.transact(lambda tx: forming.form(tx, opened.clock, task)))
        claims = timed(
            "claim",
            lambda: opened.transact(lambda tx: claiming.claim(tx, opened.clock(), plan, task, "b", 1, 30)),
        )
        (claim,) = claims  # type: ignore[misc]
        job = Job("bench", "task", task.code.command, folder, folder, claim.id)
        result = timed("call the program", lambda job=job: caller.call(job))
        caller.discard(result)  # type: ignore[arg-type]
        ending = claiming.Ending(task.code.version)
        timed(
            "commit",
            lambda claim=claim, ending=ending: opened.transact(
                lambda tx: claiming.complete(tx, opened.clock, plan, claim, ending)
            ),
        )
    caller.close()
    payloads.close()
    opened.close()
    return {name: statistics.median(times) for name, times in spent.items()}


def main() -> None:
    reading = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    reading.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    reading.add_argument("--registry", default="", help="postgresql://… or sqlite:PATH")
    reading.add_argument("--store", default="", help="s3://… or file:PATH")
    reading.add_argument("--framework", help="the command functions-framework of another environment")
    reading.add_argument("--report", help="also write what was found as JSON")
    options = reading.parse_args()
    home = Path(tempfile.mkdtemp(prefix="bench-runtime-"))
    stop: Callable[[], object] = lambda: None  # noqa: E731
    try:
        registry = options.registry
        if not registry:
            from tests.postgres.server import start

            server = start(fsync="on", synchronous_commit="on", full_page_writes="on")
            stop, registry = server.stop, server.with_schema("bench")
        found = measure(
            home, registry, options.store or f"file:{home / 'objects'}", options.quick, options.framework
        )
    finally:
        stop()
        shutil.rmtree(home)
    for name, (value, peer, unit) in found.items():
        beside = f"   peer {peer:8.1f}   ratio {value / peer:5.2f}" if peer else ""
        print(f"{name:58} {value:8.1f} {unit:12}{beside}")
    if options.report:
        Path(options.report).write_text(json.dumps(found, indent=1) + "\n")


Figures = dict[str, tuple[float, float, str]]


def measure(home: Path, registry: str, store: str, quick: bool, framework: str | None) -> Figures:
    """Each figure with its peer's (0 where there is none) and its unit."""
    folder = home / "bench"
    folder.mkdir()
    (folder / "bench.koalja").write_text(WIRING)
    install(folder, registry)
    environ = {
        "KOALJA_ROLE": "task",
        "KOALJA_CIRCUIT": "bench",
        "KOALJA_TASK": "task",
        "KOALJA_REGISTRY": registry,
        "KOALJA_STORE": store,
        "KOALJA_SCRATCH": str(home / "scratch"),
        "KOALJA_PLACES": str(PLACES),
        **{name: text for name, text in os.environ.items() if name.startswith("AWS_")},
    }
    peers = {"KOALJA_PLACES": str(PLACES)}
    rounds, seconds = (3, 1.5) if quick else (9, 4.0)
    found: Figures = {}

    starts: dict[str, list[float]] = {"ours": [], "peer": [], "ring": [], "framework": []}
    for _ in range(rounds):
        if framework:
            starts["framework"].append(first_answer_of(framework, home))
        starts["peer"].append(first_answer(folder, peers, HEALTH, peer=True))
        starts["ours"].append(first_answer(folder, environ, HEALTH))
        starts["ring"].append(first_answer(folder, environ, RING))
    middle = {name: statistics.median(times) for name, times in starts.items() if times}
    if framework:
        found["process start to first answer, beside functions-framework"] = (
            middle["ours"],
            middle["framework"],
            "ms",
        )
    found["process start to first answer (health)"] = (middle["ours"], middle["peer"], "ms")
    found["process start to first doorbell answered, registry looked at"] = (
        middle["ring"],
        middle["peer"],
        "ms",
    )

    idle: list[float] = []
    empty: list[float] = []
    forks: list[float] = []
    runs: list[float] = []
    sizes = (0.0, 0.0)
    for n in range(1 if quick else 3):
        with served(folder, peers, peer=True) as (port, _, _):
            ready(port)
            empty.append(rate(port, lambda _: RING, seconds))
            forks.append(rate(port, lambda _: message("/true"), seconds))
        with served(folder, environ) as (port, pid, _):
            ready(port)
            time.sleep(0.5)
            sizes = memory(pid)
            idle.append(rate(port, lambda _: RING, seconds))
            runs.append(executions(port, registry, seconds, n))
    found["doorbells with nothing to do, 8 clients"] = (
        statistics.median(idle),
        statistics.median(empty),
        "requests/s",
    )
    found["executions of /bin/true, durable, 8 clients"] = (
        statistics.median(runs),
        statistics.median(forks),
        "requests/s",
    )
    found["memory when idle (proportional)"] = (sizes[0], 0.0, "MB")
    found["memory when idle (sum of resident sizes)"] = (sizes[1], 0.0, "MB")
    for name, spent in parts(folder, registry, store, 20 if quick else 200).items():
        found[f"  one by one: {name}"] = (spent, 0.0, "ms")
    return found


if __name__ == "__main__":
    main()
