"""`make` on a deployed circuit: the sources are what arrived, each program runs in its task's pod."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.runtime.broker import send
from tests.runtime.cluster import Cluster, wait_for
from tests.runtime.conftest import Deploy, Home

CHAIN = """
[c]
(in) count (counted)
    run = sh count.sh {in}
    concurrency = 4
(counted[2]) pair (pairs)
    run = cat {counted}
"""
COUNT = 'echo x >> "$KOALJA_CODE/ran"; wc -c < "$1" | tr -d " "\n'


def _places(cluster: Cluster, image: str = "sha256:one") -> dict[str, dict[str, str]]:
    return {
        name: {"address": proxy.url, "image": image}
        for name, proxy in cluster.proxies.items()
        if name != "entry"
    }


def _begin(cluster: Cluster, *words: str, image: str = "sha256:one") -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "koalja_fn", "make", "--deployed", *words],
        env={"PATH": os.environ["PATH"], **cluster.environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(_places(cluster, image)))
    process.stdin.close()
    process.stdin = None
    return process


def _make(cluster: Cluster, *words: str, image: str = "sha256:one") -> tuple[int, str, str]:
    process = _begin(cluster, *words, image=image)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def _made(cluster: Cluster, *words: str, image: str = "sha256:one") -> dict[str, Any]:
    status, out, err = _make(cluster, "-o", "json", *words, image=image)
    assert status == 0, err + cluster.logs()
    return dict(json.loads(out))


def _text(cluster: Cluster, value: dict[str, Any]) -> str:
    with cluster.looking() as (_, store):
        return store.read(value["digest"]).decode()


def _ran(cluster: Cluster) -> int:
    path = cluster.folder / "ran"
    return len(path.read_text().split()) if path.exists() else 0


def _quiet(cluster: Cluster) -> None:
    """No doorbell comes through: what runs was asked for."""
    cluster.broker.triggers.clear()


def test_only_what_arrived_since_is_run_and_the_values_are_those_of_push_mode(
    deploy: Deploy, home: Home
) -> None:
    cluster = deploy(
        CHAIN, {"count.sh": COUNT}, registry=home.registry, store=home.store, settings=home.settings, pods=2
    )
    _quiet(cluster)
    for text in (b"a", b"bb", b"ccc", b"dddd"):
        assert cluster.send("in", text) == 202
    first = _made(cluster, "c")
    assert [_text(cluster, value) for value in first["wires"]["pairs"]] == ["1\n2\n", "3\n4\n"]
    assert (len(first["made"]), _ran(cluster)) == (6, 4)
    assert cluster.contents("pairs") == []  # nothing is placed on the streams
    again = _made(cluster, "c")
    assert (again["made"], again["cached"], again["wires"]) == ([], 6, first["wires"])
    cluster.send("in", b"eeeee")
    cluster.send("in", b"f")
    more = _made(cluster, "c", "pairs")
    assert sorted(one["task"] for one in more["made"]) == ["count", "count", "pair"]
    assert _ran(cluster) == 6
    with cluster.looking() as (registry, _):
        assert registry.read(lambda tx: tx.one("SELECT count(*) FROM errand")) == (0,)
    assert cluster.findings() == []


def test_a_dry_run_asks_no_pod_and_trace_goes_back_to_what_arrived(deploy: Deploy) -> None:
    cluster = deploy(CHAIN, {"count.sh": COUNT})
    _quiet(cluster)
    for words, part in [
        (("c", "nowhere"), "no wire"),
        (("c", "counted"), "nothing has arrived on wire in"),
        (("d",), "circuit 'd' is not installed"),
    ]:
        status, _, err = _make(cluster, *words)
        assert (status, part in err, "try:" in err) == (7, True, True), err
    cluster.send("in", b"abc", ce_id="17", ce_source="/gauge", ce_type="t", ce_specversion="1.0")
    cluster.send("in", b"d")
    status, out, err = _make(cluster, "--dry-run", "c")
    assert status == 0, err
    assert "count: would run: it was never made" in out
    assert "pair: would run if" in out
    url = cluster.proxies["count"].url
    assert send(f"{url}/errands/{'0' * 64}", b"", {"Content-Length": "0"})[0] == 404  # not on record
    assert _ran(cluster) == 0
    value, _ = _made(cluster, "c", "counted", "--publish")["wires"]["counted"]
    told = subprocess.run(
        [sys.executable, "-m", "koalja_fn", "trace", value["id"][:12]],
        env={"PATH": os.environ["PATH"], **cluster.environ},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "made by count" in told
    assert "from /gauge" in told
    _made(cluster, "c", "counted", "--publish")
    assert cluster.contents("counted") == ["3\n", "1\n"]  # placed once, however often it is made
    assert cluster.findings() == []


def test_another_image_or_other_code_is_another_key_and_says_so(deploy: Deploy) -> None:
    cluster = deploy(CHAIN, {"count.sh": COUNT})
    _quiet(cluster)
    cluster.send("in", b"a")
    _made(cluster, "c", "counted")
    by_image = _made(cluster, "c", "counted", image="sha256:two")
    assert [one["why"] for one in by_image["made"]] == ["what runs it is another version"]
    (cluster.folder / "count.sh").write_text(COUNT + "echo more\n")
    cluster.rewire(CHAIN)
    status, _, err = _make(cluster, "c", "counted")  # the pods are as they were
    assert (status, "this pod has count with code" in err) == (10, True), err
    for pod in cluster.pods["count"]:
        pod.stop()
        pod.start()
        pod.wait()
    by_code = _made(cluster, "c", "counted", image="sha256:two")
    assert [one["why"] for one in by_code["made"]] == ["its code is another version"]
    assert _text(cluster, by_code["wires"]["counted"][0]) == "1\nmore\n"


FAILS = """
[c]
(in) fails (bad)
    run = sh -c "echo it is broken >&2; exit 3"
(in) works (good)
    run = cat {in}
"""


def test_a_failure_is_told_with_its_standard_error_and_k_makes_the_rest(deploy: Deploy) -> None:
    cluster = deploy(FAILS)
    _quiet(cluster)
    cluster.send("in", b"a")
    status, out, err = _make(cluster, "-k", "c")
    assert status == 4
    assert "it is broken" in err
    assert "exit status 3" in err
    assert out.startswith("good  ")
    assert "1 bytes" in out
    assert cluster.dead("fails") == 0  # a made thing is no snapshot


SLOW = """
[c]
(in) slow (out)
    run = sh slow.sh {in}
    concurrency = 2
    env.FLAG = {flag}
"""
# What runs at the same time finds another's folder there.
SLOW_PROGRAM = """\
n=$(ls "$FLAG" | wc -l); echo "$n" >> "$FLAG.seen"
mkdir "$FLAG/$$"; touch "$FLAG.began"
while [ -e "$FLAG.hold" ]; do sleep 0.02; done
rmdir "$FLAG/$$"; cat "$1"
"""


def _slow(deploy: Deploy, tmp_path: Path, **more: Any) -> tuple[Cluster, Path]:
    flag = tmp_path / "flag"
    flag.mkdir()
    hold = tmp_path / "flag.hold"
    hold.touch()
    cluster = deploy(SLOW.replace("{flag}", str(flag)), {"slow.sh": SLOW_PROGRAM}, **more)
    _quiet(cluster)
    return cluster, hold


def test_a_pod_that_dies_in_the_middle_is_asked_again(deploy: Deploy, tmp_path: Path) -> None:
    cluster, hold = _slow(deploy, tmp_path)
    cluster.send("in", b"a")
    process = _begin(cluster, "c", "-o", "json")
    wait_for(lambda: (tmp_path / "flag.began").exists(), what=cluster.logs())
    [pod] = cluster.pods["slow"]
    pod.kill()
    hold.unlink()
    pod.start()
    pod.wait()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert [_text(cluster, value) for value in json.loads(out)["wires"]["out"]] == ["a"]


def test_what_is_asked_for_takes_a_place_as_any_execution_does(deploy: Deploy, tmp_path: Path) -> None:
    """One place in the one pod: an errand and a snapshot of the stream never run at the same time."""
    cluster, hold = _slow(deploy, tmp_path)
    cluster.send("in", b"a")
    process = _begin(cluster, "c", "-o", "json")
    wait_for(lambda: (tmp_path / "flag.began").exists(), what=cluster.logs())
    cluster.broker.triggers[:] = cluster.links()
    cluster.send("in", b"b")
    wait_for(lambda: cluster.ready("slow") == 2, what=cluster.logs())
    hold.unlink()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    wait_for(lambda: cluster.contents("out") == ["a", "b"], what=cluster.logs())
    assert (tmp_path / "flag.seen").read_text().split() == ["0", "0", "0"]


def test_interrupted_it_ends_at_once_and_what_runs_is_kept_for_the_next(
    deploy: Deploy, tmp_path: Path
) -> None:
    cluster, hold = _slow(deploy, tmp_path)
    cluster.send("in", b"a")
    process = _begin(cluster, "c")
    wait_for(lambda: (tmp_path / "flag.began").exists(), what=cluster.logs())
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert time.monotonic() - began < 10
    hold.unlink()
    with cluster.looking() as (registry, _):
        wait_for(lambda: registry.read(lambda tx: tx.one("SELECT count(*) FROM made")) == (1,))
    assert _made(cluster, "c")["made"] == []
