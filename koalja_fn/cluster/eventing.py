"""What carries doorbells: the circuit's Broker, the channel below it, and a Trigger for each who listens.

A doorbell that is lost is found by the sweep, so neither has to be durable. What matters is that ringing does
not wait: a Broker over the in-memory channel holds the sender until every receiver has answered, unless its
channel was made with the asynchronous handler before the Broker (facts of a real cluster, 0.1 and 0.3).
"""

from __future__ import annotations

import fnmatch
from typing import Any

from koalja_fn.cluster import names
from koalja_fn.cluster.kinds import Object
from koalja_fn.cluster.place import Deployed, entry_reference, service_reference
from koalja_fn.engine.ringing import RING_TYPE
from koalja_fn.errors import UsageError
from koalja_fn.events.values import VALUE_TYPE, armour
from koalja_fn.model import is_address

_BROKER_CLASS = "eventing.knative.dev/broker.class"

_WHOLE_TYPES_ONLY = "RabbitMQBroker"

# The channel's has to be the Broker's: else the Broker patches it, and the annotation is gone.
_BROKER_DELIVERY = {"retry": 10, "backoffPolicy": "exponential", "backoffDelay": "PT0.2S"}
# At 0, 1, 3, 7, 15 and 31 s: a doorbell that nobody hears then is left to the sweep.
_RING_RETRIES = 5
# For a quarter of an hour: until the entry has it, a foreign event is nowhere but in the Broker.
_FOREIGN_RETRIES = 10


def channel(place: Deployed) -> list[Object]:
    """The channel that the circuit's Broker finds when it looks for its own; for the in-memory one only."""
    if not place.settings.in_memory:
        return []
    name = names.channel(place.circuit.name)
    metadata = place.metadata(
        name,
        "broker",
        annotations={
            "eventing.knative.dev/scope": "cluster",
            "messaging.knative.dev/async-handler": "true",
        },
    )
    metadata["labels"] |= {
        "eventing.knative.dev/broker": names.broker(place.circuit.name),
        "eventing.knative.dev/brokerEverything": "true",
    }
    return [
        {
            "apiVersion": "messaging.knative.dev/v1",
            "kind": "InMemoryChannel",
            "metadata": metadata,
            "spec": {"delivery": dict(_BROKER_DELIVERY)},
        }
    ]


def broker(place: Deployed) -> Object:
    """The circuit's Broker. Its class can't be changed: another one takes a new Broker."""
    settings = place.settings
    spec: dict[str, Any] = {"delivery": dict(_BROKER_DELIVERY)}
    if settings.broker_config:
        spec = {"config": _configuration(settings.broker_class, settings.broker_config), **spec}
    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Broker",
        "metadata": place.metadata(
            names.broker(place.circuit.name), "broker", annotations={_BROKER_CLASS: settings.broker_class}
        ),
        "spec": spec,
    }


def triggers(place: Deployed) -> list[Object]:
    """Who is told of what: each task of its wires and of its own rings, the entry of the rest."""
    return [*_links(place), *_own_rings(place), *_accepted(place), *_written(place)]


def _links(place: Deployed) -> list[Object]:
    circuit = place.circuit.name
    found = []
    for task in place.rung:
        subscriber = {"ref": service_reference(place, names.task(circuit, task.name))}
        for wire in dict.fromkeys(wire for item in task.streams for wire in item.wires):
            name = names.link(circuit, task.name, wire)
            found.append(_trigger(place, name, _news_of(place, wire), subscriber, task.name))
    return found


def _own_rings(place: Deployed) -> list[Object]:
    circuit = place.circuit.name
    found = []
    for task in place.rung:
        heard = {"type": RING_TYPE, "koaljacircuit": armour(circuit), "koaljatask": armour(task.name)}
        subscriber = {"ref": service_reference(place, names.task(circuit, task.name))}
        name = names.own_rings(circuit, task.name)
        found.append(_trigger(place, name, {"filter": {"attributes": heard}}, subscriber, task.name))
    return found


def _accepted(place: Deployed) -> list[Object]:
    """Foreign events: the entry gives each to all wires that accept its type.

    Raises:
        UsageError: The class of Broker knows whole types only, and there is a pattern.
    """
    patterns = {
        pattern
        for wire in place.circuit.wires.values()
        for pattern in (wire.accept or "").replace(",", " ").split()
    }
    beyond = sorted(pattern for pattern in patterns if "filters" in foreign(pattern))
    if beyond and place.settings.broker_class == _WHOLE_TYPES_ONLY:
        raise UsageError(
            f"accept = {', '.join(beyond)} can't be had with a {_WHOLE_TYPES_ONLY}",
            why="it compares whole attributes only",
            cure="name the types, or choose another broker-class",
        )
    return [
        _trigger(
            place,
            names.accepted(place.circuit.name, pattern),
            foreign(pattern),
            {"ref": entry_reference(place)},
            retries=_FOREIGN_RETRIES,
        )
        for pattern in sorted(patterns)
    ]


def _written(place: Deployed) -> list[Object]:
    """Wires with `to`: the entry writes what is new."""
    return [
        _trigger(
            place,
            names.written(place.circuit.name, name),
            _news_of(place, name),
            {"ref": entry_reference(place), "uri": "/sink"},
        )
        for name, wire in sorted(place.circuit.wires.items())
        if wire.sink and is_address(wire.sink)
    ]


def foreign(pattern: str) -> dict[str, Any]:
    """The filter for events of a type, where `*` stands for any text and `?` for any character.

    Plain attributes where they will do: not every class of Broker knows the dialects. Each element has one
    dialect only. Our own doorbells are left out where the pattern would take them for foreign events.
    """
    if not any(sign in pattern for sign in "*?[") and pattern:
        return {"filter": {"attributes": {"type": pattern}}}
    own = [
        {"not": {"exact": {"type": kind}}}
        for kind in (VALUE_TYPE, RING_TYPE)
        if fnmatch.fnmatchcase(kind, pattern)
    ]
    start, _, end = pattern.partition("*")
    plain = not any(sign in start + end for sign in "*?[")
    if plain and start and not end:
        return {"filters": [{"prefix": {"type": start}}, *own]}
    if plain and end and not start:
        return {"filters": [{"suffix": {"type": end}}, *own]}
    if pattern == "*":
        return {"filters": own}
    return {"filters": [{"cesql": f"type LIKE '{_like(pattern)}'"}, *own]}


def _like(pattern: str) -> str:
    """A pattern in the words of CESQL; what a bracket would allow is left to the entry, which looks again."""
    found, rest = "", pattern
    while rest:
        sign, rest = rest[0], rest[1:]
        if sign == "[" and "]" in rest[1:]:
            rest = rest[rest.index("]", 1) + 1 :]
            found += "_"
        else:
            found += {"*": "%", "?": "_", "%": "\\%", "_": "\\_", "'": "\\'", "\\": "\\\\"}.get(sign, sign)
    return found


def _news_of(place: Deployed, wire: str) -> dict[str, Any]:
    heard = {
        "type": VALUE_TYPE,
        "koaljacircuit": armour(place.circuit.name),
        "koaljawire": armour(wire),
    }
    return {"filter": {"attributes": heard}}


def _trigger(
    place: Deployed,
    name: str,
    heard: dict[str, Any],
    subscriber: dict[str, Any],
    task: str = "",
    retries: int = _RING_RETRIES,
) -> Object:
    """A Trigger. No time limit for a delivery: it would cause a second one while the first still runs."""
    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Trigger",
        "metadata": place.metadata(name, "trigger", task),
        "spec": {
            "broker": names.broker(place.circuit.name),
            **heard,
            "subscriber": subscriber,
            "delivery": {
                "retry": retries,
                "backoffPolicy": "exponential",
                "backoffDelay": "PT1S",
                "deadLetterSink": {"ref": entry_reference(place), "uri": "/letters"},
            },
        },
    }


def _configuration(broker_class: str, place: str) -> dict[str, str]:
    namespace, _, name = place.partition("/")
    rabbit = broker_class == "RabbitMQBroker"
    return {
        "apiVersion": "eventing.knative.dev/v1alpha1" if rabbit else "v1",
        "kind": "RabbitmqBrokerConfig" if rabbit else "ConfigMap",
        "namespace": namespace,
        "name": name,
    }
