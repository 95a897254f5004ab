"""Deploying over a real HTTP API: order, nothing twice, one Trigger at a time, and after ^C anywhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from koalja_fn.cluster.client import Cluster
from koalja_fn.cluster.deleting import delete_circuit, stale_subscribers
from koalja_fn.cluster.deploying import Place, plan_of
from koalja_fn.cluster.planning import Change
from koalja_fn.errors import ClusterError, NotReady
from tests.cluster.applying.api import Api, kubeconfig
from tests.cluster.applying.circuits import SETTINGS, THREE, TWO, circuit_of, deployed, images_of
from tests.cluster.applying.told import Told, quick_clock

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


def test_each_stage_is_ready_before_the_next_is_applied(
    api: Api, cluster: Cluster, registry: Path, told: Told
) -> None:
    api.delay = 0.2
    deployed(cluster, registry, THREE, told)
    kinds = [kind for what, kind, _ in api.written if what == "apply"]
    order = ["TriggerAuthentication", "InMemoryChannel", "Broker", "Service", "Trigger"]
    first = {kind: kinds.index(kind) for kind in order}
    last = {kind: len(kinds) - 1 - kinds[::-1].index(kind) for kind in order}
    for before, after in pairwise(order):
        assert last[before] < first[after]
    assert set(kinds[last["Trigger"] + 1 :]) == {"ScaledJob", "PingSource"}


def test_runtimes_get_the_address_that_the_broker_says(
    api: Api, cluster: Cluster, registry: Path, told: Told
) -> None:
    deployed(cluster, registry, THREE, told)
    pod = api.one("Service", "weather--average")["spec"]["template"]["spec"]
    env = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
    assert env["KOALJA_BROKER"] == "http://real-ingress.eventing/there/weather"


def test_a_second_deploy_changes_nothing(api: Api, cluster: Cluster, registry: Path, told: Told) -> None:
    deployed(cluster, registry, THREE, told)
    api.written.clear()
    again = deployed(cluster, registry, THREE, told)
    assert (api.written, again.plan.empty, again.changes) == ([], True, ())


def test_a_new_image_changes_one_field_of_one_service(
    api: Api, cluster: Cluster, registry: Path, told: Told
) -> None:
    deployed(cluster, registry, TWO, told)
    circuit = circuit_of(TWO)
    images = images_of(circuit)
    references = {**images.references, "average": images.references["average"].replace("1" * 64, "2" * 64)}
    changed = type(images)(references, images.versions, ())
    plan = plan_of(Place(cluster, "there", SETTINGS), circuit, changed, told)
    (step,) = plan.of(Change.UPDATE)
    assert [one.path for one in step.differences] == ["spec.template.spec.containers.koalja.image"]
    assert plan.of(Change.CREATE, Change.PRUNE) == []


def test_showing_a_plan_writes_nothing(api: Api, cluster: Cluster, told: Told) -> None:
    circuit = circuit_of(THREE)
    plan = plan_of(Place(cluster, "there", SETTINGS), circuit, images_of(circuit), told)
    assert {step.change for step in plan.steps} == {Change.CREATE}
    assert api.written == []


def test_triggers_are_pruned_one_at_a_time_and_leave_no_subscriber(
    api: Api, cluster: Cluster, registry: Path, told: Told
) -> None:
    deployed(cluster, registry, THREE, told)
    before = len(api.names("Trigger"))
    deployed(cluster, registry, TWO, told)
    assert before - len(api.names("Trigger")) >= 4
    assert stale_subscribers(cluster, "there", "weather") == []
    assert set(api.names("Service")) == {"weather--entry", "weather--average"}


def test_triggers_that_go_at_once_would_leave_subscribers(
    api: Api, cluster: Cluster, registry: Path, told: Told
) -> None:
    """The double does what the real controller does; else the test above would say nothing."""
    deployed(cluster, registry, THREE, told)
    for name in api.names("Trigger")[:3]:
        api.delete(("eventing.knative.dev/v1", "triggers", "there", name))
    clock = quick_clock()
    while api.deleted:
        api.names("Trigger")
        clock.sleep(0.1)
    assert stale_subscribers(cluster, "there", "weather") != []


def test_what_belongs_to_somebody_else_is_not_touched(
    api: Api, cluster: Cluster, registry: Path, told: Told
) -> None:
    theirs = {"name": "weather", "namespace": "there", "labels": {"app": "theirs"}}
    api.add({"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": theirs, "spec": {}})
    with pytest.raises(ClusterError, match="belongs to somebody else"):
        deployed(cluster, registry, TWO, told)
    assert api.written == []


def test_a_cluster_without_ping_sources_is_good_enough(
    api: Api, cluster: Cluster, registry: Path, told: Told
) -> None:
    api.missing.add("pingsources")
    deployed(cluster, registry, TWO, told)
    assert any("PingSource weather--sweep is left out" in line for line in told.lines)
    assert api.names("ScaledJob") == ["weather--sweep"]


def test_a_ping_source_that_never_gets_ready_is_passed_over(
    api: Api, cluster: Cluster, registry: Path, told: Told
) -> None:
    api.stuck["PingSource", "weather--sweep"] = {"conditions": [{"type": "Ready", "status": "Unknown"}]}
    deployed(cluster, registry, TWO, told, clock=quick_clock())
    assert any("PingSource weather--sweep is not ready" in line for line in told.lines)


def test_an_api_server_that_stumbles_now_and_then_is_asked_again(
    api: Api, cluster: Cluster, registry: Path, told: Told
) -> None:
    count = iter(range(10_000))
    answers = {3: 503, 7: 0, 11: 500, 16: 429, 20: 0, 26: 504}
    api.faults.append(lambda method, path: answers.get(next(count) % 30))
    deployed(cluster, registry, THREE, told)
    api.faults.clear()
    assert deployed(cluster, registry, THREE, told).plan.empty


@pytest.mark.parametrize("after", [1, 3, 6, 10, 13])
def test_after_an_interruption_anywhere_the_same_call_goes_on(
    api: Api, cluster: Cluster, registry: Path, told: Told, tmp_path: Path, after: int
) -> None:
    api.delay = 0.05
    child: list[subprocess.Popen[str]] = []
    count = iter(range(1, 10_000))

    def interrupt(*_: Any) -> None:
        if next(count) == after:
            child[0].send_signal(signal.SIGINT)

    api.on_write = interrupt
    status = _child(api, tmp_path, registry, THREE, child)
    assert status == -signal.SIGINT, "it was to be interrupted before its end"
    api.on_write = None
    deployed(cluster, registry, THREE, told)
    assert api.state() == _state_of_one_go(tmp_path)
    assert deployed(cluster, registry, THREE, told).plan.empty


@pytest.mark.parametrize("after", [1, 3])
def test_a_prune_that_is_interrupted_goes_on(
    api: Api, cluster: Cluster, registry: Path, told: Told, tmp_path: Path, after: int
) -> None:
    deployed(cluster, registry, THREE, told)
    child: list[subprocess.Popen[str]] = []
    count = iter(range(1, 10_000))

    def interrupt(method: str, *_: Any) -> None:
        if method == "DELETE" and next(count) == after:
            child[0].send_signal(signal.SIGINT)

    api.on_write = interrupt
    assert _child(api, tmp_path, registry, TWO, child) == -signal.SIGINT
    api.on_write = None
    deployed(cluster, registry, TWO, told)
    assert stale_subscribers(cluster, "there", "weather") == []
    assert set(api.names("Service")) == {"weather--entry", "weather--average"}


def test_deleting_a_circuit_leaves_nothing_of_it(
    api: Api, cluster: Cluster, registry: Path, told: Told
) -> None:
    deployed(cluster, registry, THREE, told)
    seen: list[list[str]] = []
    delete_circuit(cluster, "there", "weather", told, forget=lambda: seen.append(api.names("Service")))
    kinds = {key.partition("/")[0] for key in api.state()}
    assert (kinds, seen) == ({"Namespace"}, [[]])
    assert delete_circuit(cluster, "there", "weather", told) == 0


def test_what_is_on_its_way_out_is_waited_for(api: Api, cluster: Cluster, registry: Path, told: Told) -> None:
    deployed(cluster, registry, TWO, told)
    key = ("serving.knative.dev/v1", "services", "there", "weather--average")
    api.objects[key]["metadata"]["deletionTimestamp"] = "2026-11-23T00:00:00Z"
    left = iter(range(3))

    def leave(method: str, path: str) -> None:
        listed = path.endswith("serving.knative.dev/v1/namespaces/there/services")
        if listed and next(left, None) == 2:
            del api.objects[key]

    api.faults.append(leave)
    deployed(cluster, registry, TWO, told)
    assert "deletionTimestamp" not in api.one("Service", "weather--average")["metadata"]


def test_deleting_gives_up_on_what_stays(api: Api, cluster: Cluster, told: Told) -> None:
    labels = {"app.kubernetes.io/managed-by": "koalja-fn", "koalja.dev/circuit": "weather"}
    labels["koalja.dev/part"] = "task"
    owner = [{"kind": "ReplicaSet", "name": "r"}]
    metadata = {"name": "busy", "namespace": "there", "labels": labels, "ownerReferences": owner}
    api.add({"apiVersion": "v1", "kind": "Pod", "metadata": metadata})
    with pytest.raises(NotReady, match="Pod busy: still there"):
        delete_circuit(cluster, "there", "weather", told, timeout=3, clock=quick_clock())


def _child(api: Api, folder: Path, registry: Path, wiring: str, child: list[subprocess.Popen[str]]) -> int:
    environ = {**os.environ, "KUBECONFIG": str(kubeconfig(api, folder)), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "tests.cluster.applying.circuits", str(registry), wiring]
    with subprocess.Popen(
        words, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
    ) as process:
        child.append(process)
        return process.wait(timeout=60)


def _state_of_one_go(folder: Path) -> dict[str, Any]:
    """What a deployment that nobody disturbs comes to."""
    from koalja_fn.cluster.kube import connect
    from tests.cluster.applying.api import serve

    api = Api()
    server = serve(api)
    api.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "there"}})
    calm = folder / "calm"
    calm.mkdir()
    before = os.environ["KUBECONFIG"]
    os.environ["KUBECONFIG"] = str(kubeconfig(api, calm))
    try:
        deployed(connect(), calm / "registry.db", THREE, Told())
        return api.state()
    finally:
        os.environ["KUBECONFIG"] = before
        server.shutdown()
        server.server_close()
