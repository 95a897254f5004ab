"""Ghosts on a deployed circuit: by the entry, the broker and the tasks' own processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.runtime.broker import Broker, Weather, send
from tests.runtime.cluster import Cluster, wait_for
from tests.runtime.conftest import Deploy, Home, deploy, home

__all__ = ["deploy", "home"]

CIRCUIT = """
[c]
(in[3], other passive) double (twice)
    run = cat {in} {in}
(twice) heavy (weighed)
    run = cat {twice}
    mode = job
(weighed) last (out)
    run = cat {weighed}
    region = eu
wire out
    to = outbox/{id}
"""
EVENT = {
    "ce-specversion": "1.0",
    "ce-type": "t",
    "ce-source": "/s",
    "ce-id": "1",
    "Prefer": "return=representation",
}


def followed(cluster: Cluster, walk: str, timeout: float, status: int = 0) -> dict[str, Any]:
    """What `koalja-fn ghost --follow` says in the console of the circuit."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "koalja_fn",
            "ghost",
            "--follow",
            walk,
            "--timeout",
            str(timeout),
            "-o",
            "json",
        ],
        env={**os.environ, **cluster.environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == status, done.stderr + cluster.logs()
    return dict(json.loads(done.stdout))


def begun(cluster: Cluster, wish: dict[str, Any]) -> str:
    headers = {"Content-Type": "application/json", "Prefer": "return=representation"}
    status, said = send(f"{cluster.entry}/ghost", json.dumps(wish).encode(), headers)
    assert status == 202, said
    return str(json.loads(said)["accepted"][0]["walk"])


def test_a_ghost_goes_by_the_broker_to_each_pod_and_nothing_runs(deploy: Deploy, home: Home) -> None:
    cluster = deploy(CIRCUIT, registry=home.registry, store=home.store, settings=home.settings)
    report = followed(cluster, begun(cluster, {"wires": ["in"], "type": "text/csv", "size": 7}), 30)
    (road,) = report["roads"]
    assert [stop.get("task") or stop["wire"] for stop in road["stops"]] == [
        "in",
        "double",
        "twice",
        "heavy",
        "weighed",
        "last",
        "out",
    ]
    double, heavy, last = road["stops"][1::2]
    assert double["where"] == last["where"] == os.uname().nodename
    assert double["version"] == cluster.opened.located["double"].version
    assert double["store"] == home.store
    assert last["region"] == "eu"
    assert heavy["where"] == ""
    assert [remark["code"] for remark in heavy["remarks"]] == ["not-started"]
    assert report["off"] == {"wires": ["other"], "tasks": []}
    assert {d.event.get("koaljaghost") for d in cluster.broker.deliveries} == {report["walk"]}
    assert cluster.broker.wrong == []
    with cluster.looking() as (registry, _):
        assert registry.read(lambda tx: tx.one("SELECT count(*) FROM value")) == (0,)
        assert registry.read(lambda tx: tx.one("SELECT count(*) FROM snapshot")) == (0,)


def test_a_ghost_event_to_the_entry_walks_as_well_and_values_go_on_as_before(deploy: Deploy) -> None:
    cluster = deploy(CIRCUIT)
    ghost = {**EVENT, "ce-koaljaghost": "true"}
    status, said = send(f"{cluster.entry}/c/in", b"", ghost)
    assert status == 202
    (one,) = json.loads(said)["accepted"]
    again = json.loads(send(f"{cluster.entry}/c/in", b"", ghost)[1])["accepted"][0]
    assert (one["duplicate"], again["duplicate"]) == (False, True)
    assert followed(cluster, one["walk"], 30)["complete"]
    assert cluster.send("other", b"o") == 202
    for n in range(3):
        assert cluster.send("in", f"{n}".encode()) == 202
    wait_for(lambda: cluster.contents("twice") == ["012012"], what=cluster.logs())
    assert cluster.findings() == []


def test_links_that_do_not_answer_are_told_when_time_is_over(deploy: Deploy) -> None:
    cluster = deploy(CIRCUIT, broker=Broker(weather=Weather(loses=1.0)))
    walk = begun(cluster, {})
    report = followed(cluster, walk, 0.5, status=10)
    assert {(one["wire"], one["task"]) for one in report["unanswered"]} == {
        ("in", "double"),
        ("other", "double"),
    }
    assert not report["complete"]
    assert report["off"]["tasks"] == ["double", "heavy", "last"]


def test_a_ghost_gets_through_a_broker_that_repeats_and_delays(deploy: Deploy) -> None:
    cluster = deploy(CIRCUIT, broker=Broker(weather=Weather(repeats=0.9, delays=0.9)), pods=2)
    report = followed(cluster, begun(cluster, {}), 30)
    assert len(report["ghosts"]) == 5
    assert report["unanswered"] == []


@pytest.mark.parametrize("home", ["postgres and s3"], indirect=True)
def test_a_store_that_can_not_be_reached_from_a_pod_is_told_before_data_come(
    deploy: Deploy, home: Home
) -> None:
    settings = {**home.settings, "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}
    cluster = deploy(CIRCUIT, registry=home.registry, store=home.store, settings=settings)
    report = followed(cluster, begun(cluster, {}), 60, status=5)
    assert {"double", "last"} == {one["at"] for one in report["refused"] if one["code"] == "store"}


def test_a_wish_for_a_wire_that_is_not_there_is_refused(deploy: Deploy) -> None:
    cluster = deploy(CIRCUIT)
    status, said = send(f"{cluster.entry}/ghost", b'{"wires": ["inn"]}', {"Content-Type": "application/json"})
    assert status == 404
    assert b"did you mean 'in'" in said
    status, _ = send(f"{cluster.entry}/ghost", b"[1]", {"Content-Type": "application/json"})
    assert status == 400
