"""An API server in small, and the real client that is pointed to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from koalja_fn.cluster.client import Cluster
from koalja_fn.cluster.kube import connect
from tests.cluster.applying.api import Api, kubeconfig, serve
from tests.cluster.applying.told import Told


@pytest.fixture
def api() -> Iterator[Api]:
    found = Api()
    server = serve(found)
    found.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "there"}})
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def cluster(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(api, tmp_path)))
    return connect(pause=lambda _: None)


@pytest.fixture
def told() -> Told:
    return Told()
