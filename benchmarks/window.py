"""What a value costs in a long sliding window, beside a plain input: the whole way but for the programs.

    python benchmarks/window.py [--quick] [--json]

100,000 values go into `in[10000/1]` and into `in`: each arrives, forms a snapshot, which is claimed and
completed with an output on a wire, in batches of 100, through the engine's own steps. The registry and the
payloads lie in memory, so that no disk is waited for. Exit status 1 if a value of the window costs more than
twice a plain one.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from growth import Bench

from koalja_fn.local.workplace import open_workplace

GOAL = 2.0
WIDTH = 10_000
WIRING = "[growth]\n({input}) task (out)\n    run = /bin/true\n    concurrency = 100\n"


def measure(window: str, values: int, before: int) -> dict[str, float]:
    """Seconds, µs of processor time for each value, and peak memory in MB; `before` fill the window first."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=memory if memory.is_dir() else None))
    (folder / "growth.koalja").write_text(WIRING.replace("{input}", window))
    try:
        with open_workplace(folder) as workplace:
            bench = Bench(workplace)
            bench.events(before)
            wall, cpu = time.perf_counter(), time.process_time()
            bench.events(values)
            done = time.process_time() - cpu
            return {
                "seconds": time.perf_counter() - wall,
                "each": done / values * 1e6,
                "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="10,000 values, in[1000/1]")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    values, width = (10_000, WIDTH // 10) if options.quick else (100_000, WIDTH)
    plain = measure("in", values, width)
    window = measure(f"in[{width}/1]", values, width)
    found: dict[str, Any] = {"plain": plain, "window": window, "ratio": window["each"] / plain["each"]}
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print(f"| {values:,} values | `in` | `in[{width}/1]` | ratio | at most |")
        print("| --- | --- | --- | --- | --- |")
        ratio = window["seconds"] / plain["seconds"]
        print(f"| seconds | {plain['seconds']:.1f} | {window['seconds']:.1f} | {ratio:.2f} | {GOAL} |")
        print(
            f"| processor time of a value, µs | {plain['each']:.0f} | {window['each']:.0f} |"
            f" {found['ratio']:.2f} | {GOAL} |"
        )
        print(f"| peak memory, MB | {plain['peak']:.0f} | {window['peak']:.0f} | | |")
    sys.exit(0 if found["ratio"] <= GOAL else 1)


if __name__ == "__main__":
    main()
