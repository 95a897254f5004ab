"""Events into a circuit over HTTP, beside two function frameworks for Python that keep nothing.

    python benchmarks/ingress.py [--quick] [--report FILE] [--peers FOLDER]

1 KB events in binary mode over 8 connections that are kept, from two processes of `load.py`. Ours are
durable before they are answered (payload and annotation, with fsync): `koalja-fn run`, and the runtime in
the role of a circuit's entry over SQLite and files. No window is completed, so no program runs; the engine
of `run` forms all the same. The peers read the event and answer. They are installed from PyPI into
environments of their own (below --peers, if they shall be kept). Runs alternate; medians with their spread.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from load import Load, posted

WIRING = "[bench]\n(in[1000000]) task ()\n    run = /bin/true\n"
FRAMEWORK = """
import functions_framework

@functions_framework.cloud_event
def take(event):
    event.data
"""
FUNC = """
from func_python.cloudevent import serve

class Function:
    async def handle(self, scope, receive, send):
        scope["event"].get_data()
        headers = [[b"content-length", b"0"]]
        await send.http({"type": "http.response.start", "status": 202, "headers": headers})
        await send.http({"type": "http.response.body", "body": b""})

def new():
    return Function()

serve(new)
"""
# What the load generator itself can do, against a server that only answers.
TRIVIAL = """
import os, selectors, socket
listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
waiting = selectors.DefaultSelector()
waiting.register(listener, selectors.EVENT_READ)
while True:
    for key, _ in waiting.select():
        if key.fileobj is listener:
            waiting.register(listener.accept()[0], selectors.EVENT_READ)
            continue
        try:
            if key.fileobj.recv(65536):
                key.fileobj.sendall(b"HTTP/1.1 202 Accepted\\r\\nContent-Length: 0\\r\\n\\r\\n")
                continue
        except OSError:
            pass
        waiting.unregister(key.fileobj)
        key.fileobj.close()
"""


class Peers:
    """The peers, installed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "framework.py").write_text(FRAMEWORK)
        (folder / "function.py").write_text(FUNC)
        (folder / "trivial.py").write_text(TRIVIAL)
        for name in ("functions-framework", "func-python"):
            if not (folder / name / "bin").is_dir():
                subprocess.run([sys.executable, "-m", "venv", folder / name], check=True)
                python = folder / name / "bin/python"
                subprocess.run([python, "-m", "pip", "install", "-q", "--compile", name], check=True)

    def framework(self, port: int) -> list[str]:
        """The command that serves by functions-framework."""
        program = str(self._folder / "functions-framework/bin/functions-framework")
        source = str(self._folder / "framework.py")
        told = ["--target", "take", "--signature-type", "cloudevent", "--source", source]
        return [program, *told, "--host", "127.0.0.1", "--port", str(port)]

    def function(self, _: int) -> list[str]:
        """The command that serves by func-python."""
        return [str(self._folder / "func-python/bin/python"), str(self._folder / "function.py")]

    def trivial(self, _: int) -> list[str]:
        """The command that serves next to nothing."""
        return [sys.executable, str(self._folder / "trivial.py")]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def served(command: list[str], port: int, log: Path, environ: Mapping[str, str]) -> Iterator[int]:
    """A server that answers at `port`; its process."""
    variables = {"PATH": os.environ["PATH"], "HOME": str(log.parent), "PORT": str(port), **environ}
    variables["LISTEN_ADDRESS"] = f"127.0.0.1:{port}"
    with open(log, "ab") as said:
        process = subprocess.Popen(command, cwd=log.parent, env=variables, stdout=said, stderr=said)
    try:
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < until, "it does not listen"
            time.sleep(0.02)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        if process.poll() is None:
            process.kill()
            process.wait()


def cpu_of(pid: int) -> float:
    """Seconds of processor time of a process and its children."""
    total = 0.0
    for one in (pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


class Bench:
    """One way in after the other."""

    def __init__(self, home: Path, peers: Path, seconds: float) -> None:
        self._home, self._seconds = home, seconds
        self._peers = Peers(peers)
        self._number = 0
        self.ways = {
            "a server that only answers": self._trivial,
            "functions-framework": self._framework,
            "func-python": self._function,
            "koalja-fn run": self._run,
            "runtime, role entry": self._entry,
        }

    def _trivial(self) -> tuple[Load, float]:
        port = free_port()
        return self._measured(self._peers.trivial(port), port, "/")

    def _framework(self) -> tuple[Load, float]:
        port = free_port()
        return self._measured(self._peers.framework(port), port, "/")

    def _function(self) -> tuple[Load, float]:
        port = free_port()
        return self._measured(self._peers.function(port), port, "/")

    def _run(self) -> tuple[Load, float]:
        folder, port = self._folder(), free_port()
        command = [sys.executable, "-m", "koalja_fn", "run", "-q", str(folder), "--port", str(port)]
        found = self._measured(command, port, "/bench/in")
        self._check(folder, found[0])
        return found

    def _entry(self) -> tuple[Load, float]:
        from koalja_fn.local.workplace import open_workplace

        folder, port = self._folder(), free_port()
        with open_workplace(folder):  # wires it up
            pass
        environ = {
            "KOALJA_ROLE": "entry",
            "KOALJA_CIRCUIT": "bench",
            "KOALJA_REGISTRY": f"sqlite:{folder / '.koalja/registry.db'}",
            "KOALJA_STORE": f"file:{folder / '.koalja/objects'}",
            "KOALJA_SCRATCH": str(folder / "scratch"),
            "KOALJA_HOST": "127.0.0.1",
        }
        main = Path(__file__).resolve().parents[1] / "runtime/koalja_runtime/__main__.py"
        found = self._measured([sys.executable, str(main)], port, "/bench/in", environ)
        self._check(folder, found[0])
        return found

    def _folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="circuit-", dir=self._home))
        (folder / "bench.koalja").write_text(WIRING)
        return folder

    def _check(self, folder: Path, load: Load) -> None:
        """All that was answered is there."""
        from koalja_fn.registry import connect

        registry = connect(folder / ".koalja/registry.db")
        row = registry.read(lambda tx: tx.one("SELECT count(*) FROM value"))
        registry.close()
        assert row is not None
        assert row[0] >= len(load.latencies), (row, len(load.latencies))
        shutil.rmtree(folder)

    def _measured(
        self, command: list[str], port: int, path: str, environ: Mapping[str, str] | None = None
    ) -> tuple[Load, float]:
        """What the clients saw, and microseconds of the server's processor time for each event."""
        with served(command, port, self._home / "log", environ or {}) as pid:
            self._number += 1_000_000_000
            posted(port, path, seconds=0.5, first=self._number + 500_000_000)
            before = cpu_of(pid)
            load = posted(port, path, seconds=self._seconds, first=self._number)
            spent = cpu_of(pid) - before
        assert not load.wrong, (command, load.wrong)
        return load, spent / self._seconds / load.rate * 1e6


def report(quick: bool, peers: Path | None) -> list[str]:
    """The lines of the report."""
    rounds, seconds = (2, 2.0) if quick else (5, 5.0)
    home = Path(tempfile.mkdtemp(prefix="bench-", dir=os.environ.get("KOALJA_BENCH_DIR", "."))).absolute()
    try:
        bench = Bench(home, (peers or home / "peers").absolute(), seconds)
        found: dict[str, list[tuple[Load, float]]] = {name: [] for name in bench.ways}
        for _ in range(rounds):
            for name, way in bench.ways.items():
                found[name].append(way())
    finally:
        shutil.rmtree(home)
    lines = [
        "| 1 KB events, 8 connections | a second | spread | median | 99 % within | CPU for each |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, runs in found.items():
        rates = [load.rate for load, _ in runs]
        middle = [statistics.median(load.percentile(share) for load, _ in runs) for share in (0.5, 0.99)]
        lines.append(
            f"| {name} | {statistics.median(rates):,.0f} | {max(rates) - min(rates):,.0f} |"
            f" {middle[0]:.2f} ms | {middle[1]:.2f} ms | {statistics.median(cpu for _, cpu in runs):.0f} µs |"
        )
    lines += ["", "| ours, durable, against | goal | run | entry |", "| --- | --- | --- | --- |"]
    for peer, goal in (("functions-framework", 3.0), ("func-python", 1.5)):
        columns = [f"| {peer} | {goal:g} "]
        for ours in ("koalja-fn run", "runtime, role entry"):
            pairs = zip(found[ours], found[peer], strict=True)
            ratio = statistics.median(mine.rate / other.rate for (mine, _), (other, _) in pairs)
            columns.append(f"| {ratio:.2f}{'' if ratio >= goal else ' MISSED'} ")
        lines.append("".join(columns) + "|")
    return lines


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument("--report", type=Path)
    parser.add_argument("--peers", type=Path, help="where the peers' environments are kept")
    arguments = parser.parse_args()
    text = "\n".join(report(arguments.quick, arguments.peers)) + "\n"
    print(text)
    if arguments.report:
        arguments.report.write_text(text)


if __name__ == "__main__":
    main()
