"""Knative Services: the circuit's entry, and one for each task that is rung.

A request is a worker: it stays open while the runtime works, so that the autoscaler sees the load and stops
no pod that is at work. What that asks of Knative was measured (facts of a real cluster): both time limits at
their maximum, since what runs into one is delivered a second time while the first still runs; a target of
exactly the places that a pod has, used to 100 %, else one request makes two pods.
"""

from __future__ import annotations

import math
from typing import Any

from koalja_fn.cluster import names, pods
from koalja_fn.cluster.kinds import Object
from koalja_fn.cluster.place import Deployed
from koalja_fn.model import Task

REQUEST_SECONDS = 600
"""The longest that Knative lets a request stay open (config-defaults, max-revision-timeout-seconds)."""

BESIDES = 8
"""Requests that a pod takes beyond its places, so that rings that find no place are answered at once."""

_ENTRY_PLACES = 16
# Look-ups that a service's pod hands on at once; more wait in its queue-proxy.
_SERVICE_PLACES = 32
# Its process may take long to start; each look-up within this time spares that.
_KEPT = "5m"
_LOCAL = {"networking.knative.dev/visibility": "cluster-local"}
_AUTOSCALING = "autoscaling.knative.dev"


def entry(place: Deployed) -> Object:
    """Where data come into the circuit."""
    name = names.entry(place.circuit.name)
    return _service(place, name, names.ENTRY, "", _ENTRY_PLACES, place.settings.entries)


def tasks(place: Deployed) -> list[Object]:
    """The tasks that are rung, and those that are asked."""
    return [
        *(_task(place, task) for task in place.services),
        *(_offering(place, task) for task in place.offering),
    ]


def _task(place: Deployed, task: Task) -> Object:
    places, pods_at_most = shares(task, place.settings.places)
    name = names.task(place.circuit.name, task.name)
    return _service(place, name, "task", task.name, places, pods_at_most)


def _offering(place: Deployed, task: Task) -> Object:
    """A service: one pod with one process, there as long as it is asked; only the cluster can reach it."""
    name = names.task(place.circuit.name, task.name)
    found = _service(place, name, "service", task.name, _SERVICE_PLACES, 1)
    found["metadata"]["labels"] |= _LOCAL
    found["spec"]["template"]["metadata"]["annotations"][
        f"{_AUTOSCALING}/scale-to-zero-pod-retention-period"
    ] = _KEPT
    return found


def shares(task: Task, most: int) -> tuple[int, int]:
    """How many programs one pod of a task runs at once, and how many pods there are at most.

    `scale` says how many pods share the `concurrency`; without it a pod takes up to `most`.
    """
    if task.scale:
        return math.ceil(task.concurrency / task.scale), task.scale
    places = min(task.concurrency, most)
    return places, math.ceil(task.concurrency / places)


def _service(place: Deployed, name: str, part: str, task: str, places: int, most: int) -> Object:
    role = {
        "KOALJA_PLACES": str(places),
        "KOALJA_REQUEST_SECONDS": str(REQUEST_SECONDS),
        "KOALJA_GRACE_SECONDS": str(REQUEST_SECONDS),
    }
    content = pods.container(place, task or part, part, task, role)
    content["readinessProbe"] = {"httpGet": {"path": "/readyz"}, "successThreshold": 1}
    template = place.template(part, task, _scaling(places, most))
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": place.metadata(name, part, task),
        "spec": {
            "template": {
                "metadata": template,
                "spec": {
                    "containerConcurrency": places + BESIDES,
                    "timeoutSeconds": REQUEST_SECONDS,
                    "responseStartTimeoutSeconds": REQUEST_SECONDS,
                    **pods.pod(place, content),
                },
            }
        },
    }


def _scaling(places: int, most: int) -> dict[str, Any]:
    """At the template, and all of them text: else the webhook refuses them."""
    return {
        f"{_AUTOSCALING}/target": str(places),
        f"{_AUTOSCALING}/target-utilization-percentage": "100",
        f"{_AUTOSCALING}/max-scale": str(most),
    }
