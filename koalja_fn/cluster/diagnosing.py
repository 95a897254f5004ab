"""Why something does not get ready: from the object down to the pod, to the first real cause and its cure.

A Service that is not Ready says "Revision ... failed"; the Revision says that something did not start; the
pod knows that its image is not there. So the walk goes on to where somebody knows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from koalja_fn.cluster.client import Cluster
from koalja_fn.cluster.conditions import condition, failing, seen
from koalja_fn.cluster.kinds import (
    BROKER,
    CHANNEL,
    DEPLOYMENT,
    EVENT,
    PING_SOURCE,
    POD,
    REVISION,
    ROUTE,
    SCALED_JOB,
    SERVICE,
    TRIGGER,
    Object,
    kind_of,
    name_of,
)
from koalja_fn.errors import ClusterError

REVISION_LABEL = "serving.knative.dev/revision"
_SIDECAR = "queue-proxy"
_TAIL = 12
_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_REFUSED = re.compile(r"exceeded quota|is forbidden|violates PodSecurity|denied the request")


@dataclass(frozen=True, slots=True)
class Cause:
    """What is wrong, as the cluster reported it, and what to try. `final`: waiting alone does not help."""

    what: str
    why: str = ""
    cure: str = ""
    final: bool = False


def diagnose(cluster: Cluster, item: Object) -> Cause | None:
    """The first real cause of an object that is not Ready, if anybody knows one yet."""
    kind = kind_of(item)
    if kind == SERVICE:
        return _service(cluster, item)
    if not (item.get("status") or {}).get("conditions"):
        return Cause(f"no controller has looked at {kind} {name_of(item)} yet", cure=_CONTROLLERS[kind])
    return _by_conditions(item, _CONTROLLERS.get(kind, "koalja-fn doctor --cluster"))


def of_pod(cluster: Cluster, pod: Object) -> Cause | None:
    """What keeps a pod from running, if it is known."""
    return _unscheduled(pod) or _containers(cluster, pod) or _mounts(cluster, pod)


_CONTROLLERS = {
    BROKER: "koalja-fn doctor --cluster looks whether Knative Eventing and the broker class are there",
    CHANNEL: "koalja-fn doctor --cluster looks whether the in-memory channel is installed",
    TRIGGER: "koalja-fn doctor --cluster looks whether Knative Eventing runs",
    SCALED_JOB: "koalja-fn doctor --cluster looks whether KEDA's operator runs",
    PING_SOURCE: "koalja-fn doctor --cluster looks whether the PingSource adapter is there",
}


def _service(cluster: Cluster, service: Object) -> Cause | None:
    namespace = str(service["metadata"].get("namespace", ""))
    status = service.get("status") or {}
    if not status.get("conditions"):
        return Cause(
            f"no controller has looked at Service {name_of(service)} yet",
            cure="koalja-fn doctor --cluster looks whether Knative Serving runs",
        )
    if not seen(service):
        return None
    name = str(status.get("latestCreatedRevisionName", ""))
    revision = cluster.get(REVISION, namespace, name) if name else None
    if revision is not None and condition(revision, "Ready").status != "True":
        return _revision(cluster, namespace, revision)
    if condition(service, "ConfigurationsReady").status == "False":
        return _by_conditions(service, "koalja-fn doctor --cluster")
    return _route(cluster, namespace, service)


def _revision(cluster: Cluster, namespace: str, revision: Object) -> Cause | None:
    name = name_of(revision)
    pods = cluster.list(POD, namespace, {REVISION_LABEL: name})
    for pod in sorted(pods, key=lambda one: str(one["metadata"].get("creationTimestamp", "")), reverse=True):
        if not pod["metadata"].get("deletionTimestamp") and (cause := of_pod(cluster, pod)):
            return cause
    deployment = cluster.get(DEPLOYMENT, namespace, f"{name}-deployment")
    if deployment is not None and (cause := _no_pods(deployment)):
        return cause
    return _revision_says(revision)


def _revision_says(revision: Object) -> Cause | None:
    for one in failing(revision):
        if "nodes are available" in one.message:
            return _no_room(one.message)
        if "fetch image" in one.message or one.reason == "ContainerMissing":
            return Cause(
                f"{name_of(revision)}: its image can't be looked up", one.text, _image_cure(one.text), True
            )
        if one.reason == "ProgressDeadlineExceeded":
            return Cause(
                f"{name_of(revision)} did not start in the time that Knative gives it",
                one.text,
                "koalja-fn logs TASK tells what it wrote",
                True,
            )
        return Cause(
            f"{name_of(revision)} can't start", one.text, "koalja-fn logs TASK tells what it wrote", True
        )
    return None


def _no_pods(deployment: Object) -> Cause | None:
    """Where pods can't even be made: quotas, pod security, a missing service account."""
    for type_ in ("ReplicaFailure", "Progressing", "Available"):
        one = condition(deployment, type_)
        bad = "True" if type_ == "ReplicaFailure" else "False"
        if one.status == bad and _REFUSED.search(one.message):
            cure = "ask for a larger quota, or lower the tasks' resources"
            if "quota" not in one.message:
                cure = "see what the namespace allows: kubectl get ns NAMESPACE --show-labels"
            if "serviceaccount" in one.message.lower():
                cure = "koalja-fn install makes the ServiceAccount"
            return Cause("the cluster does not let its pods be made", one.message, cure, True)
    return None


def _route(cluster: Cluster, namespace: str, service: Object) -> Cause | None:
    route = cluster.get(ROUTE, namespace, name_of(service))
    one = condition(route or service, "IngressReady")
    if one.status == "True":
        return None
    if one.reason in ("IngressNotConfigured", "Uninitialized"):
        return Cause(
            "the network layer has not set up its address yet",
            one.text,
            "koalja-fn doctor --cluster looks whether Kourier, Istio or Contour runs",
        )
    return _by_conditions(route or service, "koalja-fn doctor --cluster")


def _by_conditions(item: Object, cure: str) -> Cause | None:
    for one in failing(item):
        return Cause(f"{one.type} is False", one.text, cure)
    return None


def _unscheduled(pod: Object) -> Cause | None:
    one = condition(pod, "PodScheduled")
    if one.status != "False":
        return None
    return _no_room(one.message)


def _no_room(message: str) -> Cause:
    """What a scheduler says, and Knative after it; room may still come."""
    cure = "wait for a larger node, or give the cluster more"
    if "Insufficient" in message:
        cure = "give the cluster more nodes, or ask for less cpu and memory"
    return Cause("no node has room for its pod", message, cure)


def _containers(cluster: Cluster, pod: Object) -> Cause | None:
    status = pod.get("status") or {}
    told = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    for container in sorted(told, key=lambda one: one.get("name") == _SIDECAR):
        state = container.get("state") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
        reason = str(waiting.get("reason") or "")
        if reason in _IMAGE:
            return _image(cluster, pod, container, waiting)
        if reason in _CONFIG:
            why = str(waiting.get("message") or reason)
            return Cause("its container can't be made", why, _config_cure(why), True)
        if reason == "CrashLoopBackOff" or ended.get("exitCode"):
            return _crash(cluster, pod, container)
    if status.get("phase") == "Running" and told and not all(one.get("ready") for one in told):
        return _unready(cluster, pod, told)
    if status.get("phase") == "Failed":
        return Cause(
            "its pod has failed", str(status.get("message") or status.get("reason") or ""), final=True
        )
    return None


def _unready(cluster: Cluster, pod: Object, told: Sequence[Object]) -> Cause | None:
    """A runtime that runs but is not ready says why: it can't reach the registry or the store."""
    name = next((str(one["name"]) for one in told if one.get("name") != _SIDECAR), "")
    said = [line for line in log_tail(cluster, pod, name) if line.startswith("koalja:")]
    if not said:
        return None
    cure = "koalja-fn doctor --cluster asks registry and store from a pod"
    return Cause("its runtime can't begin to work", "\n".join(said[-3:]), cure)


def _image(cluster: Cluster, pod: Object, container: Object, waiting: Object) -> Cause:
    why = str(waiting.get("message") or "")
    if "rpc error" not in why and "failed to" not in why:  # older kubelets say it in an event only
        told = [text for text in _events(cluster, pod, "Failed") if "pull" in text]
        why = told[-1] if told else why
    image = str(container.get("image", ""))
    return Cause(
        f"the image {image} can't be pulled", why or str(waiting.get("reason")), _image_cure(why), True
    )


def _image_cure(why: str) -> str:
    text = why.lower()
    if "http response to https" in text:
        return "tell the nodes that this registry speaks plain HTTP, or give it TLS"
    if "x509" in text or "certificate" in text:
        return "let the nodes trust the registry's certificate"
    if any(word in text for word in ("unauthorized", "authorization", "denied", "forbidden", "401", "403")):
        return (
            "koalja-fn install --pull-secret NAME, with a secret of type docker-registry that may read there"
        )
    if any(word in text for word in ("not found", "manifest unknown", "404")):
        return "koalja-fn deploy again: it packs and pushes what is missing"
    if any(word in text for word in ("no such host", "timeout", "refused", "unreachable", "lookup")):
        return "use a registry that the nodes can reach: koalja-fn deploy --images REGISTRY/PREFIX"
    return "see whether the nodes can reach and read the registry"


def _config_cure(why: str) -> str:
    if "secret" in why.lower() or "configmap" in why.lower():
        return "koalja-fn install makes the settings and secrets of the namespace"
    if "runAsNonRoot" in why or "run as root" in why:
        return "pack the task again on a run image whose user is not root: koalja-fn deploy"
    if "executable file not found" in why or "no such file" in why:
        return "the image has no launcher: pack it with koalja-fn deploy"
    return "kubectl describe pod tells more"


def _crash(cluster: Cluster, pod: Object, container: Object) -> Cause:
    state, last = container.get("state") or {}, container.get("lastState") or {}
    ended = state.get("terminated") or last.get("terminated") or {}
    restarts = int(container.get("restartCount") or 0)
    if ended.get("reason") == "OOMKilled":
        return Cause(
            "its container was killed: it used more memory than it may",
            f"exit code {ended.get('exitCode', 137)}, restarted {restarts} times",
            "give it more memory, or less to do at once",
            restarts > 1,
        )
    name = str(container.get("name", ""))
    lines = log_tail(cluster, pod, name, previous=not state.get("terminated") and restarts > 0)
    why = "\n".join(
        [f"exit code {ended.get('exitCode', '?')}, restarted {restarts} times", *(f"| {t}" for t in lines)]
    )
    return Cause("its container ends as soon as it starts", why, _crash_cure(lines), restarts > 1)


def _crash_cure(lines: Sequence[str]) -> str:
    text = "\n".join(lines)
    if "KOALJA_" in text:
        return "koalja-fn install makes the settings of the namespace"
    return "mend what its log tells, then koalja-fn deploy again"


def _mounts(cluster: Cluster, pod: Object) -> Cause | None:
    if (pod.get("status") or {}).get("phase") != "Pending":
        return None
    for text in _events(cluster, pod, "FailedMount", "FailedCreatePodSandBox"):
        return Cause("its pod can't be set up", text, _config_cure(text))
    return None


def _events(cluster: Cluster, item: Object, *reasons: str) -> list[str]:
    """What was reported of an object, oldest first; nothing where events may not be read."""
    uid = item["metadata"].get("uid")
    try:
        found = cluster.list(EVENT, str(item["metadata"].get("namespace", "")), {})
    except ClusterError:
        return []
    told = [
        e for e in found if (e.get("involvedObject") or {}).get("uid") == uid and e.get("reason") in reasons
    ]
    told.sort(key=lambda e: str(e.get("lastTimestamp") or e.get("eventTime") or ""))
    return [str(e.get("message", "")) for e in told]


def log_tail(cluster: Cluster, pod: Object, container: str, *, previous: bool = False) -> list[str]:
    """The last lines that a container wrote; nothing where they can't be had."""
    namespace = str(pod["metadata"].get("namespace", ""))
    try:
        lines = cluster.logs(namespace, name_of(pod), container, tail=_TAIL, previous=previous)
        return [line for line in lines if line.strip()]
    except ClusterError:
        return []
