"""Circuits as they are deployed: processes for each task, an entry, and a broker between them."""

from __future__ import annotations

import json
import time

from tests.runtime.broker import Broker, Weather, post, send
from tests.runtime.cluster import wait_for
from tests.runtime.conftest import Deploy

CHAIN = """
[c]
(in) double (twice)
    run = cat {in} {in}
(twice[2]) pair (pairs)
    run = cat {twice}
"""


def test_values_run_through_a_chain_of_services_and_come_out_once(deploy: Deploy) -> None:
    cluster = deploy(CHAIN)
    for n in range(6):
        assert cluster.send("in", f"{n}".encode(), Content_Type="text/plain") == 202
    wait_for(lambda: len(cluster.contents("pairs")) == 3, what=cluster.logs())
    assert cluster.contents("pairs") == ["0011", "2233", "4455"]
    assert cluster.findings() == []
    assert cluster.broker.wrong == []
    assert {d.status for d in cluster.broker.deliveries} == {202}


def test_a_synchronous_broker_that_holds_the_sender_only_slows_it_down(deploy: Deploy) -> None:
    cluster = deploy(CHAIN, broker=Broker(synchronous=True))
    for n in range(4):
        assert cluster.send("in", f"{n}".encode()) == 202
    wait_for(lambda: len(cluster.contents("pairs")) == 2, what=cluster.logs())
    assert cluster.findings() == []


def test_what_a_lost_ring_left_is_found_by_the_sweep(deploy: Deploy) -> None:
    cluster = deploy(CHAIN, broker=Broker(weather=Weather(loses=1.0)))
    for n in range(2):
        assert cluster.send("in", f"{n}".encode()) == 202
    cluster.broker.weather = Weather()
    assert cluster.sweep() == 202
    wait_for(lambda: cluster.contents("pairs") == ["0011"], what=cluster.logs())


WIDE = """
[c]
(in) slow (out)
    run = sh slow.sh {in}
    concurrency = 4
"""


def test_one_ring_for_many_values_brings_as_many_to_work_as_there_are_places(deploy: Deploy) -> None:
    """Knative scales on requests in flight: whoever forms more than it can take calls others."""
    cluster = deploy(WIDE, {"slow.sh": 'sleep 1; cat "$1"\n'}, pods=2, places=2)
    batch = [{"specversion": "1.0", "id": str(n), "source": "/s", "type": "t", "data": n} for n in range(8)]
    began = time.monotonic()
    kind = {"Content-Type": "application/cloudevents-batch+json"}
    assert send(f"{cluster.entry}/c/in", json.dumps(batch).encode(), kind)[0] == 202
    wait_for(lambda: len(cluster.contents("out")) == 8, what=cluster.logs())
    assert time.monotonic() - began < 6.5  # one after the other it is more than 8 s
    assert cluster.findings() == []


TIMED = """
[c]
(a[3]) few (out)
    run = cat {a}
(b[2-3]) some (early)
    run = cat {b}
    within = 1s
() tick (ticks)
    run = sh tick.sh
    every = 1s
(c) fails (never)
    run = sh -c "exit 1"
    backoff = 500ms
    retries = 2
"""


def test_times_that_are_near_are_waited_for_inside_the_request(deploy: Deploy) -> None:
    """Without a sweep: the first ring of each task is the last one."""
    cluster = deploy(TIMED, {"tick.sh": "echo tick\n"})
    cluster.send("b", b"1")
    cluster.send("b", b"2")
    cluster.send("c", b"x")
    cluster.sweep()
    wait_for(lambda: cluster.contents("early") == ["12"], what=cluster.logs())
    wait_for(lambda: len(cluster.contents("ticks")) >= 3, what=cluster.logs())
    wait_for(lambda: "dead" in [said["outcome"] for said in cluster.told("fails")], what=cluster.logs())
    assert [said["outcome"] for said in cluster.told("fails")] == ["failed", "failed", "dead"]
    assert cluster.findings() == []


BACKLOG = """
[c]
(in) quick (mid)
    run = cat {in}
(mid) slow (out)
    run = sh slow.sh {mid}
    backlog = 2
"""


def test_a_producer_that_waited_for_a_full_backlog_is_called_when_there_is_room(deploy: Deploy) -> None:
    cluster = deploy(BACKLOG, {"slow.sh": 'sleep 0.1; cat "$1"\n'})
    for n in range(8):
        assert cluster.send("in", f"{n}".encode()) == 202
    wait_for(lambda: len(cluster.contents("out")) == 8, what=cluster.logs())
    assert cluster.contents("out") == [str(n) for n in range(8)]


JOBS = """
[c]
(in) heavy (mid)
    run = cat {in}
    mode = job
(mid) light (out)
    run = cat {mid}
"""


def test_a_job_finds_its_snapshot_formed_runs_it_and_rings(deploy: Deploy) -> None:
    """Nobody listens for a job's rings: who puts values on its wires forms for KEDA to count."""
    cluster = deploy(JOBS)
    assert cluster.send("in", b"x") == 202
    assert cluster.ready("heavy") == 1
    job = cluster.run_role("job", task="heavy")
    assert job.returncode == 0, job.stderr
    wait_for(lambda: cluster.contents("out") == ["x"], what=cluster.logs())
    assert cluster.run_role("job", task="heavy").returncode == 0, "a job that finds nothing ends well"
    assert cluster.findings() == []


def test_the_sweep_as_a_job_takes_up_what_was_lost(deploy: Deploy) -> None:
    cluster = deploy(CHAIN, broker=Broker(weather=Weather(loses=1.0)))
    cluster.send("in", b"1")
    cluster.send("in", b"2")
    cluster.broker.weather = Weather()
    assert cluster.run_role("sweep").returncode == 0
    wait_for(lambda: cluster.contents("pairs") == ["1122"], what=cluster.logs())


def test_foreign_events_on_the_broker_enter_where_a_wire_accepts_their_type(deploy: Deploy) -> None:
    cluster = deploy(CHAIN + "wire in\n    accept = com.example.reading\n")
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "com.example.reading"}
    for _ in range(2):
        assert post(cluster.address, event, "text/plain", b"5")[0] == 202
    # The broker keeps no order: what comes later is posted later.
    wait_for(lambda: cluster.contents("in") == ["5"], what=cluster.logs())
    assert post(cluster.address, {**event, "type": "com.example.other"}, "text/plain", b"6")[0] == 202
    assert post(cluster.address, {**event, "id": "2"}, "text/plain", b"7")[0] == 202
    wait_for(lambda: cluster.contents("pairs") == ["5577"], what=cluster.logs())
    assert post(cluster.entry, {**event, "type": "com.example.other"}, "text/plain", b"6")[0] == 422


def test_what_a_trigger_could_not_deliver_is_on_record(deploy: Deploy) -> None:
    cluster = deploy(CHAIN)
    ring = {
        "specversion": "1.0",
        "id": "1",
        "source": "/s",
        "type": "dev.koalja.value.v1",
        "koaljawire": "in",
    }
    more = {"knativeerrorcode": "500", "knativeerrordata": "bm8gbHVjaw"}
    assert post(f"{cluster.entry}/letters", {**ring, **more})[0] == 202
    foreign = {"specversion": "1.0", "id": "2", "source": "/s", "type": "x", "knativeerrorcode": "422"}
    assert post(f"{cluster.entry}/letters", foreign, "text/plain", b"lost?")[0] == 202
    with cluster.looking() as (registry, store):
        remark = registry.read(lambda tx: tx.one("SELECT kind, text FROM remark"))
        refused = registry.read(lambda tx: tx.one("SELECT event_id, digest, reason FROM refusal"))
        assert remark is not None
        assert remark[0] == "undelivered"
        assert "500" in remark[1]
        assert refused is not None
        assert refused[0] == "2"
        assert store.read(refused[1]) == b"lost?"


def test_a_new_install_is_followed_at_the_next_ring(deploy: Deploy) -> None:
    """The same code with other attributes is attached to anew; other code is left to the new revision."""
    cluster = deploy(CHAIN)
    cluster.send("in", b"1")
    cluster.send("in", b"2")
    wait_for(lambda: cluster.contents("pairs") == ["1122"], what=cluster.logs())
    cluster.rewire(CHAIN.replace("twice[2]", "twice[3]"))
    for n in b"345":
        cluster.send("in", bytes([n]))
    wait_for(lambda: cluster.contents("pairs") == ["1122", "334455"], what=cluster.logs())
    cluster.rewire(CHAIN.replace("cat {twice}", "cat {twice} /dev/null"))
    for n in b"67":
        cluster.send("in", bytes([n]))
    wait_for(lambda: cluster.contents("twice")[-1] == "77", what=cluster.logs())
    cluster.sweep()
    assert cluster.contents("pairs") == ["1122", "334455"]
    for pod in cluster.pods["pair"]:
        pod.kill()
        pod.start()
        pod.wait()
    cluster.sweep()
    wait_for(lambda: cluster.contents("pairs") == ["1122", "334455", "6677"], what=cluster.logs())
    assert cluster.findings() == []
