"""What the programs of a task write, from all its pods at once, also from those that start meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from koalja_fn.cluster.client import Cluster
from koalja_fn.cluster.kinds import POD, Object, name_of
from koalja_fn.cluster.waiting import Clock
from koalja_fn.errors import ClusterError

_CONTAINERS = ("koalja", "user-container", "postgres")
_LOOK = 1.0
Say = Callable[[str, str], None]


def show(cluster: Cluster, namespace: str, labels: Mapping[str, str], tail: int | None, say: Say) -> int:
    """Tell what there is, pod by pod, oldest first; how many pods there are. `say` gets pod and line."""
    pods = sorted(cluster.list(POD, namespace, labels), key=_age)
    for pod in pods:
        _tell(cluster, namespace, pod, say, follow=False, tail=tail)
    return len(pods)


def follow(
    cluster: Cluster,
    namespace: str,
    labels: Mapping[str, str],
    tail: int | None,
    say: Say,
    *,
    clock: Clock | None = None,
    ended: Callable[[], bool] = lambda: False,
) -> None:
    """Tell what there is and what comes, until `ended` or interrupted."""
    clock = clock or Clock()
    known: set[str] = set()
    while not ended():
        for pod in cluster.list(POD, namespace, labels):
            uid = str(pod["metadata"].get("uid"))
            phase = (pod.get("status") or {}).get("phase")
            if uid in known or phase == "Pending":
                continue
            known.add(uid)
            arguments = {"follow": True, "tail": tail}
            threading.Thread(
                target=_tell, args=(cluster, namespace, pod, say), kwargs=arguments, daemon=True
            ).start()
        clock.sleep(_LOOK)


def _tell(cluster: Cluster, namespace: str, pod: Object, say: Say, *, follow: bool, tail: int | None) -> None:
    name = name_of(pod)
    containers = [str(one["name"]) for one in pod["spec"].get("containers") or []]
    ours = next((one for one in _CONTAINERS if one in containers), containers[0])
    try:
        for line in cluster.logs(namespace, name, ours, follow=follow, tail=tail):
            say(name, line)
    except ClusterError as error:  # it has just gone, or has not begun
        if not follow:
            say(name, f"({error.what}: {error.why})")


def _age(pod: Object) -> str:
    return str(pod["metadata"].get("creationTimestamp", ""))
