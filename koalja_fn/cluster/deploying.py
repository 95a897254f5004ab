"""Deploying a circuit: check, pack, install in the registry, apply, wait, prune; and what to send where.

Every step leads to the same end however often it is taken, so whoever is interrupted calls again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from koalja_fn.cluster import applying, deleting, names
from koalja_fn.cluster.client import Cluster
from koalja_fn.cluster.console import open_console, settings_of
from koalja_fn.cluster.imaging import Images
from koalja_fn.cluster.kinds import BROKER, SERVICE, Object, kind_of, title
from koalja_fn.cluster.planning import Plan, plan
from koalja_fn.cluster.rendering import console as console_pod
from koalja_fn.cluster.rendering import left_out, render
from koalja_fn.cluster.settings import Settings
from koalja_fn.cluster.telling import Teller
from koalja_fn.cluster.waiting import Clock, soft
from koalja_fn.errors import ClusterError
from koalja_fn.model import Circuit
from koalja_fn.plain import plain_circuit


@dataclass(frozen=True, slots=True)
class Place:
    """Where to: a cluster, a namespace of it, and that namespace's settings."""

    cluster: Cluster
    namespace: str
    settings: Settings

    @classmethod
    def of(cls, cluster: Cluster, namespace: str) -> Place:
        """The namespace as it was installed.

        Raises:
            NotFound: It was not.
        """
        return cls(cluster, namespace, settings_of(cluster, namespace))


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a deployment came to: what changed in the registry and on the cluster, and where data go in."""

    changes: tuple[dict[str, str], ...]
    plan: Plan
    entry: str

    def to_json(self, circuit: Circuit, images: Images) -> dict[str, Any]:
        """For programs."""
        return {
            "circuit": circuit.name,
            "entry": self.entry,
            "images": dict(images.references),
            "packed": list(images.changed),
            "rewired": list(self.changes),
            "objects": [step.to_json() for step in self.plan.steps],
        }


def plan_of(place: Place, circuit: Circuit, images: Images, teller: Teller) -> Plan:
    """What deploying would change on the cluster."""
    wanted = _wanted(place, circuit, images, teller)
    return plan(place.cluster, place.namespace, circuit.name, wanted)


def deploy(
    place: Place,
    circuit: Circuit,
    wiring: str,
    images: Images,
    teller: Teller,
    *,
    registry: str = "",
    discard: Sequence[str] = (),
    timeout: float = 600.0,
    clock: Clock | None = None,
) -> Deployment:
    """Bring registry and cluster in line with a circuit whose images are pushed.

    `registry` is the registry's address where the caller can reach it; else it is reached from a pod.

    Raises:
        ClusterError: Something is refused or does not get Ready; what is done stays, and the same call
            goes on from there.
        RegistryError: The registry can't be brought in line.
    """
    deleting.await_leaving(place.cluster, place.namespace, circuit.name, teller, timeout, clock)
    wanted = _wanted(place, circuit, images, teller)
    planned = plan(place.cluster, place.namespace, circuit.name, wanted)
    changes = _install(
        place, circuit, wiring, images, teller, registry=registry, discard=discard, clock=clock
    )
    applying.carry_out(place.cluster, place.namespace, planned, timeout=timeout, teller=teller, clock=clock)
    entry = place.cluster.get(SERVICE, place.namespace, names.entry(circuit.name)) or {}
    return Deployment(changes, planned, str((entry.get("status") or {}).get("url") or ""))


def _wanted(place: Place, circuit: Circuit, images: Images, teller: Teller) -> list[Object]:
    """All objects, with the Broker's address where it has one already."""
    for line in left_out(circuit):
        teller.say(f"warning: {line}")
    live = place.cluster.get(BROKER, place.namespace, names.broker(circuit.name))
    wanted = render(
        circuit,
        images.references,
        place.settings,
        images.versions,
        namespace=place.namespace,
        broker=applying.broker_address(live),
    )
    return [item for item in wanted if _served(place, item, teller)]


def _served(place: Place, item: Object, teller: Teller) -> bool:
    """Whether the cluster knows the kind; what a circuit works without is left out where it does not."""
    kind = kind_of(item)
    if not soft(item) or place.cluster.serves(kind, place.namespace):
        return True
    teller.say(f"warning: {title(item)} is left out: the cluster has no {kind.plural} ({kind.version})")
    return False


def _install(
    place: Place,
    circuit: Circuit,
    wiring: str,
    images: Images,
    teller: Teller,
    *,
    registry: str,
    discard: Sequence[str],
    clock: Clock | None,
) -> tuple[dict[str, str], ...]:
    """Bring the registry in line; what changed in the wiring."""
    told = {
        "circuit": plain_circuit(circuit),
        "wiring": wiring,
        "versions": dict(images.versions),
        "discard": list(discard),
    }
    if registry:
        teller.say("the registry is brought in line from here, as KOALJA_REGISTRY is set")
        changes = _install_here(registry, told)
    else:
        image = images.references[names.ENTRY]
        pod = console_pod(circuit.name, image, place.settings, namespace=place.namespace)
        console = open_console(place.cluster, place.namespace, pod, teller, clock)
        ended = console.runtime(["install"], json.dumps(told).encode())
        if ended.status != 0:
            raise ClusterError(
                f"circuit {circuit.name} can't be installed in the registry",
                why=ended.err.decode("utf-8", "replace").strip() or f"exit status {ended.status}",
                cure=f"see whether pods can reach it: koalja-fn doctor --cluster -n {place.namespace}",
            )
        changes = json.loads(ended.out)["changes"]
    for change in changes:
        teller.say(f"{change['task']}: {change['what']} {change['text']}".rstrip())
    return tuple(changes)


def _install_here(address: str, told: dict[str, Any]) -> list[dict[str, str]]:
    """As the runtime's `install` does, from where the caller is."""
    from pathlib import Path

    from koalja_fn.engine.attaching import elsewhere
    from koalja_fn.engine.installing import discard, install
    from koalja_fn.plain import circuit_of
    from koalja_fn.registry import Transaction, connect

    circuit = circuit_of(told["circuit"])
    codes = {
        task.name: elsewhere(task.name, told["versions"][task.name], Path("/")) for task in circuit.tasks
    }
    registry = connect(address)

    def step(tx: Transaction) -> list[dict[str, str]]:
        done = install(tx, registry.clock(), circuit, Path("/"), codes, told["wiring"])
        dropped = [discard(tx, registry.clock(), circuit.name, task) for task in told["discard"]]
        return [{"task": c.task, "what": c.what, "text": c.text} for c in (*done.changes, *dropped)]

    try:
        return registry.transact(step)
    finally:
        registry.close()
