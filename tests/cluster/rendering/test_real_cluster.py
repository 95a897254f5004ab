"""A real API server, with its webhooks, takes what is rendered: only where KUBECONFIG names one.

Nothing is left behind but for the moment: all is applied for show, in a namespace of the test's own.
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator

import pytest

from koalja_fn.cluster.gitops import installation
from koalja_fn.cluster.place import Deployed
from koalja_fn.cluster.rendering import console
from koalja_fn.cluster.settings import Settings
from tests.cluster.rendering.circuits import FULL, NAMES, circuit_of, images_of, objects_of, versions_of

pytestmark = [
    pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="KUBECONFIG names no cluster"),
    pytest.mark.timeout(300),
]


def kubectl(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(["kubectl", *words], input=stdin, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """A namespace that lets in restricted pods only."""
    name = f"koalja-render-{uuid.uuid4().hex[:8]}"
    assert kubectl("create", "namespace", name).returncode == 0
    kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    kubectl("create", "serviceaccount", "koalja", "-n", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def dry_run(namespace: str, objects: list[dict[str, object]]) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    said = kubectl(
        *("apply", "--server-side", "--field-manager", "koalja-fn", "--dry-run=server", "--validate=strict"),
        *("-n", namespace, "-f", "-"),
        stdin=text,
    )
    assert said.returncode == 0, said.stderr
    assert "Warning" not in said.stderr


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("settings", [{}, FULL], ids=["few", "full"])
def test_the_webhooks_take_what_is_rendered(namespace: str, name: str, settings: dict[str, str]) -> None:
    circuit = circuit_of(name)
    chosen = Settings.of({"store": "s3://results/koalja", **settings})
    place = Deployed(circuit, images_of(circuit), chosen, versions_of(circuit), namespace)
    dry_run(
        namespace,
        [
            *objects_of(circuit, settings, namespace),
            *installation(place, "wiring"),
            console(name, "ghcr.io/me/entry", chosen, namespace=namespace),
        ],
    )
