"""What a circuit's pods may reach, where the settings say which addresses are wanted.

A program of a user's then reaches neither a cloud's metadata address nor other people's services. Whether a
NetworkPolicy is kept to is up to the cluster's network.
"""

from __future__ import annotations

from typing import Any

from koalja_fn.cluster import names
from koalja_fn.cluster.kinds import LABEL_CIRCUIT, LABEL_MANAGER, LABEL_PART, MANAGER, Object
from koalja_fn.cluster.place import Deployed
from koalja_fn.cluster.settings import reach

_DNS = 53
_NAMESPACE = "kubernetes.io/metadata.name"
_EVENTING = "knative-eventing"
# Whoever asks a service gets there by the activator, or by the gateway of the network layer.
_GATEWAYS = ("knative-serving", "kourier-system", "istio-system", "contour-internal")


def policies(place: Deployed) -> list[Object]:
    """The policies for all pods of the circuit and for its console; none where no addresses are named."""
    ranges = reach(place.settings.egress)
    if not ranges:
        return []
    reached = (_EVENTING, *(_GATEWAYS if place.offering else ()))
    selected = {LABEL_MANAGER: MANAGER, LABEL_CIRCUIT: place.circuit.name}
    allowed = [
        {"ports": [{"protocol": way, "port": _DNS} for way in ("UDP", "TCP")]},
        {"to": [_of_namespace(one) for one in reached]},
        {"to": [{"podSelector": {}}]},
        *(_range(*one) for one in ranges),
    ]
    # The console sends values to the entry, and asks the tasks for `make`; no program of a user's runs in it.
    asking: list[Any] = [{"to": [_of_namespace(one) for one in _GATEWAYS]}]
    return [
        _policy(place, names.egress(place.circuit.name), selected, allowed),
        _policy(place, names.reach(place.circuit.name), selected | {LABEL_PART: names.CONSOLE}, asking),
    ]


def _policy(place: Deployed, name: str, selected: dict[str, str], allowed: list[Any]) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": place.metadata(name, "network"),
        "spec": {
            "podSelector": {"matchLabels": selected},
            "policyTypes": ["Egress"],
            "egress": allowed,
        },
    }


def _of_namespace(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {_NAMESPACE: name}}}


def _range(network: str, port: int | None) -> dict[str, Any]:
    rule: dict[str, Any] = {"to": [{"ipBlock": {"cidr": network}}]}
    return rule if port is None else rule | {"ports": [{"protocol": "TCP", "port": port}]}
