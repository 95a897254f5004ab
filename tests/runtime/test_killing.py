"""Runtimes are killed at random behind a broker in bad weather: nothing is lost, nothing comes twice."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.broker import Broker, Weather, send
from tests.runtime.cluster import Cluster
from tests.runtime.conftest import Home

ROUNDS = int(os.environ.get("KOALJA_CLUSTER_ROUNDS", "3"))

WIRING = """
[storm]
    backoff = 1ms
    retries = 60

(in) fan (left, right)
    run = sh fan.sh {in}

(left[3]) triple (threes)
    run = cat {left}

(right[5/2]) slide (fives)
    run = cat {right}
    concurrency = 3

(left, right) join (pairs)
    run = cat {left} {right}
    concurrency = 2

(pairs) doomed (never)
    run = grep -v 7 {pairs}
    retries = 1

(threes, fives) flaky (out)
    run = sh flaky.sh {threes} {fives}

wire in
    type = text/plain
"""
PROGRAMS = {
    "fan.sh": 'cp "$1" "$KOALJA_OUT/left"; cp "$1" "$KOALJA_OUT/right"\n',
    "flaky.sh": '[ "$(od -An -N1 -tu1 /dev/urandom)" -lt 40 ] && { echo "no luck" >&2; exit 3; }\ncat "$@"\n',
}


class Sender:
    """Sends numbered events to the entry until each was acknowledged; some more often."""

    def __init__(self, cluster: Cluster, chance: random.Random) -> None:
        self.cluster, self.chance = cluster, chance
        self.acknowledged: set[int] = set()
        self.unsure: list[int] = []
        self.sent = 0

    def send(self, count: int) -> None:
        """Send so many new values, with unsure ones again and some that were acknowledged long ago."""
        numbers = [self.sent + n for n in range(count)] + self.unsure
        self.sent, self.unsure = self.sent + count, []
        if self.acknowledged:
            numbers.append(self.chance.choice(sorted(self.acknowledged)))
        self.chance.shuffle(numbers)
        while numbers:
            some = [numbers.pop() for _ in range(min(len(numbers), self.chance.randint(1, 4)))]
            events = [
                {"specversion": "1.0", "id": str(n), "source": "/s", "type": "t",
                 "datacontenttype": "text/plain", "data": f"{n}\n"}
                for n in some
            ]  # fmt: skip
            kind = {"Content-Type": "application/cloudevents-batch+json"}
            url = f"{self.cluster.entry}/{self.cluster.circuit.name}/in"
            status, _ = send(url, json.dumps(events).encode(), kind)
            if status == 202:
                self.acknowledged |= set(some)
            else:
                self.unsure += some


@pytest.fixture
def storm(tmp_path: Path, home: Home) -> Iterator[Cluster]:
    folder = tmp_path / "storm"
    folder.mkdir()
    (folder / "storm.koalja").write_text(WIRING)
    for name, text in PROGRAMS.items():
        (folder / name).write_text(text)
    broker = Broker(weather=Weather(loses=0.1, repeats=0.1, delays=0.3))
    cluster = Cluster(
        folder,
        tmp_path / "home",
        registry=home.registry,
        store=home.store,
        settings=home.settings,
        pods=2,
        places=2,
        broker=broker,
    )
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_nothing_is_lost_and_nothing_comes_twice_whatever_is_killed(storm: Cluster) -> None:
    chance = random.Random(20261123)
    sender = Sender(storm, chance)
    storm.sweep_each(0.5)
    pods = [pod for pods in storm.pods.values() for pod in pods]
    for _ in range(ROUNDS):
        sender.send(chance.randint(3, 8))
        time.sleep(chance.uniform(0.0, 0.5))
        victims = chance.sample(pods, chance.randint(1, 3))
        if storm.where.startswith("postgresql"):
            break_connections()
        for pod in victims:
            pod.kill()
        time.sleep(chance.uniform(0.0, 0.2))
        for pod in victims:
            pod.start()
    for pod in pods:
        pod.wait()
    while sender.unsure:
        sender.send(0)
    sender.send((3 - sender.sent % 3) % 3)
    try:
        storm.wait_until_idle(90 + 3 * ROUNDS)
    except AssertionError:
        raise AssertionError(storm.logs()) from None
    check(storm, sender)


def break_connections() -> None:
    """End some of the connections to PostgreSQL, whatever they are doing."""
    from tests.postgres.server import server

    with server().connect() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' ORDER BY random() LIMIT 4"
        )


def check(storm: Cluster, sender: Sender) -> None:
    assert storm.findings() == []
    came = storm.contents("in")
    count = len(came)
    assert sorted(int(text) for text in came) == list(range(sender.sent))
    assert len(sender.acknowledged) == sender.sent
    left, right = storm.contents("left"), storm.contents("right")
    assert left == right
    assert sorted(left) == sorted(came)
    assert sorted(storm.contents("pairs")) == sorted(text * 2 for text in left)
    threes = ["".join(left[n : n + 3]) for n in range(0, count - count % 3, 3)]
    assert sorted(storm.contents("threes")) == sorted(threes)
    fives = ["".join(right[n : n + 5]) for n in range(0, count - 4, 2)]
    assert sorted(storm.contents("fives")) == sorted(fives)
    assert len(storm.contents("out")) == min(len(threes), len(fives))
    passed, dead = storm.contents("never"), storm.dead("doomed")
    assert not [text for text in passed if "7" in text]
    assert len(passed) + dead == count
    assert storm.broker.wrong == []
