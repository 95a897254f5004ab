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
    where = ("-n", namespace)
    words = ["--store", os.environ["KOALJA_TEST_STORE"], "--images", os.environ["KOALJA_TEST_IMAGES"]]
    if os.environ.get("AWS_ENDPOINT_URL_S3"):
        words += ["--endpoint", os.environ["AWS_ENDPOINT_URL_S3"]]
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        words += ["--aws-keys"]
    koalja("install", *where, *words, KOALJA_REGISTRY=os.environ["KOALJA_TEST_REGISTRY"])
    koalja("deploy", str(tmp_path), *where)
    try:
        assert "nothing was to be changed" in koalja("deploy", str(tmp_path), *where)
        assert koalja("diff", str(tmp_path), *where).startswith("nothing changes")
        koalja("send", "--cluster", circuit, "number", "-d", "20", *where)
        assert _result(circuit, where) == 1
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


def _result(circuit: str, where: tuple[str, ...]) -> int:
    """How many results there are, once there is one."""
    until = time.monotonic() + 120
    while True:
        told = json.loads(koalja("list", "--cluster", circuit, "wires", "-o", "json", *where))
        found = {wire["wire"]: wire["values"] for wire in told["wires"]}
        if found.get("result") or time.monotonic() > until:
            return int(found.get("result", 0))
        time.sleep(1)
