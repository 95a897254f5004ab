"""A request has an end: what does not fit is left to the next one, and nothing is counted against it."""

from __future__ import annotations

import json

from tests.runtime.broker import send
from tests.runtime.cluster import Cluster, wait_for
from tests.runtime.conftest import Deploy

WIRING = """
[c]
(in) slow (out)
    run = sh slow.sh {in}
    retries = 0
"""
SLOW = {"slow.sh": 'sleep "$(cat "$1")"; cat "$1"\n'}
# A request of 5 s works for 4.5 s.
SHORT = {"KOALJA_REQUEST_SECONDS": "5"}


def send_batch(cluster: Cluster, *seconds: str) -> None:
    batch = [
        {
            "specversion": "1.0",
            "id": str(n),
            "source": "/s",
            "type": "t",
            "datacontenttype": "text/plain",
            "data": text,
        }
        for n, text in enumerate(seconds)
    ]
    kind = {"Content-Type": "application/cloudevents-batch+json"}
    assert send(f"{cluster.entry}/c/in", json.dumps(batch).encode(), kind)[0] == 202


def test_what_does_not_fit_into_a_request_is_left_to_another_one(deploy: Deploy) -> None:
    cluster = deploy(WIRING, SLOW, settings=SHORT)
    send_batch(cluster, *["1.5"] * 4)
    wait_for(lambda: len(cluster.contents("out")) == 4, what=cluster.logs())
    assert {said["outcome"] for said in cluster.told("slow")} == {"done"}
    wait_for(
        lambda: any(d.trigger == "slow-ring" for d in cluster.broker.deliveries),
        what="a ring for a request of its own",
    )
    assert max(d.seconds for d in cluster.broker.deliveries) < 5


def test_an_execution_that_was_begun_too_late_is_begun_again_uncounted(deploy: Deploy) -> None:
    """With `retries = 0` one counted attempt would be the end of it."""
    cluster = deploy(WIRING, SLOW, settings=SHORT)
    send_batch(cluster, "1", "3.9")
    wait_for(lambda: cluster.contents("out") == ["1", "3.9"], what=cluster.logs())
    assert [said["outcome"] for said in cluster.told("slow")] == ["done", "cancelled", "done"]
    assert cluster.findings() == []


def test_what_takes_longer_than_a_whole_request_fails_and_says_so(deploy: Deploy) -> None:
    cluster = deploy(WIRING, SLOW, settings=SHORT)
    send_batch(cluster, "30")
    wait_for(lambda: cluster.told("slow"), what=cluster.logs())
    said = cluster.told("slow")[0]
    assert said["outcome"] == "dead"
    assert "mode = job" in said["message"]
