"""Speed of a circuit on one machine, each figure beside a peer measured in the same run.

    python benchmarks/local.py [--quick] [--report FILE]

The peers need nothing but Python: `subprocess.run` from threads, a fresh interpreter. Runs alternate; medians
are given with their spread.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from koalja_fn.engine.arriving import Offer
from koalja_fn.engine.forming import form
from koalja_fn.local.display import Plain
from koalja_fn.local.serving import Server, entry
from koalja_fn.local.session import session_of
from koalja_fn.local.workplace import open_workplace

TRUE = "[bench]\n(in) task ()\n    run = /bin/true\n    concurrency = 8\n"
WINDOW = "[bench]\n(in[1000000]) task ()\n    run = /bin/true\n"


def folder_with(wiring: str) -> Path:
    """A fresh folder with a circuit, on the disk that we stand on."""
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=os.environ.get("KOALJA_BENCH_DIR", ".")))
    (folder / "bench.koalja").write_text(wiring)
    return folder


def executions(count: int) -> tuple[float, float]:
    """Seconds for `count` durable executions of /bin/true, and fsyncs for each."""
    folder = folder_with(TRUE)
    try:
        with open_workplace(folder) as workplace:
            session = session_of(workplace, Plain(quiet=True), jobs=8)
            session.intake.accept([Offer("in", b"x", "/bench", str(n)) for n in range(count)])
            commits = workplace.registry.commits
            begin = time.perf_counter()
            session.start()
            session.engine.wait_until_idle()
            seconds = time.perf_counter() - begin
            commits = workplace.registry.commits - commits
            session.stop()
            assert session.executed == count
            return seconds, commits / count
    finally:
        shutil.rmtree(folder)


def bare(count: int) -> float:
    """Seconds for the same from eight threads with subprocess.run, nothing kept.

    With an argument, as ours: `true` reads a locale then, which takes it a third of its time.
    """
    begin = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: subprocess.run(["/bin/true", "in.0001.bin"], check=True), range(count)))
    return time.perf_counter() - begin


def arrivals(count: int, batch: int) -> float:
    """Values a second, durable, posted over HTTP in batches by one client; none forms a snapshot."""
    folder = folder_with(WINDOW)
    try:
        with open_workplace(folder) as workplace:
            session = session_of(workplace, Plain(quiet=True), jobs=8)
            session.start()
            server = Server(
                entry(session.intake, spool=workplace.state / "spool"), spool=workplace.state / "spool"
            )
            server.start()
            payload = "x" * 1000
            bodies = [
                json.dumps(
                    [
                        {
                            "specversion": "1.0",
                            "id": str(n + k),
                            "source": "/bench",
                            "type": "t",
                            "data": payload,
                        }
                        for k in range(batch)
                    ]
                ).encode()
                for n in range(0, count, batch)
            ]
            headers = {"Content-Type": "application/cloudevents-batch+json"}

            def post(body: bytes) -> None:
                request = urllib.request.Request(f"{server.url}/bench/in", body, headers)
                urllib.request.urlopen(request).read()

            begin = time.perf_counter()
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(post, bodies))
            session.engine.wait_until_idle()
            seconds = time.perf_counter() - begin
            server.drain()
            session.stop()
            assert session.totals()["in"] == count
            return count / seconds
    finally:
        shutil.rmtree(folder)


def memory(count: int) -> tuple[float, float]:
    """Peak memory in MB after a tenth of the values and after all of them."""
    folder = folder_with("[bench]\n(in[10000/1]) task ()\n    run = /bin/true\n")
    try:
        with open_workplace(folder) as workplace:
            intake = workplace.intake()
            plan = workplace.plan.tasks["task"]
            peaks = []
            for begin in range(0, count, 500):
                intake.accept([Offer("in", b"%d" % n, "/bench", str(n)) for n in range(begin, begin + 500)])
                workplace.registry.transact(lambda tx: form(tx, workplace.registry.clock, plan))
                if begin + 500 in (count // 10, count):
                    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            return peaks[0], peaks[1]
    finally:
        shutil.rmtree(folder)


def command(*arguments: str) -> float:
    """Seconds for one call of the command."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "koalja_fn", *arguments], check=True, capture_output=True)
    return time.perf_counter() - begin


def interpreter() -> float:
    """Seconds for an interpreter that does nothing."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - begin


def large_circuit(folder: Path, count: int) -> Path:
    """A chain of tasks with four attributes each."""
    text = ["[large]"]
    for n in range(count):
        text.append(f"(w{n}[10/2]) task-{n} (w{n + 1})\n    run = cat {{w{n}}}\n    retries = 2")
        text.append("    backoff = 100ms\n    timeout = 5s")
    path = folder / "large.koalja"
    path.write_text("\n".join(text) + "\n")
    return path


def median(measure: Callable[[], float], times: int) -> tuple[float, float]:
    """Median and spread (largest less smallest) of some measurements."""
    found = [measure() for _ in range(times)]
    return statistics.median(found), max(found) - min(found)


def report(quick: bool) -> list[str]:
    """The lines of the report."""
    count, times = (200, 1) if quick else (1000, 5)
    lines = ["| what | ours | peer | ratio or goal |", "| --- | --- | --- | --- |"]
    bare(50), executions(50)
    pairs = [(executions(count), bare(count)) for _ in range(times)]
    ours = statistics.median(pair[0][0] for pair in pairs)
    peer = statistics.median(pair[1] for pair in pairs)
    ratio = statistics.median(pair[0][0] / pair[1] for pair in pairs)
    spread = max(p[0][0] / p[1] for p in pairs) - min(p[0][0] / p[1] for p in pairs)
    lines.append(
        f"| {count} durable executions of /bin/true, concurrency 8; peer: subprocess.run, 8 threads |"
        f" {ours:.2f} s | {peer:.2f} s | {ratio:.2f} (spread {spread:.2f}; goal at most 2) |"
    )
    lines.append(
        f"| fsyncs for each of these executions | {statistics.median(p[0][1] for p in pairs):.2f} | 0 | |"
    )
    rate, rate_spread = median(lambda: arrivals(count * 10, 100), times)
    lines.append(
        "| arrivals of 1 KB a second, durable, HTTP batches of 100 |"
        f" {rate:,.0f}/s (spread {rate_spread:,.0f}) | |"
        " goal at least 5,000/s |"
    )
    many = 10_000 if quick else 100_000
    early, late = memory(many)
    lines.append(
        f"| peak memory after a tenth / all of {many:,} values, window 10,000 by 1 |"
        f" {early:.0f} / {late:.0f} MB | | {late / early:.2f} |"
    )
    help_time, empty = median(lambda: command("--help"), 9)[0], median(interpreter, 9)[0]
    lines.append(
        f"| `koalja-fn --help`; peer: an interpreter that does nothing | {help_time * 1000:.0f} ms |"
        f" {empty * 1000:.0f} ms | goal under 150 ms |"
    )
    folder = Path(tempfile.mkdtemp())
    path = large_circuit(folder, 1000)
    check_time, check_spread = median(lambda: command("check", str(path)), times)
    shutil.rmtree(folder)
    lines.append(
        f"| `check` of a circuit of 1,000 tasks | {check_time:.2f} s (spread {check_spread:.2f}) | |"
        " goal under 1 s |"
    )
    return lines


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    text = "\n".join(report(arguments.quick)) + "\n"
    print(text)
    if arguments.report:
        arguments.report.write_text(text)


if __name__ == "__main__":
    main()
