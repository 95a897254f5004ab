"""Circuits that the rendering tests share: the examples, and one with every feature."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from koalja_fn.cluster.rendering import ENTRY, render
from koalja_fn.cluster.settings import Settings
from koalja_fn.model import Circuit
from koalja_fn.program.folder import open_circuit
from koalja_fn.wiring import read

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
NAMES = ("weather", "tfmodel", "linecount", "build", "plant")

PLANT = """\
[plant]
    retries = 2

wire order
    accept = org.example.order, com.shop.*
    type = application/json
wire alarm
    accept = *.alarm
    to = s3://results/alarms/{id}
wire any
    accept = *
    from = sqs://any, sqs://123456789012/more.fifo?region=eu-west-1
wire odd
    accept = a*b?c
    from = https://sqs.us-west-2.amazonaws.com/123456789012/drops, s3://drops/in/*.json

(order[10/2], limits passive) sort (lot)
    run = cat {order}
    policy = swap
    concurrency = 8
    scale = 2
(lot) press (part)
    run = cat {lot}
    mode = job
    concurrency = 3
    timeout = 2h
(part[2-4]) weld (body)
    run = cat {part}
    backlog = 20
    within = 10m
(body) paint (alarm)
    run = cat {body}
    order = strict
    mode = job
    timeout = none
(any + odd) note (notes)
    run = cat {any}
() tick (time)
    run = date
    every = 5m
"""

FULL = {
    "store": "s3://results/koalja",
    "endpoint": "https://s3.example.org",
    "aws-identity": "role",
    "region": "eu-central-1",
    "pull-secret": "registry-login",
    "memory-limit": "2Gi",
    "egress": "10.0.3.0/24:5432, 10.0.4.7",
}
"""Settings of which each is seen in what is rendered."""


@cache
def circuit_of(name: str) -> Circuit:
    """One of NAMES."""
    return wired(PLANT) if name == "plant" else _example(name)


def _example(name: str) -> Circuit:
    opened = open_circuit(EXAMPLES / name)
    assert opened.circuit is not None, opened.findings
    return opened.circuit


def wired(text: str) -> Circuit:
    """The circuit of a wiring."""
    reading = read(text, file="test.koalja", default_name="test")
    assert reading.circuit is not None, reading.findings
    return reading.circuit


def images_of(circuit: Circuit) -> dict[str, str]:
    """An image for each task and for the entry; their digests are made up."""
    keys = [*(task.name for task in circuit.tasks), ENTRY]
    return {
        key: f"ghcr.io/me/{circuit.name}-{key}@sha256:{number:064x}" for number, key in enumerate(keys, 1)
    }


def versions_of(circuit: Circuit) -> dict[str, str]:
    """A version for each task's code, made up."""
    return {task.name: f"sha256:{number:064x}" for number, task in enumerate(circuit.tasks, 1000)}


def objects_of(
    circuit: Circuit, settings: Mapping[str, str] | None = None, namespace: str = "plants"
) -> list[dict[str, Any]]:
    """The circuit's objects, by default with few settings."""
    chosen = Settings.of({"store": "s3://results/koalja", **(settings or {})})
    return render(circuit, images_of(circuit), chosen, versions_of(circuit), namespace=namespace)


def of_kind(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    """The objects of a kind by their names."""
    return {one["metadata"]["name"]: one for one in objects if one["kind"] == kind}
