"""What an arrival costs in the snapshot core, by the size of the window: `python benchmarks/core.py`.

The ratio to a plain input is what counts: it must not grow with the window, nor with the windows that
wait. Building the events is not counted.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator

from koalja_fn.snapshots import Arrival, InputSpec, Spec, advance, fresh


def one(name: str, n: int = 1, k: int | None = None) -> InputSpec:
    return InputSpec(name, (name,), n, n, k or n)


CASES = {
    "x": (Spec((one("x"),)), "x"),
    "x[10]": (Spec((one("x", 10),)), "x"),
    "x[10/1]": (Spec((one("x", 10, 1),)), "x"),
    "x[10000/1]": (Spec((one("x", 10_000, 1),)), "x"),
    "x[100000/1]": (Spec((one("x", 100_000, 1),)), "x"),
    "(x, y) all-new, in turn": (Spec((one("x"), one("y"))), "xy"),
    "(x, y) all-new, y never comes": (Spec((one("x"), one("y"))), "x"),
    "(x, y) swap, in turn": (Spec((one("x"), one("y")), "swap"), "xy"),
    "(x + y)[10/1] merged": (Spec((InputSpec("m", ("x", "y"), 10, 10, 1),)), "xy"),
    "(x, y) align, in turn": (Spec((one("x"), one("y")), "align", None, None, 10**9), "xy"),
}


def arrivals(wires: str, count: int) -> Iterator[Arrival]:
    for n in range(count):
        yield Arrival(wires[n % len(wires)], n // len(wires), key=str(n // len(wires)))


def measure(spec: Spec, wires: str, count: int, batch: int) -> float:
    """Nanoseconds for each arrival, once the first window is full; the best of three."""
    full = max(i.most for i in spec.inputs)
    events = list(arrivals(wires, count + full))
    start = fresh(spec, dict.fromkeys(spec.wires, 0))
    start, _ = advance(spec, start, events[:full])
    best = float("inf")
    for _ in range(3):
        state = start
        began = time.perf_counter_ns()
        for at in range(full, len(events), batch):
            state, _ = advance(spec, state, events[at : at + batch])
        best = min(best, (time.perf_counter_ns() - began) / count)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cost = {name: measure(*case, options.count, options.batch) for name, case in CASES.items()}
    figures = {name: {"ns": round(ns), "ratio": round(ns / cost["x"], 2)} for name, ns in cost.items()}
    if options.json:
        print(json.dumps({"count": options.count, "batch": options.batch, "arrivals": figures}, indent=2))
        return
    for name, figure in figures.items():
        print(f"{name:32} {figure['ns']:>7} ns   {figure['ratio']:>5} x")


if __name__ == "__main__":
    main()
