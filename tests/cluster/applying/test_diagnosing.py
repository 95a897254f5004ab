"""The first real cause of what does not get ready, from statuses as clusters really have them."""

from __future__ import annotations

from typing import Any

import pytest

from koalja_fn.cluster.client import Cluster
from koalja_fn.cluster.diagnosing import Cause, diagnose
from koalja_fn.cluster.kinds import SERVICE, Object
from koalja_fn.cluster.waiting import wait_ready
from koalja_fn.errors import NotReady
from tests.cluster.applying.api import Api
from tests.cluster.applying.told import Told, quick_clock

NAME = "weather--average"
REVISION = f"{NAME}-00001"
LABELS = {"koalja.dev/circuit": "weather"}
UNREADY: Object = {
    "latestCreatedRevisionName": REVISION,
    "conditions": [
        {"type": "ConfigurationsReady", "status": "Unknown"},
        {"type": "Ready", "status": "Unknown"},
        {"type": "RoutesReady", "status": "Unknown", "reason": "RevisionMissing"},
    ],
}
DEPLOYING = {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "Deploying"}]}


def service(api: Api, status: Object = UNREADY) -> Object:
    api.stuck["Service", NAME] = status
    metadata = {"name": NAME, "namespace": "there", "labels": LABELS}
    return api.add(
        {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": metadata, "spec": {}}
    )


def revision(api: Api, status: Object = DEPLOYING) -> None:
    metadata = {"name": REVISION, "namespace": "there"}
    api.add(
        {"apiVersion": "serving.knative.dev/v1", "kind": "Revision", "metadata": metadata, "status": status}
    )


def pod(api: Api, **status: Any) -> Object:
    metadata = {"name": "p-1", "namespace": "there", "labels": {"serving.knative.dev/revision": REVISION}}
    told = {"phase": "Pending", **status}
    return api.add({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}, "status": told})


def waits(reason: str, message: str = "", **more: Any) -> list[Object]:
    state = {"waiting": {"reason": reason, "message": message}}
    return [
        {"name": "queue-proxy", "ready": False, "state": {"running": {}}},
        {"name": "koalja", "image": "registry.example/x", "ready": False, "state": state, **more},
    ]


def found(api: Api, cluster: Cluster) -> Cause:
    live = cluster.get(SERVICE, "there", NAME)
    assert live is not None
    cause = diagnose(cluster, live)
    assert cause is not None
    return cause


@pytest.mark.parametrize(
    ("message", "cure"),
    [
        (
            'rpc error: code = NotFound desc = failed to resolve reference "x": not found',
            "koalja-fn deploy again",
        ),
        ("failed to authorize: 401 Unauthorized", "--pull-secret"),
        ("failed to do request: http: server gave HTTP response to HTTPS client", "plain HTTP"),
        ("failed to do request: x509: certificate signed by unknown authority", "certificate"),
        ("failed to do request: dial tcp: lookup reg.local: no such host", "--images"),
    ],
)
def test_an_image_that_cannot_be_pulled(api: Api, cluster: Cluster, message: str, cure: str) -> None:
    service(api)
    revision(api)
    pod(api, containerStatuses=waits("ImagePullBackOff", message))
    cause = found(api, cluster)
    assert "registry.example/x can't be pulled" in cause.what
    assert (cause.why, cause.final) == (message, True)
    assert cure in cause.cure


def test_older_kubelets_say_in_an_event_why_an_image_is_not_pulled(api: Api, cluster: Cluster) -> None:
    service(api)
    revision(api)
    uid = pod(api, containerStatuses=waits("ImagePullBackOff", "Back-off pulling image"))["metadata"]["uid"]
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "there"}}
    told = "Failed to pull image: manifest unknown"
    api.add({**event, "involvedObject": {"uid": uid}, "reason": "Failed", "message": told})
    assert found(api, cluster).why == told


def test_a_program_that_ends_at_once_is_told_with_its_last_words(api: Api, cluster: Cluster) -> None:
    service(api)
    revision(api)
    api.logs["p-1"] = ["koalja: KOALJA_STORE must be set where KOALJA_REGISTRY is"]
    last = {"terminated": {"exitCode": 2, "reason": "Error"}}
    pod(api, containerStatuses=waits("CrashLoopBackOff", restartCount=3, lastState=last))
    cause = found(api, cluster)
    assert cause.what == "its container ends as soon as it starts"
    assert "exit code 2, restarted 3 times" in cause.why
    assert "| koalja: KOALJA_STORE must be set" in cause.why
    assert "koalja-fn install" in cause.cure


def test_memory(api: Api, cluster: Cluster) -> None:
    service(api)
    revision(api)
    last = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    pod(api, containerStatuses=waits("CrashLoopBackOff", restartCount=2, lastState=last))
    assert "more memory" in found(api, cluster).what


def test_a_missing_secret(api: Api, cluster: Cluster) -> None:
    service(api)
    revision(api)
    pod(api, containerStatuses=waits("CreateContainerConfigError", 'secret "koalja-registry" not found'))
    cause = found(api, cluster)
    assert (cause.why, cause.final) == ('secret "koalja-registry" not found', True)
    assert "koalja-fn install" in cause.cure


def test_no_room(api: Api, cluster: Cluster) -> None:
    service(api)
    revision(api)
    text = "0/1 nodes are available: 1 Insufficient cpu."
    pod(
        api,
        conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": text}],
    )
    cause = found(api, cluster)
    assert (cause.what, cause.why, cause.final) == ("no node has room for its pod", text, False)


def test_no_room_is_told_as_such_when_only_the_revision_says_so(api: Api, cluster: Cluster) -> None:
    """Knative takes over the scheduler's words, also when the pod is gone."""
    text = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate"
    service(api)
    revision(
        api,
        {"conditions": [{"type": "Ready", "status": "False", "reason": "Unschedulable", "message": text}]},
    )
    cause = found(api, cluster)
    assert (cause.what, cause.final) == ("no node has room for its pod", False)
    assert "less cpu" in cause.cure


def test_a_quota(api: Api, cluster: Cluster) -> None:
    service(api)
    revision(api)
    text = 'pods "x" is forbidden: exceeded quota: q, requested: cpu=100m, used: cpu=1, limited: cpu=1'
    status = {
        "conditions": [
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": text}
        ]
    }
    metadata = {"name": f"{REVISION}-deployment", "namespace": "there"}
    api.add({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "status": status})
    cause = found(api, cluster)
    assert (cause.why, cause.final) == (text, True)
    assert "larger quota" in cause.cure


def test_a_runtime_that_cannot_reach_its_registry_says_so(api: Api, cluster: Cluster) -> None:
    service(api)
    revision(api)
    api.logs["p-1"] = ["koalja: RegistryError while opening: the database does not answer"]
    ready = [
        {"name": "koalja", "ready": True, "state": {"running": {}}},
        {"name": "queue-proxy", "ready": False, "state": {"running": {}}},
    ]
    pod(api, phase="Running", containerStatuses=ready)
    cause = found(api, cluster)
    assert (cause.why, cause.final) == (api.logs["p-1"][0], False)
    assert "doctor --cluster" in cause.cure


def test_no_network_layer(api: Api, cluster: Cluster) -> None:
    service(api)
    revision(api, {"conditions": [{"type": "Ready", "status": "True"}]})
    told = {
        "type": "IngressReady",
        "status": "Unknown",
        "reason": "IngressNotConfigured",
        "message": "Ingress ...",
    }
    metadata = {"name": NAME, "namespace": "there"}
    route = {"apiVersion": "serving.knative.dev/v1", "kind": "Route", "metadata": metadata}
    api.add({**route, "status": {"conditions": [told]}})
    assert "network layer" in found(api, cluster).what


def test_no_controller(api: Api, cluster: Cluster) -> None:
    service(api, {})
    assert "no controller has looked at" in found(api, cluster).what


def test_waiting_ends_early_where_it_is_in_vain(api: Api, cluster: Cluster, told: Told) -> None:
    item = service(api)
    revision(api)
    pod(api, containerStatuses=waits("ImagePullBackOff", "failed to resolve reference: not found"))
    clock = quick_clock()
    with pytest.raises(NotReady, match="can't be pulled"):
        wait_ready(cluster, "there", [item], timeout=600, teller=told, clock=clock)
    assert clock.now() < 30


def test_waiting_has_a_limit_and_names_all_that_are_late(api: Api, cluster: Cluster, told: Told) -> None:
    item = service(api)
    metadata = {"name": "weather", "namespace": "there", "labels": LABELS}
    api.stuck["Broker", "weather"] = {"conditions": [{"type": "Ready", "status": "Unknown"}]}
    broker = api.add({"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": metadata})
    clock = quick_clock()
    with pytest.raises(NotReady, match=r"not ready after 20 seconds.*nor: weather"):
        wait_ready(cluster, "there", [item, broker], timeout=20, teller=told, clock=clock)
    assert 20 <= clock.now() < 22


def test_a_node_that_may_still_come_has_the_whole_time(api: Api, cluster: Cluster, told: Told) -> None:
    text = "0/1 nodes are available: 1 Insufficient cpu."
    failed = [{"type": "Ready", "status": "False", "reason": "RevisionFailed", "message": text}]
    item = service(api, {**UNREADY, "conditions": failed})
    revision(api)
    pod(api, conditions=[{"type": "PodScheduled", "status": "False", "message": text}])
    clock = quick_clock()
    with pytest.raises(NotReady, match="after 200 seconds: no node has room"):
        wait_ready(cluster, "there", [item], timeout=200, teller=told, clock=clock)
    assert clock.now() >= 200


def test_what_a_controller_said_of_an_earlier_generation_does_not_count(
    api: Api, cluster: Cluster, told: Told
) -> None:
    item = service(api, {"conditions": [{"type": "Ready", "status": "True"}], "observedGeneration": 0})
    with pytest.raises(NotReady):
        wait_ready(cluster, "there", [item], timeout=5, teller=told, clock=quick_clock())
