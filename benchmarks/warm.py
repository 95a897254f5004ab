"""Python programs forked from a template, beside a fresh interpreter for each event.

    python benchmarks/warm.py [--quick] [--report FILE]

numpy and pandas are installed into an environment apart. Three measurements, each alternating with its
peer:

- *events*: 1 KB each over HTTP, 8 connections, to `koalja-fn run`, from the first request to the commit of
  the last result, beside a server that starts the script for each request and keeps nothing (forking.py).
  Processor time is that of the server with all that it started.
- *calls*: one after the other, without HTTP and registry: `subprocess.run`, our call with a cold start, our
  call with a fork.
- *chain*: three tasks, one value after the other and many values at once, beside a runner that only starts
  cold Python.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koalja_fn.engine.arriving import Offer
from koalja_fn.local.display import Plain
from koalja_fn.local.session import session_of
from koalja_fn.local.workplace import open_workplace
from koalja_fn.program import running
from koalja_fn.program.calling import Caller
from koalja_fn.program.contract import Job
from koalja_fn.program.starting import Start
from koalja_fn.program.warm import Warm
from koalja_fn.store import FileStore

IMPORTS = {"plain": "", "json": "import json\n", "numpy": "import numpy\n", "pandas": "import pandas\n"}
TEXT = "import sys\n{}print(len((open(sys.argv[1]) if sys.argv[1:] else sys.stdin).read()))\n"
EVENTS = "[bench]\n(in) count (out)\n    run = {python} {script} {{in}}\n    concurrency = 8\n"
CHAIN = "[bench]\n" + "".join(
    f"({one}) {task} ({two})\n    run = {{python}} {{script}} {{{{{one}}}}}\n    warm = {{warm}}\n"
    for one, task, two in [("in", "first", "a"), ("a", "second", "b"), ("b", "third", "out")]
)
CLIENTS = 8
SIZE = 1000
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Spent:
    """Seconds, and seconds of processor time, for one event."""

    wall: float
    cpu: float


def environment(folder: Path) -> str:
    """An interpreter with numpy and pandas, compiled."""
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = str(folder / "venv/bin/python")
    subprocess.run([python, "-m", "pip", "install", "-q", "--compile", "numpy", "pandas"], check=True)
    return python


def write_script(folder: Path, name: str) -> Path:
    script = folder / f"of_{name}.py"
    script.write_text(TEXT.format(IMPORTS[name]))
    return script


# Events over HTTP


def tree_cpu(pid: int) -> float:
    """Processor time of a process, of what it has waited for, and of its children that are there."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICK + sum(tree_cpu(int(child)) for child in children)


def descendants(pid: int) -> list[int]:
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def ask(path: str, port: int, numbers: range) -> None:
    """Post events one after the other on one connection."""
    body = b"x" * SIZE
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reading = connection.makefile("rb")
        for number in numbers:
            head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: text/plain\r\n"
            head += f"ce-specversion: 1.0\r\nce-id: {number}\r\nce-source: /bench\r\nce-type: t\r\n"
            connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % SIZE + body)
            status = reading.readline()
            assert status[9:10] == b"2", status
            length = 0
            while (line := reading.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            reading.read(length)


class Server:
    """A server under load. `done` says how many executions have ended well."""

    def __init__(self, process: subprocess.Popen[str], port: int, path: str, done: Callable[[], int]) -> None:
        self.process = process
        self.port = port
        self.path = path
        self.done = done
        self.sent = 0

    def load(self, count: int) -> Spent:
        """Let so many events through, from eight clients at once."""
        share = -(-count // CLIENTS)
        ranges = [range(self.sent + n * share, self.sent + (n + 1) * share) for n in range(CLIENTS)]
        until, self.sent = self.sent + share * CLIENTS, self.sent + share * CLIENTS
        cpu, began = tree_cpu(self.process.pid), time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(lambda numbers: ask(self.path, self.port, numbers), ranges))
        while self.done() < until:
            assert time.perf_counter() - began < 600, self.done()
            time.sleep(0.005)
        took = time.perf_counter() - began
        return Spent(took / share / CLIENTS, (tree_cpu(self.process.pid) - cpu) / share / CLIENTS)


@contextmanager
def started(command: list[str], **more: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


@contextmanager
def peer(python: str, script: Path) -> Iterator[Server]:
    forking = Path(__file__).with_name("forking.py")
    with started([sys.executable, str(forking), python, str(script)]) as process:
        assert process.stdout is not None
        served = Server(process, int(process.stdout.readline()), "/", lambda: served.sent)
        yield served


@contextmanager
def ours(folder: Path, python: str, script: Path) -> Iterator[Server]:
    (folder / "bench.koalja").write_text(EVENTS.format(python=python, script=script))
    with started([sys.executable, "-m", "koalja_fn", "run", "-q", str(folder)]) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        port = int(line.partition("http://127.0.0.1:")[2].partition(";")[0])
        registry = sqlite3.connect(f"file:{folder}/.koalja/registry.db?mode=ro", uri=True)

        def done() -> int:
            return int(registry.execute("SELECT count(*) FROM snapshot WHERE state = 'done'").fetchone()[0])

        served = Server(process, port, "/bench/in", done)
        served.load(CLIENTS)
        until = time.monotonic() + 60
        while not descendants(process.pid):  # its template
            assert time.monotonic() < until
            time.sleep(0.05)
        yield served
        registry.close()


def events(folder: Path, python: str, quick: bool) -> Iterator[str]:
    """The table of events over HTTP."""
    yield "| imports | fork per request | ours | times faster | processor time, theirs | ours | of theirs |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    counts = {"plain": (160, 400), "numpy": (16, 240), "pandas": (8, 160)}
    for name, (fewer, more) in counts.items():
        place = folder / f"events-{name}"
        place.mkdir()
        script = write_script(place, name)
        with peer(python, script) as theirs, ours(place, python, script) as mine:
            theirs.load(CLIENTS)
            mine.load(more // 2)
            times, rounds = (1, 3) if quick else (4, 5)
            found = [(theirs.load(fewer * times), mine.load(more * times)) for _ in range(rounds)]
        shown = [
            spread([1 / them.wall for them, _ in found], "{:.0f}/s"),
            spread([1 / us.wall for _, us in found], "{:.0f}/s"),
            spread([them.wall / us.wall for them, us in found], "{:.1f}"),
            spread([them.cpu * 1000 for them, _ in found], "{:.1f} ms"),
            spread([us.cpu * 1000 for _, us in found], "{:.1f} ms"),
            f"1/{statistics.median(them.cpu / us.cpu for them, us in found):.1f}",
        ]
        yield f"| {name} | {' | '.join(shown)} |"


# Calls


class Seen(Warm):
    """Keeps the last start, to wait for its template."""

    last: Start

    def __call__(self, start: Start):  # type: ignore[no-untyped-def]
        self.last = start
        return super().__call__(start)


def cpu(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


class Calls:
    """One script in its three ways."""

    def __init__(self, folder: Path, python: str, name: str) -> None:
        self.script = write_script(folder, name)
        self.python = python
        self.value = folder / "value"
        self.value.write_text("x" * SIZE)
        self.starter = Seen(folder / f"templates-{name}")
        self.store = FileStore(folder / f"objects-{name}")
        self.caller = Caller(self.store, folder / f"scratch-{name}", starter=self.starter)
        self.folder = folder

    def bare(self, count: int) -> Spent:
        before, began = cpu(resource.RUSAGE_CHILDREN), time.perf_counter()
        for _ in range(count):
            subprocess.run([self.python, self.script, self.value], check=True, capture_output=True)
        took = time.perf_counter() - began
        return Spent(took / count, (cpu(resource.RUSAGE_CHILDREN) - before) / count)

    def ours(self, count: int, *, warm: bool) -> Spent:
        command = (self.python, str(self.script), str(self.value))
        job = Job("bench", "task", command, self.folder, self.folder, "0" * 64, (), ("out",), warm=warm)
        used, began = 0.0, time.perf_counter()
        for _ in range(count):
            result = self.caller.call(job)
            assert result.ok, result
            used += result.cpu
            self.caller.discard(result)
        return Spent((time.perf_counter() - began) / count, used / count)

    def prepare(self) -> None:
        self.ours(2, warm=True)
        why = self.starter.ready(self.starter.last)
        assert why == "", why

    def close(self) -> None:
        self.caller.close()
        self.store.close()


def calls(folder: Path, python: str, quick: bool) -> Iterator[str]:
    """The table of single calls."""
    yield "| imports | subprocess.run | our call, cold | our call, forked | times faster | CPU of the child |"
    yield "| --- | --- | --- | --- | --- | --- |"
    rounds, cold, warm = (3, 5, 40) if quick else (7, 10, 100)
    for name in IMPORTS:
        one = Calls(folder, python, name)
        one.bare(2)
        one.prepare()
        one.ours(10, warm=True)
        found = [
            (one.bare(cold), one.ours(cold, warm=False), one.ours(warm, warm=True)) for _ in range(rounds)
        ]
        columns = [spread([row[way].wall * 1000 for row in found], "{:.1f} ms") for way in range(3)]
        columns.append(spread([bare.wall / fork.wall for bare, _, fork in found], "{:.1f}"))
        share = statistics.median(bare.cpu / fork.cpu for bare, _, fork in found)
        yield f"| {name} | {' | '.join(columns)} | 1/{share:.1f} |"
        one.close()


# A chain of three tasks


@contextmanager
def programs() -> Iterator[list[float]]:
    """The seconds of each program that is run meanwhile, its start and its end included."""
    seconds: list[float] = []
    run = running.run

    def noted(*arguments: Any, **more: Any) -> running.Ended:
        ended = run(*arguments, **more)
        seconds.append(ended.seconds)
        return ended

    running.run = noted
    try:
        yield seconds
    finally:
        running.run = run


def through(folder: Path, python: str, script: Path, count: int, *, warm: bool) -> tuple[float, float, float]:
    """Seconds for each value: alone, of these outside of the three programs, and where many come at once."""
    place = folder / f"chain-{'warm' if warm else 'cold'}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    text = CHAIN.format(python=python, script=script, warm="yes" if warm else "no")
    (place / "bench.koalja").write_text(text)
    with open_workplace(place) as workplace:
        session = session_of(workplace, Plain(quiet=True), jobs=8)
        session.start()

        def put(numbers: range) -> float:
            began = time.perf_counter()
            session.intake.accept([Offer("in", b"x" * SIZE, "/bench", str(n)) for n in numbers])
            session.engine.wait_until_idle()
            return time.perf_counter() - began

        for n in range(3):
            put(range(n * 10, n * 10 + 10))
        until = time.monotonic() + 60
        while warm and not descendants(os.getpid()):  # one template: it is one program, in one environment
            assert time.monotonic() < until
            time.sleep(0.05)
        with programs() as seconds:
            alone = sum(put(range(n, n + 1)) for n in range(1000, 1000 + count))
        inside = sum(seconds)
        assert len(seconds) == 3 * count
        many = put(range(5000, 5000 + 4 * count))
        session.stop()
    return alone / count, 1 - inside / alone, many / count / 4


def cold_runner(folder: Path, python: str, script: Path, count: int) -> tuple[float, float]:
    """The same from a loop that starts the three programs and keeps nothing: alone, and many at once."""

    def value(number: int) -> None:
        before = folder / f"cold-{number}-in"
        before.write_bytes(b"x" * SIZE)
        for name in ("a", "b", "out"):
            after = folder / f"cold-{number}-{name}"
            with after.open("wb") as out:
                subprocess.run([python, script, before], stdout=out, check=True)
            before = after

    began = time.perf_counter()
    for number in range(count):
        value(number)
    alone = time.perf_counter() - began
    began = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(value, range(4 * count)))
    return alone / count, (time.perf_counter() - began) / count / 4


def chain(folder: Path, python: str, quick: bool) -> Iterator[str]:
    """The table of the chain."""
    script = write_script(folder, "plain")
    count, rounds = (25, 3) if quick else (100, 5)
    found = [
        (
            cold_runner(folder, python, script, count),
            through(folder, python, script, count, warm=False),
            through(folder, python, script, count, warm=True),
        )
        for _ in range(rounds)
    ]
    yield "| three tasks, for each value | cold runner | ours, `warm = no` | ours | times faster |"
    yield "| --- | --- | --- | --- | --- |"
    for what, at, own in (("one value after the other", 0, 0), ("many at once", 1, 2)):
        columns = [
            spread([row[0][at] * 1000 for row in found], "{:.1f} ms"),
            spread([row[1][own] * 1000 for row in found], "{:.1f} ms"),
            spread([row[2][own] * 1000 for row in found], "{:.1f} ms"),
            spread([row[0][at] / row[2][own] for row in found], "{:.1f}"),
        ]
        yield f"| {what} | {' | '.join(columns)} |"
    shares = [spread([100 * row[way][1] for row in found], "{:.0f} %") for way in (1, 2)]
    yield f"| of one value's time, outside of the programs | | {shares[0]} | {shares[1]} | |"


def spread(values: list[float], form: str) -> str:
    """The median, with the lowest and highest of what was found."""
    low, high = form.format(min(values)), form.format(max(values))
    return f"{form.format(statistics.median(values))} ({low} to {high})"


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--only", choices=["events", "calls", "chain"], help="one of the three")
    parser.add_argument("--python", help="an interpreter that has numpy and pandas; by default one is made")
    parser.add_argument("--report", type=Path, help="also write what was found to a file")
    arguments = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each start would compile anew
    lines: list[str] = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("KOALJA_BENCH_DIR", ".")) as name:
        folder = Path(name).absolute()
        python = arguments.python or environment(folder)
        for part in (events, calls, chain):
            if arguments.only in (None, part.__name__):
                for line in part(folder, python, arguments.quick):
                    print(line, flush=True)
                    lines.append(line)
                print(flush=True)
                lines.append("")
    if arguments.report:
        arguments.report.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
