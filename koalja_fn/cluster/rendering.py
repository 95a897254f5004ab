"""A circuit as Kubernetes objects: plain data in the order in which they are applied.

Each kind of object has a module of its own; here they are put together.
"""

from __future__ import annotations

from collections.abc import Mapping

from koalja_fn.cluster import eventing, jobs, names, network, queues, rules, services, sweeping
from koalja_fn.cluster.kinds import Object
from koalja_fn.cluster.place import Deployed, well_known_address
from koalja_fn.cluster.settings import Settings
from koalja_fn.model import Circuit, is_address

ENTRY = names.ENTRY
"""The key of the entry's image among the images."""


def render(
    circuit: Circuit,
    images: Mapping[str, str],
    settings: Settings,
    versions: Mapping[str, str],
    *,
    namespace: str,
    broker: str = "",
) -> list[Object]:
    """All objects of a circuit, in apply order: what is early is needed by what comes later.

    Args:
        circuit: The checked circuit.
        images: For each task, and for "entry", the image's reference, best with its digest.
        settings: The namespace's.
        versions: For each task the digest of its code, as it is installed in the registry.
        namespace: Where the objects go.
        broker: The Broker's address as its status says; without one, the address that is usual for its class.

    Raises:
        UsageError: A name is too long or not free, an image is missing, or a cluster would refuse an object.
    """
    names.check(circuit)
    address = broker or well_known_address(settings, namespace, names.broker(circuit.name))
    place = Deployed(circuit, dict(images), settings, dict(versions), namespace, address)
    objects = [
        *network.policies(place),
        *jobs.authentication(place),
        *queues.authentication(place),
        *eventing.channel(place),
        eventing.broker(place),
        services.entry(place),
        *services.tasks(place),
        *eventing.triggers(place),
        *jobs.tasks(place),
        *queues.pollers(place),
        *sweeping.jobs(place),
        *sweeping.pings(place),
    ]
    rules.check(objects)
    return objects


def console(
    circuit: str, image: str, settings: Settings, *, namespace: str, idle: int | None = None
) -> Object:
    """The Pod in which commands on a circuit are run; it ends itself after `idle` seconds without one."""
    place = Deployed.bare(circuit, {ENTRY: image}, settings, namespace)
    return jobs.console(place, idle)


def left_out(circuit: Circuit) -> list[str]:
    """What of a circuit is not on the cluster, a line for people each."""
    return [
        f"wire {wire.name}: `from = {wire.source}` names files, which a cluster has not: POST values"
        for wire in circuit.wires.values()
        if any(text.strip() and not is_address(text.strip()) for text in (wire.source or "").split(","))
    ] + [
        f"wire {wire.name}: `to = {wire.sink}` names files, which a cluster has not; its values stay here"
        for wire in circuit.wires.values()
        if wire.sink and not is_address(wire.sink)
    ]
