"""`make` on a cluster, from outside: where a circuit's tasks are asked, and which images they have."""

from __future__ import annotations

from typing import Any

from koalja_fn.cluster.client import Cluster
from koalja_fn.cluster.kinds import LABEL_PART, LABEL_TASK, SERVICE, of_circuit

_RUNG = "task"


def places_of(cluster: Cluster, namespace: str, circuit: str) -> dict[str, dict[str, Any]]:
    """For each task that is rung its `address` inside the cluster and its `image`, which has its digest."""
    found = {}
    for service in cluster.list(SERVICE, namespace, of_circuit(circuit) | {LABEL_PART: _RUNG}):
        address = ((service.get("status") or {}).get("address") or {}).get("url")
        if address:
            image = service["spec"]["template"]["spec"]["containers"][0]["image"]
            task = str(service["metadata"]["labels"][LABEL_TASK])
            found[task] = {"address": str(address), "image": str(image).rpartition("@")[2]}
    return found
