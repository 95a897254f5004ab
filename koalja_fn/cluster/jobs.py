"""Tasks with `mode = job`: a KEDA ScaledJob starts a pod for each ready snapshot, up to `concurrency`.

Strategy `default` over the count of ready and running snapshots is the only pair that neither starves new
work nor starts pods for nothing (facts of a real cluster, F). `gradual`: else an update of the ScaledJob
would end the jobs that run. A job never starts again by itself: attempts are counted by the registry.
"""

from __future__ import annotations

from typing import Any

from koalja_fn.cluster import names, pods, questions
from koalja_fn.cluster.kinds import Object
from koalja_fn.cluster.place import Deployed
from koalja_fn.cluster.settings import REGISTRY_KEY, REGISTRY_SECRET
from koalja_fn.model import Task

_KEPT = 3
_POLL = 5
# From SIGTERM to SIGKILL: long enough to give a snapshot back, short enough for a node that is drained.
GRACE = 60
# Beside the program's own time limit: to be scheduled, to pull the image, to fetch and store payloads.
_BESIDES = 3600


def authentication(place: Deployed) -> list[Object]:
    """KEDA's way to the registry, by the same Secret that the runtimes have."""
    if not place.jobs and not place.settings.has_keda:
        return []
    return [
        {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "TriggerAuthentication",
            "metadata": place.metadata(names.authentication(place.circuit.name), "job"),
            "spec": {
                "secretTargetRef": [{"parameter": "connection", "name": REGISTRY_SECRET, "key": REGISTRY_KEY}]
            },
        }
    ]


def tasks(place: Deployed) -> list[Object]:
    """The tasks that run as jobs."""
    return [_task(place, task) for task in place.jobs]


def _task(place: Deployed, task: Task) -> Object:
    most = min(task.scale or task.concurrency, task.concurrency)
    deadline = None if task.timeout is None else round(task.timeout) + _BESIDES
    return scaled(
        place,
        names.task(place.circuit.name, task.name),
        "job",
        task.name,
        pods.container(place, task.name, "job", task.name, {"KOALJA_GRACE_SECONDS": str(GRACE)}),
        by_query(place, questions.ready_or_running(place.circuit, task, most)),
        poll=_POLL,
        most=most,
        deadline=deadline,
    )


def scaled(
    place: Deployed,
    name: str,
    part: str,
    task: str,
    content: dict[str, Any],
    triggers: list[dict[str, Any]],
    *,
    poll: int,
    most: int,
    deadline: int | None,
) -> Object:
    """A ScaledJob that starts as many pods as its triggers say, `most` at a time."""
    limit = {} if deadline is None else {"activeDeadlineSeconds": deadline}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledJob",
        "metadata": place.metadata(name, part, task),
        "spec": {
            "pollingInterval": poll,
            "minReplicaCount": 0,
            "maxReplicaCount": most,
            "successfulJobsHistoryLimit": _KEPT,
            "failedJobsHistoryLimit": _KEPT,
            "rollout": {"strategy": "gradual"},
            "scalingStrategy": {"strategy": "default"},
            "jobTargetRef": {
                "parallelism": 1,
                "completions": 1,
                "backoffLimit": 0,
                **limit,
                "template": {
                    "metadata": place.template(part, task),
                    "spec": {
                        "restartPolicy": "Never",
                        "terminationGracePeriodSeconds": GRACE,
                        **pods.pod(place, content),
                    },
                },
            },
            "triggers": triggers,
        },
    }


def by_query(place: Deployed, query: str) -> list[dict[str, Any]]:
    """The trigger that asks the registry how many pods there should be."""
    return [
        {
            "type": "postgresql",
            "metadata": {
                "query": query,
                "targetQueryValue": "1",
                "activationTargetQueryValue": "0",
            },
            "authenticationRef": {"name": names.authentication(place.circuit.name)},
        }
    ]


def console(place: Deployed, idle: int | None = None) -> Object:
    """The Pod in which commands on the circuit are run; it ends itself when nobody uses it."""
    more = {} if idle is None else {"KOALJA_IDLE_SECONDS": str(idle)}
    content = pods.container(place, names.ENTRY, names.CONSOLE, "", more)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": place.metadata(names.console(place.circuit.name), names.CONSOLE),
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 5, **pods.pod(place, content)},
    }
