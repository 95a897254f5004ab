"""What is rendered of what the wiring says: places and pods, who is rung, what is left out."""

from __future__ import annotations

import fnmatch
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koalja_fn.cluster import eventing
from koalja_fn.cluster.captions import caption
from koalja_fn.cluster.rendering import console, left_out, render
from koalja_fn.cluster.services import shares
from koalja_fn.cluster.settings import Settings
from koalja_fn.engine.ringing import RING_TYPE, News, call_headers, news_headers
from koalja_fn.errors import UsageError
from koalja_fn.events.values import VALUE_TYPE
from koalja_fn.model import Task
from tests.cluster.rendering.circuits import (
    FULL,
    NAMES,
    circuit_of,
    images_of,
    objects_of,
    of_kind,
    wired,
)

RUNTIME_SETTINGS = Path(__file__).resolve().parents[3] / "runtime/koalja_runtime/settings.py"
SIDE = """\
(in) learn (model)
    run = cat {in}
(model) server (lookup implicit)
    run = cat {model}
(json, lookup implicit) predict (result)
    run = cat {json}
"""


def environment(item: dict[str, Any]) -> dict[str, Any]:
    spec = item["spec"]
    template = spec.get("template") or spec["jobTargetRef"]["template"]
    return {one["name"]: one.get("value") for one in template["spec"]["containers"][0]["env"]}


def attributes_of(headers: dict[str, str]) -> dict[str, str]:
    return {name.removeprefix("ce-"): text for name, text in headers.items()}


def hears(trigger: dict[str, Any], event: dict[str, str]) -> bool:
    """What a Broker does with a plain filter."""
    wanted = trigger["spec"].get("filter", {}).get("attributes")
    return wanted is not None and all(event.get(name) == text for name, text in wanted.items())


# Services


@pytest.mark.parametrize(
    ("concurrency", "scale", "most", "wanted"),
    [
        (1, None, 4, (1, 1)),
        (3, None, 4, (3, 1)),
        (9, None, 4, (4, 3)),
        (8, 2, 4, (4, 2)),
        (8, 3, 1, (3, 3)),
        (1, 5, 4, (1, 5)),
    ],
)
def test_places_and_pods_are_enough_for_the_concurrency(
    concurrency: int, scale: int | None, most: int, wanted: tuple[int, int]
) -> None:
    found = shares(Task("t", concurrency=concurrency, scale=scale), most)
    assert found == wanted
    assert found[0] * found[1] >= concurrency


def test_a_pod_takes_more_requests_than_it_has_places_and_is_scaled_by_its_places() -> None:
    spec = of_kind(objects_of(circuit_of("plant")), "Service")["plant--sort"]["spec"]["template"]
    notes = spec["metadata"]["annotations"]
    assert notes["autoscaling.knative.dev/target"] == "4"
    assert notes["autoscaling.knative.dev/target-utilization-percentage"] == "100"
    assert notes["autoscaling.knative.dev/max-scale"] == "2"
    assert spec["spec"]["containerConcurrency"] == 12
    assert spec["spec"]["timeoutSeconds"] == spec["spec"]["responseStartTimeoutSeconds"] == 600


def test_the_runtime_is_told_its_role_and_secrets_come_by_reference_only() -> None:
    service = of_kind(objects_of(circuit_of("plant"), FULL), "Service")["plant--sort"]
    env = environment(service)
    assert (env["KOALJA_ROLE"], env["KOALJA_CIRCUIT"], env["KOALJA_TASK"]) == ("task", "plant", "sort")
    assert (env["KOALJA_PLACES"], env["KOALJA_REQUEST_SECONDS"], env["KOALJA_GRACE_SECONDS"]) == (
        "4", "600", "600",
    )  # fmt: skip
    assert env["AWS_ENDPOINT_URL_S3"] == "https://s3.example.org"
    container = service["spec"]["template"]["spec"]["containers"][0]
    secret = next(one for one in container["env"] if one["name"] == "KOALJA_REGISTRY")
    assert secret["valueFrom"] == {"secretKeyRef": {"name": "koalja-registry", "key": "dsn"}}
    assert container["envFrom"] == [{"secretRef": {"name": "koalja-store", "optional": True}}]


def test_the_runtime_takes_the_settings_that_it_is_given() -> None:
    """The runtime's own reading of its environment: names and ranges are one contract."""
    spec = importlib.util.spec_from_file_location("runtime_settings", RUNTIME_SETTINGS)
    assert spec is not None
    assert spec.loader is not None
    runtime = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runtime)
    for name in NAMES:
        objects = [o for o in objects_of(circuit_of(name), FULL) if o["kind"] in ("Service", "ScaledJob")]
        for item in objects:
            given = {**environment(item), "KOALJA_REGISTRY": "postgresql://x/y"}
            told = runtime.Settings.of(given)
            assert told.role == given["KOALJA_ROLE"]
            assert told.circuit == name
            assert told.scratch == "/scratch"


@pytest.mark.parametrize("name", NAMES)
def test_containers_keep_to_the_restricted_profile_and_have_no_rights(name: str) -> None:
    objects = objects_of(circuit_of(name))
    objects.append(console(name, "ghcr.io/me/entry", Settings(store="s3://bucket"), namespace="n"))
    seen = 0
    for item in objects:
        if item["kind"] not in ("Service", "ScaledJob", "Pod"):
            continue
        spec = item["spec"]
        if item["kind"] != "Pod":
            spec = (spec.get("template") or spec["jobTargetRef"]["template"])["spec"]
        context = spec["containers"][0]["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert context["runAsNonRoot"]
        assert context["runAsUser"] == 1000
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["serviceAccountName"] == "koalja"
        assert spec["enableServiceLinks"] is False
        assert spec["volumes"] == [{"name": "scratch", "emptyDir": {"sizeLimit": "10Gi"}}]
        seen += 1
    assert seen >= 3


def test_where_the_cluster_chooses_the_user_none_is_named() -> None:
    service = of_kind(objects_of(circuit_of("weather"), {"user": ""}), "Service")["weather--entry"]
    context = service["spec"]["template"]["spec"]["containers"][0]["securityContext"]
    assert "runAsUser" not in context
    assert context["runAsNonRoot"]


# Who is rung


@pytest.mark.parametrize("name", NAMES)
def test_a_value_rings_exactly_the_services_that_read_its_wire(name: str) -> None:
    circuit = circuit_of(name)
    triggers = of_kind(objects_of(circuit), "Trigger").values()
    for wire in circuit.wires:
        event = attributes_of(news_headers(circuit.name, News(wire, "1", "/s", "sha256:00", 1)))
        rung = [
            t["metadata"]["labels"]["koalja.dev/task"]
            for t in triggers
            if hears(t, event) and "koalja.dev/task" in t["metadata"]["labels"]
        ]
        wanted = [t.name for t in circuit.readers(wire) if t.mode == "service"]
        assert sorted(rung) == sorted(wanted)


def test_a_ring_of_a_task_to_itself_reaches_that_task_only() -> None:
    circuit = circuit_of("plant")
    event = attributes_of(call_headers("plant", "weld", "r1"))
    heard = [t for t in of_kind(objects_of(circuit), "Trigger").values() if hears(t, event)]
    assert [t["spec"]["subscriber"]["ref"]["name"] for t in heard] == ["plant--weld"]


def test_circuits_in_one_namespace_do_not_hear_one_another() -> None:
    event = attributes_of(news_headers("other", News("lot", "1", "/s")))
    assert not [t for t in of_kind(objects_of(circuit_of("plant")), "Trigger").values() if hears(t, event)]


def test_what_can_not_be_delivered_goes_to_the_entry_and_no_delivery_has_a_time_limit() -> None:
    triggers = of_kind(objects_of(circuit_of("plant")), "Trigger")
    assert triggers
    for trigger in triggers.values():
        delivery = trigger["spec"]["delivery"]
        assert delivery["deadLetterSink"]["ref"]["name"] == "plant--entry"
        assert delivery["deadLetterSink"]["uri"] == "/letters"
        assert "timeout" not in delivery


def test_jobs_are_not_rung() -> None:
    plant = objects_of(circuit_of("plant"))
    assert "plant--press" in of_kind(plant, "ScaledJob")
    assert "plant--press" not in of_kind(plant, "Service")
    assert not [t for t in of_kind(plant, "Trigger") if t.startswith("plant--press--")]


def test_a_service_on_the_side_is_one_pod_for_the_cluster_only_and_askers_know_its_address() -> None:
    circuit = wired(SIDE)
    services = of_kind(objects_of(circuit), "Service")
    service = services["test--server"]
    assert service["metadata"]["labels"]["networking.knative.dev/visibility"] == "cluster-local"
    assert service["spec"]["template"]["metadata"]["annotations"]["autoscaling.knative.dev/max-scale"] == "1"
    assert _environment(service)["KOALJA_ROLE"] == "service"
    told = {name: _environment(one).get("KOALJA_SERVICES") for name, one in services.items()}
    address = "server=http://test--server.plants.svc.cluster.local"
    assert {name for name, text in told.items() if text == address} == {"test--predict"}
    assert {text for name, text in told.items() if name != "test--predict"} == {None}
    assert left_out(circuit) == []


def test_who_asks_a_service_may_reach_the_gateways_where_egress_is_limited() -> None:
    found = of_kind(objects_of(wired(SIDE), {"egress": "10.0.3.0/24:5432"}), "NetworkPolicy")
    [policy] = [one for name, one in found.items() if name.endswith("--egress")]
    others = of_kind(objects_of(circuit_of("weather"), {"egress": "10.0.4.7"}), "NetworkPolicy")[
        "weather--egress"
    ]
    assert "kourier-system" in str(policy)
    assert "kourier-system" not in str(others)
    reach = of_kind(objects_of(circuit_of("weather"), {"egress": "10.0.4.7"}), "NetworkPolicy")[
        "weather--reach"
    ]
    assert reach["spec"]["podSelector"]["matchLabels"]["koalja.dev/part"] == "console"
    assert "kourier-system" in str(reach)  # by which it reaches the entry and the tasks


def _environment(service: dict[str, Any]) -> dict[str, str]:
    [container] = service["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one.get("value", "") for one in container["env"]}


@given(
    st.lists(st.sampled_from(["*", "?", "a", "b.", "org.example", "x%y", "_"]), min_size=1, max_size=5),
    st.lists(st.sampled_from(["a", "b.", "org.example", "x%y", "_", "z"]), min_size=1, max_size=6),
)
def test_a_filter_for_foreign_events_hears_what_the_pattern_means(parts: list[str], kind: list[str]) -> None:
    pattern, text = "".join(parts), "".join(kind)
    assert heard_by(eventing.foreign(pattern), text) == fnmatch.fnmatchcase(text, pattern)


def test_a_broker_that_compares_whole_types_only_is_given_no_pattern() -> None:
    with pytest.raises(UsageError, match=r"accept = \*, \*\.alarm, a\*b\?c, com\.shop\.\* can't be had"):
        objects_of(circuit_of("plant"), {"broker-class": "RabbitMQBroker"})
    whole = wired("wire a\n    accept = org.example.order\n(a) t (b)\n    run = cat {a}\n")
    heard = of_kind(objects_of(whole, {"broker-class": "RabbitMQBroker"}), "Trigger").values()
    assert all("filters" not in trigger["spec"] for trigger in heard)


@pytest.mark.parametrize("pattern", ["*", "dev.*", "*.v1", "dev.koalja.*", "*koalja*"])
def test_our_own_doorbells_are_no_foreign_events(pattern: str) -> None:
    for own in (VALUE_TYPE, RING_TYPE):
        assert not heard_by(eventing.foreign(pattern), own)
    assert heard_by(eventing.foreign("*"), "org.example")


def heard_by(told: dict[str, Any], kind: str) -> bool:
    """What a Broker does with our filters for types."""
    if "filter" in told:
        return told["filter"]["attributes"]["type"] == kind
    return all(_dialect(one, kind) for one in told["filters"])


def _dialect(one: dict[str, Any], kind: str) -> bool:
    ((name, said),) = one.items()
    if name == "not":
        return not _dialect(said, kind)
    if name == "cesql":
        like = re.fullmatch(r"type LIKE '(.*)'", said)
        assert like
        return _like(like[1], kind)
    match = {"exact": str.__eq__, "prefix": str.startswith, "suffix": str.endswith}[name]
    return bool(match(kind, said["type"]))


def _like(pattern: str, text: str) -> bool:
    """CESQL's LIKE: % is any text, _ one character, a backslash takes the next sign as it is."""
    signs = re.findall(r"\\.|.", pattern)
    regex = "".join(
        {"%": ".*", "_": "."}.get(sign, re.escape(sign[1] if len(sign) == 2 else sign)) for sign in signs
    )
    return re.fullmatch(regex, text, re.DOTALL) is not None


# Brokers


def test_the_channel_stands_before_its_broker_and_has_the_same_delivery() -> None:
    objects = objects_of(circuit_of("weather"))
    kinds = [item["kind"] for item in objects]
    assert kinds.index("InMemoryChannel") < kinds.index("Broker") < kinds.index("Service")
    channel = of_kind(objects, "InMemoryChannel")["weather-kne-trigger"]
    assert channel["metadata"]["annotations"]["messaging.knative.dev/async-handler"] == "true"
    broker = of_kind(objects, "Broker")["weather"]
    assert channel["spec"]["delivery"] == broker["spec"]["delivery"]


@pytest.mark.parametrize(
    "settings", [{"broker-class": "Kafka"}, {"broker-class": "RabbitMQBroker"}, {"channel": "KafkaChannel"}]
)
def test_brokers_on_anything_else_get_no_channel(settings: dict[str, str]) -> None:
    assert not of_kind(objects_of(circuit_of("weather"), settings), "InMemoryChannel")


def test_a_broker_takes_the_configuration_of_its_class() -> None:
    chosen = {"broker-class": "RabbitMQBroker", "broker-config": "rabbit/small"}
    broker = of_kind(objects_of(circuit_of("weather"), chosen), "Broker")["weather"]
    assert broker["spec"]["config"] == {
        "apiVersion": "eventing.knative.dev/v1alpha1",
        "kind": "RabbitmqBrokerConfig",
        "namespace": "rabbit",
        "name": "small",
    }


def test_the_brokers_address_is_the_given_one_else_the_usual() -> None:
    circuit = circuit_of("linecount")
    chosen = Settings(store="s3://bucket")

    def address(**more: str) -> str:
        found = render(circuit, images_of(circuit), chosen, {}, namespace="plants", **more)
        return str(environment(of_kind(found, "Service")["linecount--entry"])["KOALJA_BROKER"])

    assert address(broker="http://kafka/here") == "http://kafka/here"
    assert address() == "http://broker-ingress.knative-eventing.svc.cluster.local/plants/linecount"


# The sweep, jobs


@pytest.mark.parametrize(
    ("ways", "kinds", "schedule"),
    [
        ("ping", ["PingSource"], "* * * * *"),
        ("keda", ["ScaledJob"], None),
        ("keda, ping", ["PingSource", "ScaledJob"], "*/10 * * * *"),
    ],
)
def test_the_sweep_goes_the_ways_that_the_settings_name(
    ways: str, kinds: list[str], schedule: str | None
) -> None:
    objects = objects_of(circuit_of("linecount"), {"sweep": ways})
    swept = [o for o in objects if o["metadata"]["name"] == "linecount--sweep"]
    assert sorted(o["kind"] for o in swept) == kinds
    if schedule:
        source = of_kind(objects, "PingSource")["linecount--sweep"]
        assert source["spec"]["schedule"] == schedule
        assert source["spec"]["sink"]["uri"] == "/sweep"


def test_a_job_has_the_tasks_own_time_and_no_more_pods_than_its_concurrency() -> None:
    jobs = of_kind(objects_of(circuit_of("plant")), "ScaledJob")
    press, paint = jobs["plant--press"]["spec"], jobs["plant--paint"]["spec"]
    assert press["maxReplicaCount"] == 3
    assert press["jobTargetRef"]["activeDeadlineSeconds"] > 7200
    assert "activeDeadlineSeconds" not in paint["jobTargetRef"]
    assert paint["maxReplicaCount"] == 1
    assert press["jobTargetRef"]["backoffLimit"] == 0
    assert environment(jobs["plant--press"])["KOALJA_ROLE"] == "job"


def test_jobs_need_keda_even_where_the_sweep_does_not() -> None:
    kinds = [o["kind"] for o in objects_of(circuit_of("plant"), {"sweep": "ping"})]
    assert kinds.count("ScaledJob") == 4  # two of tasks, two of wires that queues feed
    assert kinds.count("TriggerAuthentication") == 2
    without = [o["kind"] for o in objects_of(circuit_of("weather"), {"sweep": "ping"})]
    assert "TriggerAuthentication" not in without


# Queues


QUEUED = "wire a\n    from = sqs://jobs, s3://drops/*\n(a) t (b)\n    run = cat {a}\n"


def test_a_queue_is_drained_by_pods_that_keda_starts_while_messages_wait() -> None:
    objects = objects_of(wired(QUEUED), {"sweep": "ping", "queue-endpoint": "http://localstack:4566"})
    (job,) = of_kind(objects, "ScaledJob").values()
    (trigger,) = job["spec"]["triggers"]
    assert trigger["type"] == "aws-sqs-queue"
    assert trigger["metadata"] == {
        "queueURL": "http://localstack:4566/000000000000/jobs",
        "queueLength": "100",
        "activationQueueLength": "0",
        "awsRegion": "us-east-1",
        "scaleOnInFlight": "false",
        "awsEndpoint": "http://localstack:4566",
    }
    told = environment(job)
    assert (told["KOALJA_ROLE"], told["KOALJA_WIRE"]) == ("queue", "a")
    assert told["AWS_ENDPOINT_URL_SQS"] == "http://localstack:4566"
    assert job["spec"]["minReplicaCount"] == 0
    assert left_out(wired(QUEUED)) == []


def test_keda_looks_at_queues_by_the_runtimes_keys_by_reference_or_by_their_role() -> None:
    (keys,) = of_kind(objects_of(wired(QUEUED), {"sweep": "ping"}), "TriggerAuthentication").values()
    assert {one["name"] for one in keys["spec"]["secretTargetRef"]} == {"koalja-store"}
    settings = {"sweep": "ping", "aws-identity": "role"}
    (role,) = of_kind(objects_of(wired(QUEUED), settings), "TriggerAuthentication").values()
    assert role["spec"] == {"podIdentity": {"provider": "aws", "identityOwner": "workload"}}


def test_a_queue_is_named_by_its_address_where_it_is_known() -> None:
    jobs = of_kind(objects_of(circuit_of("plant"), {"region": "eu-central-1"}), "ScaledJob")
    asked = [
        (one["metadata"]["queueURL"], one["metadata"]["awsRegion"])
        for job in jobs.values()
        for one in job["spec"]["triggers"]
        if one["type"] == "aws-sqs-queue"
    ]
    assert asked == [
        ("any", "eu-central-1"),
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/more.fifo", "eu-west-1"),
        ("https://sqs.us-west-2.amazonaws.com/123456789012/drops", "us-west-2"),
    ]


# All of it


@pytest.mark.parametrize("name", NAMES)
def test_objects_have_names_of_their_own_and_the_labels_that_pruning_needs(name: str) -> None:
    objects = objects_of(circuit_of(name), FULL)
    named = [(o["kind"], o["metadata"]["name"]) for o in objects]
    assert len(set(named)) == len(named)
    for item in objects:
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "koalja-fn"
        assert labels["koalja.dev/circuit"] == name
        assert labels["koalja.dev/part"]
        assert item["metadata"]["namespace"] == "plants"
        assert caption(item).endswith((".", ")."))


def test_an_image_that_is_missing_is_named() -> None:
    circuit = circuit_of("linecount")
    images = images_of(circuit)
    images.pop("entry")
    with pytest.raises(UsageError, match="no image is known for entry"):
        render(circuit, images, Settings(store="s3://bucket"), {}, namespace="plants")


def test_programs_may_reach_only_what_the_settings_name() -> None:
    policy = of_kind(objects_of(circuit_of("weather"), FULL), "NetworkPolicy")["weather--egress"]["spec"]
    assert policy["podSelector"]["matchLabels"]["koalja.dev/circuit"] == "weather"
    blocks = [
        to["ipBlock"]["cidr"] for rule in policy["egress"] for to in rule.get("to", []) if "ipBlock" in to
    ]
    assert blocks == ["10.0.3.0/24", "10.0.4.7/32"]
    assert not of_kind(objects_of(circuit_of("weather")), "NetworkPolicy")


def test_what_names_files_is_said_to_be_left_out() -> None:
    circuit = wired(
        "wire a\n    from = inbox/*\nwire b\n    to = outbox/{id}\n(a) t (b)\n    run = cat {a}\n"
    )
    assert [line.partition(":")[0] for line in left_out(circuit)] == ["wire a", "wire b"]
    assert not [t for t in of_kind(objects_of(circuit), "Trigger") if "--to--" in t]
