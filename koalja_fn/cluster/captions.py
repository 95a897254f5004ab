"""What each object is for, in a sentence: the comments of `koalja-fn render`."""

from __future__ import annotations

from koalja_fn.cluster import names
from koalja_fn.cluster.kinds import LABEL_PART, LABEL_TASK, Object, labels_of, title


def caption(item: Object) -> str:
    """A line or two about an object, from what it says itself."""
    labels = labels_of(item)
    part, task = labels.get(LABEL_PART, ""), labels.get(LABEL_TASK, "")
    return f"{title(item)}: {_about(item, part, task)}"


def _about(item: Object, part: str, task: str) -> str:
    kind = item["kind"]
    if kind == "Service":
        return _service(item, task)
    if kind == "Trigger":
        return _trigger(item, task)
    if kind == "ScaledJob":
        return _scaled(item, part, task)
    if kind == "PingSource":
        return f"wakes the entry ({item['spec']['schedule']}) to look for what nobody rang for."
    if part == names.QUEUE:
        return "KEDA's way to the queues, as the runtimes'."
    return _OTHERS.get(kind, f"{part} of the circuit.")


_OTHERS = {
    "InMemoryChannel": "made before the Broker, so that ringing does not wait for those who are rung.",
    "Broker": "carries doorbells: events without data that say where something is new.",
    "TriggerAuthentication": "KEDA's way to the registry, by the runtimes' own Secret.",
    "NetworkPolicy": "all that the circuit's pods may reach.",
    "ConfigMap": "the circuit, as the registry is to know it.",
    "Job": "brings the circuit into the registry; the runtimes wait for it.",
}


def _service(item: Object, task: str) -> str:
    template = item["spec"]["template"]
    if not task:
        return "where data come in: POST to /CIRCUIT/WIRE."
    if item["metadata"]["labels"][LABEL_PART] == "service":
        return f"service {task}; a pod while it is asked."
    places = template["metadata"]["annotations"]["autoscaling.knative.dev/target"]
    most = template["metadata"]["annotations"]["autoscaling.knative.dev/max-scale"]
    return f"task {task}; {places} at once in a pod, 0 to {most} pods."


def _trigger(item: Object, task: str) -> str:
    spec = item["spec"]
    heard = spec.get("filter", {}).get("attributes", {})
    wire = heard.get("koaljawire")
    if task:
        return f"rings {task} " + (f"when something is new on {wire}." if wire else "when it rings itself.")
    if wire:
        return f"has the entry write what is new on {wire}."
    return f"brings foreign events to the entry, {_types(spec)}."


def _types(spec: Object) -> str:
    if "filter" in spec:
        return f"those of type {spec['filter']['attributes']['type']}"
    first = next((one for one in spec["filters"] if "not" not in one), None)
    if first is None:
        return "of any type"
    dialect, condition = next(iter(first.items()))
    said = condition["type"] if isinstance(condition, dict) else condition
    return f"where {said}" if dialect == "cesql" else f"where the type has the {dialect} {said}"


def _scaled(item: Object, part: str, task: str) -> str:
    spec = item["spec"]
    if part == names.QUEUE:
        asked = ", ".join(one["metadata"]["queueURL"].rpartition("/")[2] for one in spec["triggers"])
        return f"takes the messages of {asked}; 0 to {spec['maxReplicaCount']} pods."
    if not task:
        return f"looks for what nobody rang for, when the registry has some ({spec['pollingInterval']} s)."
    return f"task {task}; a pod for each snapshot, 0 to {spec['maxReplicaCount']} pods."
