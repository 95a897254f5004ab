"""Rules of Knative Serving: its webhook's validation, with the feature flags as they are by default."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from koalja_fn.cluster.kinds import Object
from koalja_fn.cluster.rules import common
from koalja_fn.cluster.rules.finding import Finding, at

_PREFIX = "autoscaling.knative.dev/"
_MOST_SECONDS = 600
_RESERVED_VARIABLES = ("PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION")
_RESERVED_PATHS = ("/", "/dev", "/dev/log")
_QUEUE_PORTS = (8012, 8013, 8022, 8112, 9090, 9091)
# Off by default: config-features. (emptyDir, several containers and imagePullSecrets are on.)
_FLAGGED = (
    "affinity",
    "dnsConfig",
    "dnsPolicy",
    "hostAliases",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "initContainers",
    "nodeSelector",
    "priorityClassName",
    "runtimeClassName",
    "schedulerName",
    "securityContext",
    "shareProcessNamespace",
    "tolerations",
    "topologySpreadConstraints",
)
_UNKNOWN_FIELDS = ("activeDeadlineSeconds", "restartPolicy", "terminationGracePeriodSeconds")
_FLAGGED_VOLUMES = ("hostPath", "persistentVolumeClaim", "csi")
_IMAGE = re.compile(
    r"(?P<host>[A-Za-z0-9.-]+(:[0-9]+)?/)?(?P<name>[a-z0-9._/-]{2,255})"
    r"(:[A-Za-z0-9._-]{1,128})?(@sha256:[0-9a-f]{64})?"
)


def service(item: Object) -> Iterator[Finding]:
    """Rules for a Service."""
    for name in at(item, "metadata.annotations") or {}:
        if name.startswith(_PREFIX):
            yield Finding(
                "autoscaling-place",
                f"metadata.annotations[{name}]",
                "autoscaling annotations must be under spec.template.metadata.annotations",
            )
    template = at(item, "spec.template") or {}
    if at(template, "metadata.name"):
        yield Finding(
            "revision-name", "spec.template.metadata.name", "let Knative name revisions (serving#9544)"
        )
    yield from common.metadata(template.get("metadata"), "spec.template.metadata")
    yield from _scaling(at(template, "metadata.annotations") or {})
    yield from _limits(template.get("spec") or {})
    yield from _pod(template.get("spec") or {})


def _scaling(annotations: dict[str, Any]) -> Iterator[Finding]:
    for name, value in annotations.items():
        if not name.startswith(_PREFIX) or not isinstance(value, str):
            continue
        key = name.removeprefix(_PREFIX)
        where = f"spec.template.metadata.annotations[{name}]"
        if key not in _SCALING:
            yield Finding("autoscaling-unknown", where, "there is no such setting of the autoscaler")
        elif not _fits(_SCALING[key], value):
            yield Finding("autoscaling-value", where, f"{value!r} is not allowed")
    least, most = (annotations.get(f"{_PREFIX}{key}", "0") for key in ("min-scale", "max-scale"))
    if str(least).isdigit() and str(most).isdigit() and 0 < int(most) < int(least):
        yield Finding(
            "scale-order",
            "spec.template.metadata.annotations",
            f"max-scale {most} is below min-scale {least}",
        )


def _fits(rule: Callable[[str], bool], value: str) -> bool:
    try:
        return rule(value)
    except ValueError:
        return False


def _seconds(text: str) -> float:
    """A duration as Go writes it."""
    parts = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    if not parts or not text:
        raise ValueError(text)
    hours, minutes, seconds = (int(part or 0) for part in parts.groups())
    return 3600 * hours + 60 * minutes + seconds


_SCALING: dict[str, Callable[[str], bool]] = {
    "activation-scale": lambda v: int(v) >= 1,
    "class": lambda v: v in ("kpa.autoscaling.knative.dev", "hpa.autoscaling.knative.dev"),
    "initial-scale": lambda v: int(v) >= 1,  # 0 only where the cluster allows it
    "max-scale": lambda v: int(v) >= 0,
    "metric": lambda v: v in ("concurrency", "rps"),
    "metric-aggregation-algorithm": lambda v: v in ("linear", "weightedExponential"),
    "min-scale": lambda v: int(v) >= 0,
    "panic-threshold-percentage": lambda v: 110 <= float(v) <= 1000,
    "panic-window-percentage": lambda v: 1 <= float(v) <= 100,
    "scale-down-delay": lambda v: _seconds(v) <= 3600,
    "scale-to-zero-pod-retention-period": lambda v: _seconds(v) <= 3600,
    "target": lambda v: float(v) >= 0.01,
    "target-burst-capacity": lambda v: float(v) >= 0 or float(v) == -1,
    "target-utilization-percentage": lambda v: 1 <= float(v) <= 100,
    "window": lambda v: 6 <= _seconds(v) <= 3600,
}


def _limits(spec: dict[str, Any]) -> Iterator[Finding]:
    """Time limits and concurrency."""
    whole = spec.get("timeoutSeconds", 300)
    if not 0 < whole <= _MOST_SECONDS:
        yield Finding("timeout", "spec.template.spec.timeoutSeconds", f"{whole} is not from 1 to 600")
    for field in ("responseStartTimeoutSeconds", "idleTimeoutSeconds"):
        if spec.get(field, 0) > whole:
            yield Finding("timeout-order", f"spec.template.spec.{field}", f"is above timeoutSeconds, {whole}")
    if whole > 300 and spec.get("responseStartTimeoutSeconds", 300) < whole:
        yield Finding(
            "response-start",
            "spec.template.spec.responseStartTimeoutSeconds",
            "advice: it is 300 unless it is set, and cuts off answers that begin later",
        )
    if not 0 <= spec.get("containerConcurrency", 0) <= 1000:
        yield Finding("concurrency", "spec.template.spec.containerConcurrency", "is not from 0 to 1000")


def _pod(spec: dict[str, Any]) -> Iterator[Finding]:
    for field in _FLAGGED:
        if field in spec:
            yield Finding("feature", f"spec.template.spec.{field}", "is off by default (config-features)")
    for field in _UNKNOWN_FIELDS:
        if field in spec:
            yield Finding(
                "unknown-field", f"spec.template.spec.{field}", "a Knative Service has no such field"
            )
    for volume in spec.get("volumes") or ():
        for field in _FLAGGED_VOLUMES:
            if field in volume:
                where = f"spec.template.spec.volumes[{volume.get('name')}].{field}"
                yield Finding("volume", where, "is off by default (config-features); emptyDir is allowed")
    containers = spec.get("containers") or []
    if not containers:
        yield Finding("containers", "spec.template.spec.containers", "there is none")
    if sum(1 for one in containers if one.get("ports")) > 1:
        yield Finding("ports", "spec.template.spec.containers", "only one container may have a port")
    for container in containers:
        yield from _container(container, f"spec.template.spec.containers[{container.get('name', '')}]")


def _container(container: dict[str, Any], path: str) -> Iterator[Finding]:
    image = container.get("image")
    if not isinstance(image, str) or not _IMAGE.fullmatch(image):
        yield Finding("image", f"{path}.image", f"{image!r} can't be read as an image's reference")
    if container.get("name") == "queue-proxy":
        yield Finding("container-name", f"{path}.name", "queue-proxy is Knative's own")
    for one in container.get("env") or ():
        where = f"{path}.env[{one.get('name')}]"
        if one.get("name") in _RESERVED_VARIABLES:
            yield Finding("reserved-env", where, "is set by Knative")
        for field in ("fieldRef", "resourceFieldRef"):
            if at(one, f"valueFrom.{field}"):
                yield Finding("feature", f"{where}.valueFrom.{field}", "is off by default (config-features)")
    yield from common.environment(container, path)
    for mount in container.get("volumeMounts") or ():
        if str(mount.get("mountPath")).rstrip("/") in [p.rstrip("/") for p in _RESERVED_PATHS]:
            yield Finding("mount-path", f"{path}.volumeMounts", f"{mount['mountPath']} is reserved")
    for field in ("lifecycle", "stdin", "tty", "terminationMessagePath"):
        if field in container and field != "terminationMessagePath":
            yield Finding("container-field", f"{path}.{field}", "is not allowed in a Knative Service")
    if at(container, "securityContext.privileged"):
        yield Finding("privileged", f"{path}.securityContext.privileged", "is not allowed")
    yield from _ports(container.get("ports") or [], f"{path}.ports")


def _ports(ports: list[dict[str, Any]], path: str) -> Iterator[Finding]:
    if len(ports) > 1:
        yield Finding("ports", path, "there may be only one")
    for port in ports:
        if port.get("name", "") not in ("", "http1", "h2c"):
            yield Finding("port-name", path, f"{port['name']!r} is neither http1 nor h2c")
        if port.get("containerPort") in _QUEUE_PORTS:
            yield Finding("port-number", path, f"{port['containerPort']} is queue-proxy's")
