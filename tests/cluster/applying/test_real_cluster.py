"""The same against a real cluster: from an empty namespace to a result, nothing twice, and nothing left.

Set KUBECONFIG, and what docs/cluster.md names under "Testing against a cluster".
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from koalja_fn.cluster.deleting import stale_subscribers
from koalja_fn.cluster.kinds import NAMESPACE, TRIGGER
from koalja_fn.cluster.kube import connect
from tests.services.hall import SERVER

NEEDED = ("KUBECONFIG", "KOALJA_TEST_IMAGES", "KOALJA_TEST_REGISTRY", "KOALJA_TEST_STORE")
pytestmark = [
    pytest.mark.skipif(not all(os.environ.get(n) for n in NEEDED), reason=f"set {', '.join(NEEDED)}"),
    pytest.mark.slow,
    pytest.mark.timeout(1200),
]
WIRING = """\
[{name}]
(number) double (doubled)
    run = awk '{{ print 2 * $1 }}' {{number}}
(doubled) more (result)
    run = awk '{{ print 1 + $1 }}' {{doubled}}
"""
ONE = """\
[{name}]
(number) double (doubled)
    run = awk '{{ print 2 * $1 }}' {{number}}
"""


SERVED = """\
[{name}]
(model) server (names implicit)
    run = python3 server.py {{model}}
(q, names implicit) ask (result)
    run = python3 ask.py {{q}}
"""


ASK = """\
import os, sys, urllib.request
url = os.environ["KOALJA_LOOKUP_URL"]
print(urllib.request.urlopen(url, data=open(sys.argv[1], "rb").read()).read().decode())
"""


def koalja(*words: str, status: int = 0, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "koalja_fn", *words],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == status, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"koalja-test-{uuid.uuid4().hex[:8]}"
    yield name
    connect().delete(NAMESPACE, "", name)


def test_from_an_empty_namespace_to_a_result(namespace: str, tmp_path: Path) -> None:
    circuit = f"c{uuid.uuid4().hex[:8]}"
    file = tmp_path / "it.koalja"
    file.write_text(WIRING.format(name=circuit))
    where = _installed(namespace)
    koalja("deploy", str(tmp_path), *where)
    try:
        assert "nothing was to be changed" in koalja("deploy", str(tmp_path), *where)
        assert koalja("diff", str(tmp_path), *where).startswith("nothing changes")
        koalja("send", "--cluster", circuit, "number", "-d", "20", *where)
        assert _result(circuit, where) == 1
        _is_made(circuit, namespace, tmp_path / "made")
        koalja("doctor", "--cluster", *where)
        file.write_text(ONE.format(name=circuit))
        koalja("diff", str(tmp_path), *where, status=1)
        koalja("deploy", str(tmp_path), *where)
        cluster = connect()
        labels = {"koalja.dev/circuit": circuit, "koalja.dev/task": "more"}
        assert cluster.list(TRIGGER, namespace, labels) == []
        assert stale_subscribers(cluster, namespace, circuit) == []
    finally:
        koalja("delete", circuit, "--yes", *where)
    koalja("list", "--cluster", circuit, *where, status=7)


def test_a_service_is_asked_and_its_answer_is_on_record(namespace: str, tmp_path: Path) -> None:
    circuit = f"c{uuid.uuid4().hex[:8]}"
    (tmp_path / "it.koalja").write_text(SERVED.format(name=circuit))
    (tmp_path / "server.py").write_text(SERVER)
    (tmp_path / "ask.py").write_text(ASK)
    where = _installed(namespace)
    koalja("deploy", str(tmp_path), *where)
    try:
        koalja("send", "--cluster", circuit, "q", "-d", "seven", *where)
        koalja("send", "--cluster", circuit, "model", "-d", "m1", *where)
        assert _result(circuit, where) == 1
        told = json.loads(koalja("list", "--cluster", circuit, "values", "-o", "json", *where))
        [result] = [one for one in told["values"] if one["wire"] == "result"]
        story = koalja("trace", "--cluster", circuit, result["id"], *where)
        assert "answered by server, snapshot 1" in story
        assert "model 0001" in story
    finally:
        koalja("delete", circuit, "--yes", *where)


def _is_made(circuit: str, namespace: str, file: Path) -> None:
    """Asked for from its end, the result is what was pushed, made by the tasks' pods, once."""
    there = ("--namespace", namespace)
    told = json.loads(koalja("make", "--cluster", circuit, "result", "-o", "json", *there))
    assert [one["task"] for one in told["made"]] == ["double", "more"]
    [value] = told["wires"]["result"]
    koalja("get", value["id"], "--to", str(file), "--cluster", circuit, *there)
    assert file.read_text() == "41\n"
    assert json.loads(koalja("make", "--cluster", circuit, "-o", "json", *there))["made"] == []


def _installed(namespace: str) -> tuple[str, ...]:
    """Make the namespace ready; the options that name it."""
    where = ("-n", namespace)
    words = ["--store", os.environ["KOALJA_TEST_STORE"], "--images", os.environ["KOALJA_TEST_IMAGES"]]
    if os.environ.get("AWS_ENDPOINT_URL_S3"):
        words += ["--endpoint", os.environ["AWS_ENDPOINT_URL_S3"]]
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        words += ["--aws-keys"]
    koalja("install", *where, *words, KOALJA_REGISTRY=os.environ["KOALJA_TEST_REGISTRY"])
    return where


def _result(circuit: str, where: tuple[str, ...]) -> int:
    """How many results there are, once there is one."""
    until = time.monotonic() + 120
    while True:
        told = json.loads(koalja("list", "--cluster", circuit, "wires", "-o", "json", *where))
        found = {wire["wire"]: wire["values"] for wire in told["wires"]}
        if found.get("result") or time.monotonic() > until:
            return int(found.get("result", 0))
        time.sleep(1)
