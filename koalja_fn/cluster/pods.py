"""The one container of each pod: its environment, its scratch folder, and what it may not do.

All of it is at the container: a Knative Service takes no security context for a pod unless a cluster's
feature flags say so, and none of its other features that are off by default is used here.
"""

from __future__ import annotations

from typing import Any

from koalja_fn.cluster.place import Deployed, service_address
from koalja_fn.cluster.settings import REGISTRY_KEY, REGISTRY_SECRET, SERVICE_ACCOUNT, STORE_SECRET

SCRATCH = "/scratch"


def container(
    place: Deployed, image: str, role: str, task: str = "", more: dict[str, str] | None = None
) -> dict[str, Any]:
    """The runtime in one of its roles; `more` are settings of the role."""
    return {
        "name": "koalja",
        "image": place.image(image),
        "env": environment(place, role, task, more or {}),
        "envFrom": [{"secretRef": {"name": STORE_SECRET, "optional": True}}],
        "resources": resources(place),
        "securityContext": restricted(place.settings.user),
        "volumeMounts": [{"name": "scratch", "mountPath": SCRATCH}],
    }


def pod(place: Deployed, content: dict[str, Any]) -> dict[str, Any]:
    """What a pod is besides its container: an account without rights, a scratch folder."""
    settings = place.settings
    found: dict[str, Any] = {
        "serviceAccountName": SERVICE_ACCOUNT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [content],
        "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": settings.scratch}}],
    }
    if settings.pull_secret:
        found["imagePullSecrets"] = [{"name": settings.pull_secret}]
    return found


def environment(place: Deployed, role: str, task: str, more: dict[str, str]) -> list[dict[str, Any]]:
    """The container's environment; secrets by reference only. The user's program gets none of it."""
    settings = place.settings
    plain = {"KOALJA_ROLE": role, "KOALJA_CIRCUIT": place.circuit.name}
    if task:
        plain["KOALJA_TASK"] = task
    after = {"KOALJA_STORE": settings.store, "AWS_REGION": settings.region}
    if settings.endpoint:
        after["AWS_ENDPOINT_URL_S3"] = settings.endpoint
    if place.broker:
        after["KOALJA_BROKER"] = place.broker
    named = place.circuit.task(task)
    if asked := place.circuit.asked(named) if named else ():
        after["KOALJA_SERVICES"] = " ".join(f"{one.name}={service_address(place, one.name)}" for one in asked)
    after |= {"KOALJA_SCRATCH": SCRATCH, "HOME": SCRATCH, "TMPDIR": SCRATCH, **more}
    registry = {
        "name": "KOALJA_REGISTRY",
        "valueFrom": {"secretKeyRef": {"name": REGISTRY_SECRET, "key": REGISTRY_KEY}},
    }
    return [*_variables(plain), registry, *_variables(after)]


def resources(place: Deployed) -> dict[str, Any]:
    """What a pod asks for, and what it may take at most where the settings say so."""
    settings = place.settings
    wanted = {"cpu": settings.cpu, "memory": settings.memory}
    most = {"cpu": settings.cpu_limit, "memory": settings.memory_limit}
    found = {"requests": _present(wanted), "limits": _present(most)}
    return {name: amounts for name, amounts in found.items() if amounts}


def restricted(user: str) -> dict[str, Any]:
    """A security context that the pod security standard `restricted` admits."""
    chosen = {"runAsUser": int(user), "runAsGroup": int(user)} if user else {}
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        **chosen,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _variables(values: dict[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _present(amounts: dict[str, str]) -> dict[str, str]:
    return {name: amount for name, amount in amounts.items() if amount}
