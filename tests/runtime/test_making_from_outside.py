"""`make --cluster` and `get --cluster`: by the API server and the console, which reaches the tasks."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from koalja_fn.commands import main
from tests.cluster.applying.api import Api
from tests.ghosts.test_from_outside import api, reachable
from tests.runtime.conftest import Deploy

__all__ = ["api"]

CIRCUIT = """
[c]
(in) count (counted)
    run = wc -c {in}
(counted) last (out)
    run = cut -c1 {counted}
"""


def test_a_deployed_circuit_is_asked_for_a_wire_and_gives_its_payload(
    api: Api, deploy: Deploy, tmp_path: Path
) -> None:
    cluster = deploy(CIRCUIT)
    reachable(api, cluster, tmp_path)
    for name in ("count", "last"):
        labels = {
            "koalja.dev/circuit": "c",
            "koalja.dev/part": "task",
            "koalja.dev/task": name,
            "app.kubernetes.io/managed-by": "koalja-fn",
        }
        api.stuck["Service", f"c--{name}"] = {"address": {"url": cluster.proxies[name].url}}
        api.add(
            {
                "apiVersion": "serving.knative.dev/v1",
                "kind": "Service",
                "metadata": {"name": f"c--{name}", "namespace": "there", "labels": labels},
                "spec": {"template": {"spec": {"containers": [{"image": f"r.example/c-{name}@sha256:1"}]}}},
            }
        )
    cluster.broker.triggers.clear()
    cluster.send("in", b"abc")
    there = ["--namespace", "there"]
    words = ["make", "--cluster", "c", "out", *there, "-o", "json"]
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output + cluster.logs()
    answer = json.loads(done.stdout)
    assert [one["task"] for one in answer["made"]] == ["count", "last"]
    [value] = answer["wires"]["out"]
    again = CliRunner().invoke(main, ["make", "--cluster", "c", *there], catch_exceptions=False)
    assert "nothing to do: 2 up to date" in again.output
    got = CliRunner().invoke(main, ["get", value["id"], "--cluster", "c", *there], catch_exceptions=False)
    assert (got.exit_code, got.stdout) == (0, "3\n"), got.output
    file = tmp_path / "out.txt"
    kept = ["get", value["id"], "--to", str(file), "--cluster", "c", *there]
    done = CliRunner().invoke(main, kept, catch_exceptions=False)
    assert (done.exit_code, file.read_text()) == (0, "3\n"), done.output
    wrong = CliRunner().invoke(main, ["make", "--cluster", "c", "owt", *there], catch_exceptions=False)
    assert (wrong.exit_code, "did you mean out?" in wrong.output) == (7, True), wrong.output
