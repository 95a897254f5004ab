"""`recompute` on a deployed circuit: driven from a console, run by pods, while the circuit goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from tests.runtime.cluster import Cluster, wait_for
from tests.runtime.conftest import Deploy, Home

CHAIN = """
[c]
(in) up (mid)
    run = sh up.sh {in}
    concurrency = 3
    retries = 3
    backoff = 0.1s
(mid[3/1]) join (out)
    run = cat {mid}
"""
OLD = 'echo x >> "$KOALJA_CODE/../ran"; echo old $(cat "$1")\n'
NEW = OLD.replace("old", "new")


def begin(cluster: Cluster, *words: str) -> subprocess.Popen[str]:
    places = {n: {"address": p.url, "image": "i"} for n, p in cluster.proxies.items() if n != "entry"}
    process = subprocess.Popen(
        [sys.executable, "-m", "koalja_fn", "recompute", "--deployed", *words],
        env={"PATH": os.environ["PATH"], **cluster.environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(places))
    process.stdin.close()
    process.stdin = None
    return process


def recompute(cluster: Cluster, *words: str) -> dict[str, Any]:
    process = begin(cluster, "-o", "json", *words)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err + cluster.logs()
    return dict(json.loads(out))


def redeploy(cluster: Cluster, program: str) -> None:
    """Deploy other code of `up`: its pods are replaced."""
    (cluster.folder / "up.sh").write_text(program)
    cluster.rewire(CHAIN)
    for pod in cluster.pods["up"]:
        pod.stop()
        pod.start()
    for pod in cluster.pods["up"]:
        pod.wait()


class Flood:
    """Sends numbers until each is accepted."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent: list[int] = []

    def __enter__(self) -> Flood:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            number = len(self.sent)
            named = {"ce_id": str(number), "ce_source": "/flood", "ce_type": "n", "ce_specversion": "1.0"}
            while self._cluster.send("in", str(number).encode(), **named) != 202:
                time.sleep(0.05)
            self.sent.append(number)
            self._over.wait(0.05)


def check(cluster: Cluster, sent: Sequence[int]) -> None:
    """Each value came out once, by the new code, and all logs replay."""
    cluster.sweep()
    cluster.wait_until_idle(90)
    mid = cluster.contents("mid")
    assert sorted(mid) == sorted(f"new {number}\n" for number in sent)
    windows = ["".join(mid[n : n + 3]) for n in range(len(mid) - 2)]
    assert sorted(cluster.contents("out")) == sorted(windows)
    assert cluster.findings() == []


@pytest.mark.parametrize("home", ["sqlite and files", "postgres and s3"], indirect=True)
def test_pods_run_it_while_values_come(deploy: Deploy, home: Home) -> None:
    cluster = deploy(
        CHAIN, {"up.sh": OLD}, registry=home.registry, store=home.store, settings=home.settings, pods=2
    )
    with Flood(cluster) as flood:
        wait_for(lambda: len(flood.sent) > 8)
        redeploy(cluster, NEW)
        told = recompute(cluster, "c")
        assert told["state"] == "done"
        assert told["tasks"]["up"]["again"] >= 1
        before = len(flood.sent)
        wait_for(lambda: len(flood.sent) > before + 5)
    check(cluster, flood.sent)


def test_killed_consoles_and_pods_lose_nothing(deploy: Deploy) -> None:
    chance = random.Random(7)
    cluster = deploy(CHAIN, {"up.sh": OLD + "sleep 0.05\n"}, pods=2)
    cluster.sweep_each(1.0)
    with Flood(cluster) as flood:
        wait_for(lambda: len(flood.sent) > 15)
        redeploy(cluster, NEW + "sleep 0.05\n")
        for number in range(3):
            process = begin(cluster, "-q", "c")
            time.sleep(0.4 + chance.random())  # the moment is what is tried
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=30)
            pod = cluster.pods["up"][number % 2]
            pod.kill()
            pod.start()
        for pod in cluster.pods["up"]:
            pod.wait()
        done = begin(cluster, "-q", "c")
        _, err = done.communicate(timeout=90)
        assert done.returncode == 0, err + cluster.logs()
    check(cluster, flood.sent)


def test_a_dead_letter_is_one_in_the_pod_that_ran_it(deploy: Deploy) -> None:
    cluster = deploy(CHAIN, {"up.sh": OLD})
    for number in range(4):
        cluster.send("in", str(number).encode())
    cluster.wait_until_idle()
    redeploy(cluster, 'case "$(cat "$1")" in 2) exit 9;; esac; echo new $(cat "$1")\n')
    process = begin(cluster, "-o", "json", "c")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 4, err + cluster.logs()
    assert json.loads(out)["tasks"]["up"] == {"again": 3, "dead": 1}
    assert cluster.contents("mid") == ["new 0\n", "new 1\n", "new 3\n"]
    assert cluster.findings() == []


@pytest.mark.parametrize("home", ["postgres and s3"], indirect=True)
def test_over_what_is_shared_programs_of_the_folder_run_if_they_are_the_deployed_ones(
    deploy: Deploy, home: Home
) -> None:
    cluster = deploy(CHAIN, {"up.sh": OLD}, registry=home.registry, store=home.store, settings=home.settings)
    for number in range(5):
        cluster.send("in", str(number).encode())
    cluster.wait_until_idle()

    def shared(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "koalja_fn", "recompute", str(cluster.folder), *words],
            env={"PATH": os.environ["PATH"], **cluster.environ},
            capture_output=True,
            text=True,
            timeout=60,
        )

    (cluster.folder / "up.sh").write_text(NEW)
    refused = shared()
    assert refused.returncode == 2
    assert "the code of task up is not the deployed one" in refused.stderr
    redeploy(cluster, NEW)
    done = shared("-o", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tasks"] == {"up": {"again": 5}, "join": {"again": 3}}
    cluster.send("in", b"5")
    wait_for(lambda: len(cluster.contents("mid")) == 6)
    check(cluster, range(6))


def test_a_task_that_runs_as_a_job_is_refused_with_the_reason(deploy: Deploy) -> None:
    cluster = deploy(CHAIN.replace("concurrency = 3", "mode = job"), {"up.sh": OLD})
    cluster.send("in", b"0")
    wait_for(lambda: cluster.ready("up") == 1)
    assert cluster.run_role("job", "up").returncode == 0
    process = begin(cluster, "--task", "up", "c")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "runs as a job" in err


pytestmark = pytest.mark.timeout(200)
