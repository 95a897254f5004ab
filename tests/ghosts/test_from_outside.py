"""`ghost --cluster`: from the caller's machine by the API server, the console and the entry."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from koalja_fn.cluster.settings import CONFIG_MAP
from koalja_fn.commands import main
from tests.cluster.applying.api import Api, kubeconfig, serve
from tests.cluster.applying.circuits import SETTINGS
from tests.runtime.cluster import Cluster
from tests.runtime.conftest import Deploy, deploy

__all__ = ["deploy"]

ROOT = Path(__file__).resolve().parents[2]
SERVED = """
[c]
(model) server (lookup implicit)
    run = python3 -m http.server {model}
(in, lookup implicit) second (out)
    run = cat {in}
(out) third (end)
    run = cat {out}
"""


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    found = Api()
    server = serve(found)
    found.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "there"}})
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(found, tmp_path)))
    yield found
    server.shutdown()
    server.server_close()


def reachable(api: Api, cluster: Cluster, tmp_path: Path) -> None:
    """Have the API server know the circuit's entry, and run commands of its console here."""
    layer = tmp_path / "layers/koalja_function/runtime/python"
    layer.mkdir(parents=True)
    (layer / "koalja_fn").symlink_to(ROOT / "koalja_fn")
    (layer / "koalja_runtime").symlink_to(ROOT / "runtime/koalja_runtime")
    api.environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "CNB_LAYERS_DIR": str(tmp_path / "layers"),
        "HOME": str(tmp_path),
        **cluster.environ,
    }
    settings = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CONFIG_MAP, "namespace": "there"},
        "data": {"store": SETTINGS.store, "images": SETTINGS.images},
    }
    labels = {
        "koalja.dev/circuit": "c",
        "koalja.dev/part": "entry",
        "app.kubernetes.io/managed-by": "koalja-fn",
    }
    entry = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "c--entry", "namespace": "there", "labels": labels},
        "spec": {"template": {"spec": {"containers": [{"image": "registry.example/me/c-entry@sha256:1"}]}}},
    }
    api.stuck["Service", "c--entry"] = {"address": {"url": cluster.entry}}
    for item in (settings, entry):
        api.add(item)


def test_a_walk_is_begun_at_the_entry_and_followed_from_the_console(
    api: Api, deploy: Deploy, tmp_path: Path
) -> None:
    cluster = deploy(SERVED)
    reachable(api, cluster, tmp_path)
    words = ["ghost", "--cluster", "c", "-n", "there", "--timeout", "30", "-o", "json"]
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output + cluster.logs()
    report = json.loads(done.stdout)
    assert report["start"]["wires"] == ["in", "model"]
    assert set(report["ghosts"]) == {"in", "model", "out", "end"}
    looked = {s["task"]: s["where"] for road in report["roads"] for s in road["stops"] if "task" in s}
    assert looked.keys() == {"second", "third", "server"}
    assert all(looked.values())
    story = ["trace", report["ghosts"]["end"], "--cluster", "c", "-n", "there"]
    told = CliRunner().invoke(main, story, catch_exceptions=False)
    assert told.exit_code == 0, told.output
    wrong = CliRunner().invoke(
        main, ["ghost", "--cluster", "c", "inn", "-n", "there"], catch_exceptions=False
    )
    assert wrong.exit_code == 7, wrong.output
    assert "did you mean 'in'" in wrong.output
