"""Each rule of the webhooks finds what breaks it, and nothing in what we render."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from koalja_fn.cluster import rules
from koalja_fn.errors import UsageError
from tests.cluster.rendering.circuits import FULL, NAMES, circuit_of, objects_of, of_kind

Break = Callable[[Any], object]
SERVING, AUTO = "spec.template.spec", "autoscaling.knative.dev"


def good(kind: str) -> dict[str, Any]:
    """An object of ours that the webhooks take."""
    names = {
        "Service": "plant--sort",
        "Broker": "plant",
        "InMemoryChannel": "plant-kne-trigger",
        "PingSource": "plant--sweep",
        "ScaledJob": "plant--press",
    }
    found = of_kind(objects_of(circuit_of("plant")), kind)
    return copy.deepcopy(found[names[kind]] if kind in names else next(iter(found.values())))


def annotate(name: str, value: Any) -> Break:
    return lambda item: item["spec"]["template"]["metadata"]["annotations"].update({f"{AUTO}/{name}": value})


def note(annotations: dict[str, Any]) -> Break:
    return lambda item: item["metadata"].update(annotations=annotations)


def job(item: Any) -> Any:
    return item["spec"]["jobTargetRef"]["template"]


def container(item: Any) -> Any:
    return item["spec"]["template"]["spec"]["containers"][0]


def pod(**fields: Any) -> Break:
    return lambda item: item["spec"]["template"]["spec"].update(fields)


def inside(**fields: Any) -> Break:
    return lambda item: container(item).update(fields)


def spec(**fields: Any) -> Break:
    return lambda item: item["spec"].update(fields)


def delivery(**fields: Any) -> Break:
    return lambda item: item["spec"]["delivery"].update(fields)


def filters(*found: Any) -> Break:
    def change(item: Any) -> None:
        item["spec"].pop("filter", None)
        item["spec"]["filters"] = list(found)

    return change


def scaler(kind: str, **metadata: Any) -> Break:
    return spec(triggers=[{"type": kind, "metadata": metadata, "authenticationRef": {"name": "a"}}])


SQS = {"queueURL": "https://sqs.eu-west-1.amazonaws.com/1/q", "queueLength": "1", "awsRegion": "eu-west-1"}
BROKEN: list[tuple[str, str, Break]] = [
    # any object
    ("name", "Broker", lambda o: o["metadata"].update(name="Weather_1")),
    ("name", "Broker", lambda o: o["metadata"].update(name="x" * 64)),
    ("label", "Broker", lambda o: o["metadata"]["labels"].update(a="not / this")),
    ("text", "Broker", lambda o: o["metadata"]["annotations"].update(a=True)),
    ("status", "Broker", lambda o: o.update(status={})),
    ("server-field", "Broker", lambda o: o["metadata"].update(resourceVersion="1")),
    ("server-field", "Service", note({"serving.knative.dev/creator": "me"})),
    # Serving
    ("autoscaling-place", "Service", note({f"{AUTO}/min-scale": "1"})),
    ("autoscaling-unknown", "Service", annotate("minScale", "1")),
    ("autoscaling-value", "Service", annotate("window", "5s")),
    ("autoscaling-value", "Service", annotate("window", "2h")),
    ("autoscaling-value", "Service", annotate("initial-scale", "0")),
    ("autoscaling-value", "Service", annotate("target", "0")),
    ("autoscaling-value", "Service", annotate("target-utilization-percentage", "101")),
    ("autoscaling-value", "Service", annotate("metric", "memory")),
    ("autoscaling-value", "Service", annotate("panic-window-percentage", "0.5")),
    ("autoscaling-value", "Service", annotate("panic-threshold-percentage", "100")),
    ("autoscaling-value", "Service", annotate("scale-down-delay", "61m")),
    ("autoscaling-value", "Service", annotate("target-burst-capacity", "-2")),
    ("autoscaling-value", "Service", annotate("class", "mine")),
    ("text", "Service", annotate("max-scale", 3)),
    ("scale-order", "Service", annotate("min-scale", "9")),
    ("revision-name", "Service", lambda o: o["spec"]["template"]["metadata"].update(name="plant--sort-a")),
    ("timeout", "Service", pod(timeoutSeconds=601, responseStartTimeoutSeconds=600)),
    ("timeout-order", "Service", pod(timeoutSeconds=300, responseStartTimeoutSeconds=301)),
    ("timeout-order", "Service", pod(idleTimeoutSeconds=601)),
    ("response-start", "Service", lambda o: o["spec"]["template"]["spec"].pop("responseStartTimeoutSeconds")),
    ("concurrency", "Service", pod(containerConcurrency=1001)),
    ("containers", "Service", pod(containers=[])),
    *(
        ("feature", "Service", pod(**{field: {}}))
        for field in (
            "affinity", "dnsPolicy", "hostAliases", "initContainers", "nodeSelector", "priorityClassName",
            "runtimeClassName", "securityContext", "shareProcessNamespace", "tolerations",
            "topologySpreadConstraints",
        )
    ),
    ("unknown-field", "Service", pod(terminationGracePeriodSeconds=30)),
    ("volume", "Service", pod(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}])),
    ("volume", "Service", pod(volumes=[{"name": "v", "hostPath": {"path": "/"}}])),
    ("image", "Service", inside(image="ghcr.io/x@sha256:12")),
    ("image", "Service", inside(image="192.0.2.1:5000/x")),
    ("container-name", "Service", inside(name="queue-proxy")),
    ("reserved-env", "Service", inside(env=[{"name": "PORT", "value": "80"}])),
    ("reserved-env", "Service", inside(env=[{"name": "K_REVISION", "value": "a"}])),
    ("feature", "Service", inside(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}])),
    ("text", "Service", inside(env=[{"name": "A", "value": 1}])),
    ("env-twice", "Service", inside(env=[{"name": "A", "value": "1", "valueFrom": {}}])),
    ("mount-path", "Service", inside(volumeMounts=[{"name": "scratch", "mountPath": "/dev/"}])),
    ("container-field", "Service", inside(lifecycle={"preStop": {}})),
    ("privileged", "Service", inside(securityContext={"privileged": True})),
    ("ports", "Service", inside(ports=[{"containerPort": 8080}, {"containerPort": 8081}])),
    ("port-name", "Service", inside(ports=[{"containerPort": 8080, "name": "grpc"}])),
    ("port-number", "Service", inside(ports=[{"containerPort": 8012}])),
    # Eventing
    ("broker-class", "Broker", note({})),
    ("broker-class", "Broker", note({"eventing.knative.dev/broker.class": "kafka"})),
    ("delivery-unknown", "Broker", delivery(backOffDelay="PT1S")),
    ("delivery-unknown", "InMemoryChannel", delivery(retries=3)),
    ("retry", "Trigger", delivery(retry=-1)),
    ("backoff-policy", "Trigger", delivery(backoffPolicy="random")),
    ("format", "Trigger", delivery(format="xml")),
    ("period", "Trigger", delivery(backoffDelay="1s")),
    ("period", "Trigger", delivery(backoffDelay="PT")),
    ("delivery-timeout", "Trigger", delivery(timeout="PT10S")),
    ("retry-after", "Trigger", delivery(retryAfterMax="PT30S")),
    ("destination", "Trigger", delivery(deadLetterSink={})),
    ("broker-ref", "Trigger", lambda o: o["spec"].pop("broker")),
    ("broker-ref", "Trigger", spec(brokerRef={"name": "other"})),
    ("cross-namespace", "Trigger", spec(brokerRef={"name": "other", "namespace": "there"})),
    ("destination", "Trigger", spec(subscriber={})),
    ("destination", "Trigger", spec(subscriber={"uri": "/here"})),
    ("destination", "Trigger", lambda o: o["spec"]["subscriber"].update(uri="http://there/")),
    ("reference", "Trigger", lambda o: o["spec"]["subscriber"]["ref"].pop("kind")),
    ("attribute-name", "Trigger", spec(filter={"attributes": {"MyWire": "a"}})),
    ("attribute-name", "Trigger", spec(filter={"attributes": {"my-wire": "a"}})),
    ("attribute-value", "Trigger", spec(filter={"attributes": {"wire": "a b"}})),
    ("text", "Trigger", spec(filter={"attributes": {"wire": 1}})),
    ("filter", "Trigger", spec(filter={"attributes": {}, "subscriber": {}})),
    ("filters-list", "Trigger", spec(filters={"exact": {"type": "a"}})),
    ("filter-twice", "Trigger", spec(filters=[{"exact": {"type": "a"}}])),
    ("dialects", "Trigger", filters({"exact": {"type": "a"}, "suffix": {"type": "b"}})),
    ("dialects", "Trigger", filters({})),
    ("dialects", "Trigger", filters({"all": [{"exact": {"type": "a"}, "prefix": {"type": "b"}}]})),
    ("dialects", "Trigger", filters({"not": {"exact": {"type": "a"}, "prefix": {"type": "b"}}})),
    ("dialect-unknown", "Trigger", filters({"contains": {"type": "a"}})),
    ("dependency", "Trigger", note({"knative.dev/dependency": "x"})),
    ("schedule", "PingSource", spec(schedule="@every 5s")),
    ("schedule", "PingSource", spec(schedule="every minute")),
    ("data-twice", "PingSource", spec(data="a", dataBase64="YQ==")),
    ("destination", "PingSource", spec(sink={})),
    # KEDA
    ("job-template", "ScaledJob", lambda o: o["spec"]["jobTargetRef"].pop("template")),
    ("rollout-old", "ScaledJob", spec(rolloutStrategy="gradual")),
    ("rollout", "ScaledJob", spec(rollout={})),
    ("strategy", "ScaledJob", spec(scalingStrategy={"strategy": "fast"})),
    ("replicas", "ScaledJob", spec(maxReplicaCount=0)),
    ("replicas", "ScaledJob", spec(minReplicaCount=5, maxReplicaCount=4)),
    ("triggers", "ScaledJob", spec(triggers=[])),
    ("restart-policy", "ScaledJob", lambda o: job(o)["spec"].update(restartPolicy="Always")),
    ("backoff-limit", "ScaledJob", lambda o: o["spec"]["jobTargetRef"].update(backoffLimit=2)),
    ("label", "ScaledJob", lambda o: job(o)["metadata"]["labels"].update(a="-")),
    ("text", "ScaledJob", scaler("postgresql", query="select 1", targetQueryValue=1)),
    ("scaler-field", "ScaledJob", scaler("postgresql", query="select 1")),
    ("scaler-number", "ScaledJob", scaler("postgresql", query="select 1", targetQueryValue="one")),
    ("scaler-address", "ScaledJob", spec(triggers=[{"type": "postgresql", "metadata": {"query": "q"}}])),
    ("scaler-field", "ScaledJob", scaler("aws-sqs-queue", queueLength="1", awsRegion="eu-west-1")),
    ("queue-length", "ScaledJob", scaler("aws-sqs-queue", **{**SQS, "queueLength": "5"})),
    ("scaler-field", "ScaledJob", scaler("aws-sqs-queue", queueURL="q", scaleOnInFlight="false")),
    ("text", "ScaledJob", scaler("aws-sqs-queue", **{**SQS, "queueLength": 1})),
    ("counted-twice", "ScaledJob", lambda o: o["spec"].update(
        scalingStrategy={"strategy": "accurate"}, triggers=[{"type": "aws-sqs-queue", "metadata": SQS}])),
]  # fmt: skip
EVENT_POLICY = {
    "apiVersion": "eventing.knative.dev/v1alpha1",
    "kind": "EventPolicy",
    "metadata": {"name": "a"},
    "spec": {},
}


def test_the_line_of_defence_is_not_crossed_by_ourselves() -> None:
    for name in NAMES:
        for settings in ({}, FULL, {"broker-class": "Kafka"}):
            found = [f for item in objects_of(circuit_of(name), settings) for f in rules.findings(item)]
            assert found == []


@pytest.mark.parametrize(("rule", "kind", "damage"), BROKEN, ids=[f"{r}-{k}" for r, k, _ in BROKEN])
def test_an_object_that_breaks_a_rule_is_found(rule: str, kind: str, damage: Break) -> None:
    item = good(kind)
    assert rules.findings(item) == []
    damage(item)
    assert rule in [finding.rule for finding in rules.findings(item)]


def test_each_rule_has_an_example_that_breaks_it() -> None:
    source = "".join(path.read_text() for path in Path(rules.__file__).parent.glob("*.py"))
    known = set(re.findall(r'Finding\(\s*"([a-z-]+)"', source))
    assert known == {rule for rule, _, _ in BROKEN} | {"event-policy"}


def test_an_event_policy_is_refused_where_authentication_is_off() -> None:
    assert [finding.rule for finding in rules.findings(EVENT_POLICY)] == ["event-policy"]


def test_all_that_is_wrong_is_said_at_once_with_the_object_and_the_field() -> None:
    trigger, service = good("Trigger"), good("Service")
    delivery(retry=-1)(trigger)
    annotate("window", "5s")(service)
    with pytest.raises(UsageError) as error:
        rules.check([trigger, service])
    assert "spec.delivery.retry: -1 is no number from 0" in error.value.why
    assert "Service plant--sort: spec.template.metadata.annotations" in error.value.why


def test_settings_that_a_cluster_would_refuse_end_before_it_is_asked() -> None:
    with pytest.raises(UsageError, match="a cluster would refuse") as error:
        objects_of(circuit_of("weather"), {"broker-class": "kafka"})
    assert "Kafka is meant, case counts" in error.value.why
