"""Services as they are deployed: a process of their own, asked by other pods through the recording proxy."""

from __future__ import annotations

import http.client
import threading
from pathlib import Path
from typing import Any

from koalja_fn.registry import lookups
from tests.runtime.cluster import Cluster, wait_for
from tests.runtime.conftest import Deploy
from tests.services.hall import SERVER

CIRCUIT = """
[c]
    backoff = 50ms
(model) server (lookup implicit)
    run = python3 server.py {model}
(q, lookup implicit) ask (answer)
    run = python3 ask.py {q}
    concurrency = 4
"""
ASK = """\
import os, sys, urllib.request
from pathlib import Path

asked = Path(sys.argv[1]).read_bytes()
url = os.environ["KOALJA_LOOKUP_URL"] + "/a%2Fb?c=d"
print(urllib.request.urlopen(urllib.request.Request(url, data=asked)).read().decode(), end="")
"""
PROGRAMS = {"server.py": SERVER, "ask.py": ASK}


def test_executions_wait_for_their_service_and_the_answers_are_on_record(deploy: Deploy) -> None:
    """A question that comes before the service has a model is rung for when the service is up."""
    cluster = deploy(CIRCUIT, PROGRAMS)
    assert cluster.send("q", b"one") == 202
    wait_for(lambda: cluster.ready("ask") == 1, what=cluster.logs())
    assert cluster.contents("answer") == []
    assert cluster.send("model", b"m1") == 202
    wait_for(lambda: cluster.contents("answer") == ["m1:one"], what=cluster.logs())
    found = _asked(cluster)
    assert [(one.lookup.method, one.lookup.path, one.lookup.status) for one in found] == [
        ("POST", "/a%2Fb?c=d", 200)
    ]
    assert (found[0].service, found[0].number) == ("server", 0)
    assert found[0].lookup.version == cluster.opened.located["server"].version
    assert cluster.findings() == []


def test_no_look_up_fails_while_a_new_model_takes_over(deploy: Deploy) -> None:
    cluster = deploy(CIRCUIT, PROGRAMS)
    cluster.send("model", b"m0")
    wait_for(lambda: _get(cluster, "/")[1] == b"m0:", what=cluster.logs())
    over, seen, wrong = threading.Event(), set(), []

    def ask() -> None:
        while not over.is_set():
            status, said = _get(cluster, "/")
            seen.add(said)
            if status != 200:
                wrong.append((status, said))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for n in range(1, 4):
        cluster.send("model", f"m{n}".encode())
        wait_for(lambda n=n: f"m{n}:".encode() in seen, what=cluster.logs())  # type: ignore[misc]
    over.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert cluster.findings() == []


def test_a_pod_that_was_killed_comes_back_with_the_last_model(deploy: Deploy) -> None:
    """Killed while it serves, and killed while its process is being started: its claim runs out."""
    cluster = deploy(CIRCUIT, {**PROGRAMS, "server.py": "import os, time\n" + _SLOW + SERVER})
    cluster.send("model", b"m1")
    wait_for(lambda: _get(cluster, "/")[1] == b"m1:", what=cluster.logs())
    [pod] = cluster.pods["server"]
    hold = Path(cluster.folder) / "hold"
    hold.touch()
    pod.kill()
    pod.start()
    wait_for(lambda: (Path(cluster.folder) / "held").exists(), what=cluster.logs())
    pod.kill()
    hold.unlink()
    pod.start()
    pod.wait()
    cluster.send("q", b"x")
    wait_for(lambda: cluster.contents("answer") == ["m1:x"], what=cluster.logs())
    assert cluster.findings() == []


_SLOW = """\
here = os.environ["KOALJA_CODE"]
while os.path.exists(here + "/hold"):
    open(here + "/held", "w").close()
    time.sleep(0.02)
"""


def test_a_service_that_dies_again_and_again_is_a_dead_letter_and_says_so(deploy: Deploy) -> None:
    cluster = deploy(CIRCUIT, {**PROGRAMS, "server.py": "raise SystemExit(9)"})
    cluster.send("model", b"m1")
    wait_for(lambda: cluster.dead("server") == 1, what=cluster.logs())
    status, said = wait_for(lambda: _refused(cluster), what=cluster.logs())
    assert status == 503
    assert b"dead letter" in said
    cluster.send("q", b"x")
    wait_for(lambda: cluster.ready("ask") == 1, what=cluster.logs())
    assert cluster.told("ask") == []


def test_the_sweep_starts_a_service_that_nobody_rang(deploy: Deploy) -> None:
    cluster = deploy(CIRCUIT, PROGRAMS)
    cluster.broker.triggers.clear()
    cluster.send("model", b"m1")
    triggers = cluster.links()
    cluster.broker.triggers += triggers
    assert cluster.sweep() == 202
    wait_for(lambda: _get(cluster, "/")[1] == b"m1:", what=cluster.logs())


def _get(cluster: Cluster, path: str) -> tuple[int, bytes]:
    """Ask the service's pod, as any client inside of a cluster may."""
    connection = http.client.HTTPConnection("127.0.0.1", cluster.pods["server"][0].port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _refused(cluster: Cluster) -> tuple[int, bytes] | None:
    status, said = _get(cluster, "/")
    return (status, said) if status != 200 else None


def _asked(cluster: Cluster) -> list[Any]:
    with cluster.looking() as (registry, _):
        row = registry.read(
            lambda tx: tx.one(
                "SELECT s.rid FROM snapshot s JOIN task t ON t.id = s.task WHERE t.name = 'ask'"
            )
        )
        assert row is not None
        return registry.read(lambda tx: lookups.of_snapshot(tx, int(row[0]), 10))
