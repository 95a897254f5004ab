"""What a runtime answers: exactly what makes a Broker go on, try again, or give up."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.broker import OF_BROKER, post, send
from tests.runtime.cluster import Cluster, Pod, wait_for

WIRING = """
[c]
(in) copy (out)
    run = sh copy.sh {in}
(a, b) join (both)
    run = cat {a} {b}
wire in
    type = text/plain
"""
COPY = """
case "$(cat "$1")" in
sleep*) sleep 3 ;;
hang*) touch "$KOALJA_CODE/../started"; sleep 60 ;;
esac
cat "$1"
"""
RING = {"specversion": "1.0", "id": "1", "source": "/x", "type": "dev.koalja.ring.v1", "koaljatask": "copy"}
JSON = {"Content-Type": "application/cloudevents+json"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("answers") / "c"
    folder.mkdir()
    (folder / "c.koalja").write_text(WIRING)
    (folder / "copy.sh").write_text(COPY)
    made = Cluster(folder, folder.parent / "home", settings={"KOALJA_GRACE_SECONDS": "30"})
    made.start()
    yield made
    made.stop()


def url_of(cluster: Cluster, task: str = "copy") -> str:
    return cluster.pods[task][0].url


def test_a_doorbell_with_nothing_to_do_is_answered_202_without_a_body(cluster: Cluster) -> None:
    assert post(url_of(cluster), RING, headers=OF_BROKER) == (202, b"")


@pytest.mark.parametrize("kind", ["application/cloudevents+json", "application/cloudevents-batch+json"])
def test_a_doorbell_is_understood_in_every_mode(cluster: Cluster, kind: str) -> None:
    event = dict(RING)
    body = json.dumps([event] if "batch" in kind else event).encode()
    assert send(url_of(cluster), body, {"Content-Type": kind}) == (202, b"")


def test_a_foreign_event_becomes_a_value_of_the_tasks_only_source_and_is_worked_on(cluster: Cluster) -> None:
    event = {"specversion": "1.0", "id": "f1", "source": "/foreign", "type": "com.example"}
    for _ in range(2):
        assert post(url_of(cluster), event, "text/plain", b"foreign", OF_BROKER) == (202, b"")
    assert cluster.contents("out").count("foreign") == 1
    structured = json.dumps({**event, "id": "f2", "data": "structured"}).encode()
    assert send(url_of(cluster), structured, JSON) == (202, b"")
    assert cluster.contents("out").count('"structured"') == 1


def test_the_same_event_with_another_content_goes_to_the_dead_letters(cluster: Cluster) -> None:
    event = {"specversion": "1.0", "id": "twice", "source": "/foreign", "type": "com.example"}
    assert post(url_of(cluster), event, "text/plain", b"one", OF_BROKER)[0] == 202
    assert post(url_of(cluster), event, "text/plain", b"two", OF_BROKER)[0] == 422


def test_where_several_wires_could_be_meant_a_retry_is_useless(cluster: Cluster) -> None:
    event = {"specversion": "1.0", "id": "x", "source": "/foreign", "type": "com.example"}
    status, body = post(url_of(cluster, "join"), event, "text/plain", b"x", OF_BROKER)
    assert status == 422
    assert b"a, b" in body


def test_what_is_no_event_is_refused_for_good(cluster: Cluster) -> None:
    assert send(url_of(cluster), b"raw", {"Content-Type": "text/plain"})[0] == 400
    assert send(url_of(cluster), b"{", JSON)[0] == 400
    assert post(url_of(cluster), {"id": "1", "type": "x"}, headers=OF_BROKER)[0] == 400


def test_an_unknown_wire_is_not_tried_again_by_a_broker(cluster: Cluster) -> None:
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
    assert post(f"{cluster.entry}/c/nowhere", event)[0] == 404
    assert post(f"{cluster.entry}/c/nowhere", event, headers=OF_BROKER)[0] == 422


def test_the_entry_gives_receipts_to_who_asks_for_them(cluster: Cluster) -> None:
    status, body = send(f"{cluster.entry}/c/a", b"1", {"Prefer": "return=representation"})
    assert status == 202
    assert json.loads(body)["accepted"][0]["wire"] == "a"
    assert send(f"{cluster.entry}/c/a", b"2", {}) == (202, b"")


def test_a_request_stays_open_while_it_works(cluster: Cluster) -> None:
    event = {"specversion": "1.0", "id": "long", "source": "/s", "type": "t"}
    began = time.monotonic()
    assert post(url_of(cluster), event, "text/plain", b"sleep", OF_BROKER)[0] == 202
    assert time.monotonic() - began > 2.9
    assert "sleep" in cluster.contents("out")


def test_a_request_that_finds_no_free_place_leaves_at_once_and_its_value_is_not_left(
    cluster: Cluster,
) -> None:
    event = {"specversion": "1.0", "source": "/s", "type": "t"}
    first = threading.Thread(
        target=post, args=(url_of(cluster), {**event, "id": "p1"}, "text/plain", b"sleep 1", OF_BROKER)
    )
    first.start()
    wait_for(lambda: "sleep 1" in cluster.contents("in"))
    time.sleep(0.3)
    began = time.monotonic()
    assert post(url_of(cluster), {**event, "id": "p2"}, "text/plain", b"after", OF_BROKER)[0] == 202
    assert time.monotonic() - began < 2
    first.join()
    wait_for(lambda: "after" in cluster.contents("out"), what="the next with the commit")


def test_without_its_registry_a_runtime_asks_to_be_asked_again(cluster: Cluster, tmp_path: Path) -> None:
    environ = {**cluster.environ, "KOALJA_ROLE": "entry", "KOALJA_REGISTRY": f"sqlite:{tmp_path}/none/x.db"}
    pod = Pod(cluster.folder, environ, tmp_path / "pod")
    pod.start()
    try:
        pod.wait("/healthz")
        assert post(pod.url, RING, headers=OF_BROKER)[0] == 503
        assert pod._get("/readyz") == 503
        (tmp_path / "none").mkdir()
        cluster.where, before = f"sqlite:{tmp_path}/none/x.db", cluster.where
        cluster.install()
        cluster.where = before
        wait_for(lambda: post(pod.url, RING, headers=OF_BROKER)[0] == 202)
    finally:
        pod.kill()


def test_sigterm_lets_a_program_end_and_its_result_is_committed(cluster: Cluster) -> None:
    pod = cluster.pods["copy"][0]
    event = {"specversion": "1.0", "id": "term", "source": "/s", "type": "t"}
    answers: list[int] = []

    def ask() -> None:
        answers.append(post(pod.url, event, "text/plain", b"sleep 2", OF_BROKER)[0])

    thread = threading.Thread(target=ask)
    thread.start()
    wait_for(lambda: "sleep 2" in cluster.contents("in"))
    time.sleep(0.5)
    assert pod.stop() == 0
    thread.join()
    assert answers == [202]
    assert "sleep 2" in cluster.contents("out")
    pod.start()
    pod.wait()


def test_what_does_not_end_within_the_grace_is_given_back_uncounted(cluster: Cluster) -> None:
    """The default grace is Knative's longest; here it is 16 s, of which the last 15 are for giving back."""
    pod = cluster.pods["copy"][0]
    pod.stop()
    pod.environ["KOALJA_GRACE_SECONDS"] = "16"
    pod.start()
    pod.wait()
    event = {"specversion": "1.0", "id": "hang", "source": "/s", "type": "t"}
    thread = threading.Thread(target=post, args=(pod.url, event, "text/plain", b"hang", OF_BROKER))
    thread.start()
    wait_for((cluster.folder.parent / "started").exists)
    began = time.monotonic()
    assert pod.stop() == 0
    assert time.monotonic() - began < 15
    thread.join()
    assert cluster.told("copy")[-1]["outcome"] == "cancelled"
    with cluster.looking() as (registry, _):
        row = registry.read(lambda tx: tx.one("SELECT attempts, state FROM snapshot WHERE state <> 'done'"))
    assert row == (0, "ready")
    pod.environ["KOALJA_GRACE_SECONDS"] = "30"
    (cluster.folder / "copy.sh").write_text(COPY.replace("sleep 60", "true"))
    cluster.rewire(WIRING)
    pod.start()
    pod.wait()
    assert post(pod.url, RING, headers=OF_BROKER)[0] == 202
    wait_for(lambda: "hang" in cluster.contents("out"), what=cluster.logs())
    assert cluster.findings() == []


def test_sigint_ends_it_too(cluster: Cluster, tmp_path: Path) -> None:
    pod = Pod(cluster.folder, {**cluster.environ, "KOALJA_ROLE": "entry"}, tmp_path / "pod")
    pod.start()
    pod.wait()
    assert pod.process is not None
    pod.process.send_signal(signal.SIGINT)
    try:
        assert pod.process.wait(20) == 0
    except subprocess.TimeoutExpired:
        pod.kill()
        raise
