"""Python programs forked from a template, beside a fresh interpreter for each event.

    python benchmarks/warm.py [--quick] [--report FILE]

numpy and pandas are installed into an environment apart. Each round measures, in turn: `subprocess.run`
of the script (what a fork-per-request server does besides HTTP), our call with a cold start, our call with
a fork.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from koalja_fn.program.calling import Caller
from koalja_fn.program.contract import Job
from koalja_fn.program.starting import Start
from koalja_fn.program.warm import Warm
from koalja_fn.store import FileStore

IMPORTS = {"plain": "", "json": "import json\n", "numpy": "import numpy\n", "pandas": "import pandas\n"}
TEXT = "import sys\n{}print(len(open(sys.argv[1]).read()))\n"


def environment(folder: Path) -> str:
    """An interpreter with numpy and pandas, compiled."""
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = str(folder / "venv/bin/python")
    subprocess.run([python, "-m", "pip", "install", "-q", "--compile", "numpy", "pandas"], check=True)
    return python


def cpu(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


class Seen(Warm):
    """Keeps the last start, to wait for its template."""

    last: Start

    def __call__(self, start: Start):  # type: ignore[no-untyped-def]
        self.last = start
        return super().__call__(start)


class Calls:
    """One script in its three ways; each returns seconds and seconds of processor time for an execution."""

    def __init__(self, folder: Path, python: str, name: str) -> None:
        self.script = folder / f"of_{name}.py"
        self.script.write_text(TEXT.format(IMPORTS[name]))
        self.python = python
        self.value = folder / "value"
        self.value.write_text("x" * 1000)
        self.starter = Seen(folder / f"templates-{name}")
        self.store = FileStore(folder / f"objects-{name}")
        self.caller = Caller(self.store, folder / f"scratch-{name}", starter=self.starter)
        self.folder = folder

    def bare(self, count: int) -> tuple[float, float]:
        before, began = cpu(resource.RUSAGE_CHILDREN), time.perf_counter()
        for _ in range(count):
            subprocess.run([self.python, self.script, self.value], check=True, capture_output=True)
        took = time.perf_counter() - began
        return took / count, (cpu(resource.RUSAGE_CHILDREN) - before) / count

    def ours(self, count: int, *, warm: bool) -> tuple[float, float]:
        command = (self.python, str(self.script), str(self.value))
        job = Job("bench", "task", command, self.folder, self.folder, "0" * 64, (), ("out",), warm=warm)
        used, began = 0.0, time.perf_counter()
        for _ in range(count):
            result = self.caller.call(job)
            assert result.ok, result
            used += result.cpu
            self.caller.discard(result)
        return (time.perf_counter() - began) / count, used / count

    def prepare(self) -> None:
        self.ours(2, warm=True)
        why = self.starter.ready(self.starter.last)
        assert why == "", why

    def close(self) -> None:
        self.caller.close()
        self.store.close()


def middle(values: list[float]) -> str:
    return f"{statistics.median(values) * 1000:.1f} ms (spread {(max(values) - min(values)) * 1000:.1f})"


def report(quick: bool) -> list[str]:
    rounds, cold, warm = (2, 3, 30) if quick else (5, 10, 100)
    lines = [
        "| imports | subprocess.run | our call, cold | our call, forked | times faster | processor time |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory(dir=os.environ.get("KOALJA_BENCH_DIR", ".")) as name:
        folder = Path(name).absolute()
        python = environment(folder)
        for what in IMPORTS:
            calls = Calls(folder, python, what)
            calls.bare(2)
            calls.prepare()
            found = [
                (calls.bare(cold), calls.ours(cold, warm=False), calls.ours(warm, warm=True))
                for _ in range(rounds)
            ]
            ratio = statistics.median(bare[0] / fork[0] for bare, _, fork in found)
            share = statistics.median(fork[1] / bare[1] for bare, _, fork in found)
            columns = [middle([row[way][0] for row in found]) for way in range(3)]
            lines.append(f"| {what} | {' | '.join(columns)} | {ratio:.1f} | 1/{1 / share:.1f} |")
            calls.close()
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
