"""Wires that queues feed: a KEDA ScaledJob starts pods while messages wait, each of which drains the queues.

A pod takes many messages, so KEDA counts those that wait and not those that a pod has in hand: a message
that is refused, and hidden until the queue tries it again, starts nothing. A pod that finds nothing for a
while ends well, and one that has worked for long makes room for the next, which may be of a newer version.
"""

from __future__ import annotations

from typing import Any

from koalja_fn.addresses import Inlet, Queue, inlets
from koalja_fn.cluster import jobs, names, pods
from koalja_fn.cluster.kinds import Object
from koalja_fn.cluster.place import Deployed
from koalja_fn.cluster.settings import ROLE, STORE_SECRET

_POLL = 5
_EACH = 100  # messages that wait, for a pod more
_IDLE, _LONGEST = 60, 600  # seconds without a message; seconds in all
_KEYS = {
    "awsAccessKeyID": "AWS_ACCESS_KEY_ID",
    "awsSecretAccessKey": "AWS_SECRET_ACCESS_KEY",
    "awsSessionToken": "AWS_SESSION_TOKEN",
}
_NO_ACCOUNT = "000000000000"  # what servers other than Amazon's use


def authentication(place: Deployed) -> list[Object]:
    """KEDA's way to the queues: the runtimes' own keys by reference, or their role."""
    if not inlets(place.circuit):
        return []
    if place.settings.aws_identity == ROLE:
        spec: dict[str, Any] = {"podIdentity": {"provider": "aws", "identityOwner": "workload"}}
    else:
        spec = {
            "secretTargetRef": [
                {"parameter": parameter, "name": STORE_SECRET, "key": key} for parameter, key in _KEYS.items()
            ]
        }
    return [
        {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "TriggerAuthentication",
            "metadata": place.metadata(names.queues(place.circuit.name), names.QUEUE),
            "spec": spec,
        }
    ]


def pollers(place: Deployed) -> list[Object]:
    """What takes messages, for each wire that has queues."""
    return [_poller(place, inlet) for inlet in inlets(place.circuit)]


def _poller(place: Deployed, inlet: Inlet) -> Object:
    role = {
        "KOALJA_WIRE": inlet.wire,
        "KOALJA_IDLE_SECONDS": str(_IDLE),
        "KOALJA_REQUEST_SECONDS": str(_LONGEST),
        "KOALJA_GRACE_SECONDS": str(jobs.GRACE),
    }
    if place.settings.queue_endpoint:
        role["AWS_ENDPOINT_URL_SQS"] = place.settings.queue_endpoint
    return jobs.scaled(
        place,
        names.fed(place.circuit.name, inlet.wire),
        names.QUEUE,
        "",
        pods.container(place, names.ENTRY, names.QUEUE, "", role),
        [_trigger(place, queue) for queue in inlet.queues],
        poll=_POLL,
        most=place.settings.entries,
        deadline=None,
    )


def _trigger(place: Deployed, queue: Queue) -> dict[str, Any]:
    endpoint = queue.endpoint or place.settings.queue_endpoint
    region = queue.region or place.settings.region
    metadata = {
        "queueURL": _url(queue, region, endpoint),
        "queueLength": str(_EACH),
        "activationQueueLength": "0",
        "awsRegion": region,
        "scaleOnInFlight": "false",
        **({"awsEndpoint": endpoint} if endpoint else {}),
    }
    return {
        "type": "aws-sqs-queue",
        "metadata": metadata,
        "authenticationRef": {"name": names.queues(place.circuit.name)},
    }


def _url(queue: Queue, region: str, endpoint: str) -> str:
    """The queue's address where it is known, else its name, which KEDA takes as well."""
    if endpoint:
        return f"{endpoint.rstrip('/')}/{queue.account or _NO_ACCOUNT}/{queue.name}"
    return f"https://sqs.{region}.amazonaws.com/{queue.account}/{queue.name}" if queue.account else queue.name
