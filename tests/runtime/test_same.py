"""`koalja-fn run` and the deployed form give the same values, ids and passports for the examples.

Both get the same events in the same order. Where every task upstream runs one at a time on one wire, or on
wires whose values pair one by one, the values are compared as sequences, else as sets.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from koalja_fn.local.opening import state_folder
from koalja_fn.model import AnnotatedValue, Circuit, Policy
from koalja_fn.registry import Registry, connect, standing, tasks, values
from koalja_fn.registry.registry import Transaction
from koalja_fn.story.backward import backward
from koalja_fn.story.passport import Limits
from tests.runtime.broker import send
from tests.runtime.cluster import Cluster, wait_for

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
# Which arrival was the last one that a snapshot waited for is chance, as times are.
TIMES = {
    "arrived",
    "formed",
    "finished",
    "started",
    "ended",
    "seconds",
    "at",
    "earliest",
    "latest",
    "remarks",
    "cause",
}
PLACES = {"position", "number", "runs", "first", "last"}


@dataclass(frozen=True)
class Example:
    """An example, and which of its files go to which wire; `apart` waits between wires, which merge later."""

    name: str
    files: tuple[tuple[str, str], ...]
    apart: bool = False


# Not tfmodel: the deployed form starts no services yet.
ALL = [
    Example("weather", (("day", "inbox/*.csv"),)),
    Example("linecount", (("novel", "books/alice.txt"), ("play", "books/as-*.txt")), apart=True),
]


@pytest.mark.parametrize("example", ALL, ids=lambda example: example.name)
def test_an_example_gives_the_same_deployed_as_run(example: Example, tmp_path: Path) -> None:
    with locally(copied(example, tmp_path / "run")) as (url, registry):
        feed(example, url, lambda: idle(registry))
        idle(registry)
        cluster = Cluster(copied(example, tmp_path / "deployed"), tmp_path / "home")
        try:
            cluster.start()
            feed(example, cluster.entry, cluster.wait_until_idle)
            cluster.wait_until_idle()
            with cluster.looking() as (deployed, _):
                compare(cluster.circuit, registry, deployed)
            assert cluster.findings() == []
        finally:
            cluster.stop()


def copied(example: Example, home: Path) -> Path:
    """The example's circuit and programs, without the files that would come in by themselves."""
    left_out = shutil.ignore_patterns(".koalja", "outbox", "inbox", "books", "lessons")
    return Path(shutil.copytree(EXAMPLES / example.name, home / example.name, ignore=left_out))


@contextmanager
def locally(folder: Path) -> Iterator[tuple[str, Registry]]:
    """The example under `koalja-fn run`; its address and its registry."""
    command = [sys.executable, "-m", "koalja_fn", "run", "--quiet", str(folder)]
    with open(folder.with_suffix(".log"), "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        note = state_folder(folder) / "run.json"
        wait_for(note.exists, what="listening")
        registry = connect(state_folder(folder) / "registry.db")
        yield json.loads(note.read_text())["url"], registry
        registry.close()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def feed(example: Example, url: str, wait: Callable[[], None]) -> None:
    """Send the example's files as events, in order of their names."""
    for wire, pattern in example.files:
        for path in sorted((EXAMPLES / example.name).glob(pattern)):
            headers = {
                "ce-specversion": "1.0",
                "ce-id": path.name,
                "ce-source": "/examples",
                "ce-type": "com.example.file",
                "ce-time": "2026-01-01T00:00:00Z",
                "ce-koaljaname": path.name,
            }
            assert send(f"{url}/{example.name}/{wire}", path.read_bytes(), headers)[0] == 202
        if example.apart:
            wait()


def idle(registry: Registry) -> None:
    def nothing_left() -> bool:
        found = registry.read(lambda tx: standing.of_circuit(tx, 1))
        return not any(s.unread or s.running or s.startable is not None for s in found)

    wait_for(nothing_left, 60)


def compare(circuit: Circuit, here: Registry, there: Registry) -> None:
    ordered = in_order(circuit)
    ours, theirs = values_of(here, circuit.name), values_of(there, circuit.name)
    assert sum(map(len, ours.values())) > 10
    for wire in ours:
        assert [v.created for v in ours[wire] if not v.snapshot] == [
            v.created for v in theirs[wire] if not v.snapshot
        ]
        mine = {v.id: told(here, v, ordered) for v in ours[wire]}
        other = {v.id: told(there, v, ordered) for v in theirs[wire]}
        if wire in ordered:
            assert list(mine) == list(other), wire
        assert mine == other, wire


def values_of(registry: Registry, circuit: str) -> dict[str, list[AnnotatedValue]]:
    def look(tx: Transaction) -> dict[str, list[AnnotatedValue]]:
        rows = tasks.wires(tx, tasks.circuit_id(tx, circuit) or 0)
        return {name: values.between(tx, row, 0, 1 << 40) for name, row in sorted(rows.items())}

    return registry.read(look)


def told(registry: Registry, value: AnnotatedValue, ordered: set[str]) -> Any:
    """A value's whole passport as the command tells it, without times and what chance gives."""
    passport = registry.read(lambda tx: backward(tx, value.id, Limits(None, None, None)))
    assert passport is not None
    dropped = TIMES if {stop.value.wire for stop in passport.stops.values()} <= ordered else TIMES | PLACES
    story = without(passport.to_json(), dropped)
    for part in ("values", "snapshots"):
        story[part].sort(key=lambda one: one["id"])
    return story


def without(data: Any, names: set[str]) -> Any:
    if isinstance(data, dict):
        made = "snapshot" in data and data["snapshot"]
        dropped = names | {"created"} if made else names
        return {k: without(v, names) for k, v in data.items() if k not in dropped}
    if isinstance(data, list):
        return [without(one, names) for one in data]
    return data


def in_order(circuit: Circuit) -> set[str]:
    """Wires whose order chance has no part in."""
    found = {name for name in circuit.wires if circuit.writer(name) is None}
    while True:
        more = {
            wire
            for task in circuit.tasks
            if task.concurrency == 1
            and task.policy is Policy.ALL_NEW
            and sum(not i.passive for i in task.streams) == 1
            and all(len(i.wires) == 1 and i.wires[0] in found for i in task.streams)
            for wire in task.output_wires
        }
        if more <= found:
            return found
        found |= more
