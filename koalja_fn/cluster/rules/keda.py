"""Rules of KEDA, and what was seen of its ScaledJobs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from koalja_fn.cluster.kinds import Object
from koalja_fn.cluster.rules import common
from koalja_fn.cluster.rules.finding import Finding, at

_STRATEGIES = ("default", "custom", "accurate", "eager")
_WANTED = {"postgresql": ("query", "targetQueryValue"), "aws-sqs-queue": ("awsRegion",)}


def scaled_job(item: Object) -> Iterator[Finding]:
    """Rules for a ScaledJob."""
    spec = item.get("spec") or {}
    if not at(spec, "jobTargetRef.template"):
        yield Finding("job-template", "spec.jobTargetRef.template", "is missing")
    else:
        yield from _job(spec["jobTargetRef"])
    if "rolloutStrategy" in spec:
        yield Finding("rollout-old", "spec.rolloutStrategy", "is deprecated: spec.rollout.strategy")
    if at(spec, "rollout.strategy") != "gradual":
        yield Finding("rollout", "spec.rollout.strategy", "advice: but for gradual, an update ends what runs")
    strategy = at(spec, "scalingStrategy.strategy") or "default"
    if strategy not in _STRATEGIES:
        yield Finding("strategy", "spec.scalingStrategy.strategy", f"{strategy!r} is none of KEDA's")
    least, most = spec.get("minReplicaCount", 0), spec.get("maxReplicaCount", 100)
    if most < 1 or least > most:
        yield Finding("replicas", "spec.maxReplicaCount", f"{most} is below 1, or below minReplicaCount")
    if not spec.get("triggers"):
        yield Finding("triggers", "spec.triggers", "there is none")
    for number, trigger in enumerate(spec.get("triggers") or ()):
        yield from _trigger(trigger, strategy, f"spec.triggers[{number}]")


def _job(job: dict[str, Any]) -> Iterator[Finding]:
    where = "spec.jobTargetRef"
    pod = at(job, "template.spec") or {}
    if pod.get("restartPolicy") not in ("Never", "OnFailure"):
        yield Finding(
            "restart-policy", f"{where}.template.spec.restartPolicy", "is neither Never nor OnFailure"
        )
    if job.get("backoffLimit") != 0:
        yield Finding("backoff-limit", f"{where}.backoffLimit", "advice: but for 0, attempts go uncounted")
    yield from common.metadata(at(job, "template.metadata"), f"{where}.template.metadata")
    for container in pod.get("containers") or ():
        yield from common.environment(container, f"{where}.template.spec.containers[{container.get('name')}]")


def _trigger(trigger: dict[str, Any], strategy: str, path: str) -> Iterator[Finding]:
    metadata = trigger.get("metadata") or {}
    kind = trigger.get("type", "")
    for name, value in metadata.items():
        if not isinstance(value, str):
            yield Finding("text", f"{path}.metadata.{name}", f"{value!r} must be text: put it in quotes")
    for name in _WANTED.get(kind, ()):
        if not metadata.get(name):
            yield Finding("scaler-field", f"{path}.metadata.{name}", f"is missing, and {kind} wants it")
    if kind == "postgresql":
        known = "connectionFromEnv" in metadata or trigger.get("authenticationRef") or metadata.get("host")
        if not known:
            yield Finding("scaler-address", path, "nothing says where the database is")
        for name in ("targetQueryValue", "activationTargetQueryValue"):
            if name in metadata and not re.fullmatch(r"\d+(\.\d+)?", str(metadata[name])):
                yield Finding("scaler-number", f"{path}.metadata.{name}", f"{metadata[name]!r} is no number")
    if kind == "aws-sqs-queue":
        if not metadata.get("queueURL") and not metadata.get("queueURLFromEnv"):
            yield Finding("scaler-field", f"{path}.metadata.queueURL", "is missing")
        if metadata.get("queueLength", "5") != "1" and metadata.get("scaleOnInFlight", "true") != "false":
            yield Finding(
                "queue-length",
                f"{path}.metadata.queueLength",
                "advice: 1, for a job each; or scaleOnInFlight false, for jobs that drain the queue",
            )
        if strategy == "accurate" and metadata.get("scaleOnInFlight", "true") != "false":
            yield Finding(
                "counted-twice", f"{path}.metadata.scaleOnInFlight", "with accurate it counts what runs twice"
            )
