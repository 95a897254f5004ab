"""Circuits with made-up images, and deploying them as `koalja-fn deploy` does behind the packing.

As a program: `python -m tests.cluster.applying.circuits REGISTRY WIRING`, for tests that interrupt it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from koalja_fn.cluster.client import Cluster
from koalja_fn.cluster.deploying import Deployment, Place, deploy
from koalja_fn.cluster.imaging import Images
from koalja_fn.cluster.kube import connect
from koalja_fn.cluster.settings import Settings
from koalja_fn.cluster.telling import Plain, Teller
from koalja_fn.cluster.waiting import Clock
from koalja_fn.model import Circuit
from koalja_fn.wiring import read

THREE = """\
[weather]
(wind) average (mean)
    run = cat {wind}
(mean) plot (picture)
    run = cat {mean}
(mean) alarm (warning)
    run = cat {mean}
"""
TWO = """\
[weather]
(wind) average (mean)
    run = cat {wind}
"""
SETTINGS = Settings(store="s3://bucket/prefix", images="registry.example/me")


def circuit_of(wiring: str) -> Circuit:
    found = read(wiring, file="weather.koalja", default_name="weather").circuit
    assert found is not None
    return found


def images_of(circuit: Circuit, digit: str = "1") -> Images:
    names = [*(task.name for task in circuit.tasks), "entry"]
    references = {name: f"registry.example/me/{circuit.name}-{name}@sha256:{digit * 64}" for name in names}
    return Images(references, {task.name: f"sha256:{digit * 64}" for task in circuit.tasks}, ())


def deployed(
    cluster: Cluster,
    registry: Path,
    wiring: str,
    teller: Teller,
    *,
    digit: str = "1",
    clock: Clock | None = None,
) -> Deployment:
    circuit = circuit_of(wiring)
    place = Place(cluster, "there", SETTINGS)
    images = images_of(circuit, digit)
    return deploy(place, circuit, wiring, images, teller, registry=str(registry), timeout=60, clock=clock)


if __name__ == "__main__":
    deployed(connect(), Path(sys.argv[1]), sys.argv[2], Plain())
