"""`koalja-fn run` and the deployed form give the same values, ids and passports for the examples."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from koalja_fn.local.opening import open_registry, state_folder
from koalja_fn.model import AnnotatedValue, Circuit
from koalja_fn.registry import Registry, tasks, values
from koalja_fn.registry.registry import Transaction
from koalja_fn.story.passport import passport
from tests.runtime.broker import send
from tests.runtime.cluster import Cluster

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run_locally(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "koalja_fn", "run", "--once", "--quiet", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def values_of(registry: Registry, circuit: str) -> dict[str, list[AnnotatedValue]]:
    def look(tx: Transaction) -> dict[str, list[AnnotatedValue]]:
        rows = tasks.wires(tx, tasks.circuit_id(tx, circuit) or 0)
        return {name: values.between(tx, row, 0, 1 << 40) for name, row in sorted(rows.items())}

    return registry.read(look)


def plain(value: AnnotatedValue) -> AnnotatedValue:
    """A value without what depends on when, and on which machine's folder, it was made."""
    return replace(value, arrived=0, created=0 if value.snapshot else value.created)


def told(registry: Registry, value: AnnotatedValue) -> Any:
    """A value's passport without times."""
    return timeless(registry.read(lambda tx: passport(tx, value)))


def timeless(story: Any) -> Any:
    if isinstance(story, dict):
        return {k: timeless(v) for k, v in story.items()}
    return story


def in_order(circuit: Circuit) -> set[str]:
    """Wires whose order is given: every task upstream runs one at a time, and none merges two wires."""
    found = {name for name in circuit.wires if circuit.writer(name) is None}
    while True:
        more = {
            wire
            for task in circuit.tasks
            if task.concurrency == 1
            and all(len(i.wires) == 1 and i.wires[0] in found for i in task.streams)
            for wire in task.output_wires
        }
        if more <= found:
            return found
        found |= more


@pytest.mark.parametrize("example", ["weather", "linecount", "tfmodel"])
def test_an_example_gives_the_same_on_a_cluster_as_on_this_machine(example: str, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "run" / example, tmp_path / "deployed" / example
    for folder in (ours, theirs):
        shutil.copytree(EXAMPLES / example, folder, ignore=shutil.ignore_patterns(".koalja", "outbox"))
    run_locally(ours)
    cluster = Cluster(theirs, tmp_path / "home")
    try:
        registry = open_registry(ours)
        cluster.start()
        here = values_of(registry, cluster.circuit.name)
        feed(cluster, registry, state_folder(ours), here)
        cluster.wait_until_idle()
        with cluster.looking() as (deployed, _):
            there = values_of(deployed, cluster.circuit.name)
            compare(cluster.circuit, (registry, here), (deployed, there))
        assert cluster.findings() == []
        registry.close()
    finally:
        cluster.stop()
