"""The real client against a real HTTP server: what is tried again, what is said of what is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from koalja_fn.cluster.client import Cluster, Pieces
from koalja_fn.cluster.console import open_console
from koalja_fn.cluster.kinds import BROKER, CONFIG_MAP, PING_SOURCE, POD, SERVICE
from koalja_fn.cluster.logs import show
from koalja_fn.errors import Forbidden, Rejected, Unanswered, UsageError
from tests.cluster.applying.api import Api
from tests.cluster.applying.told import Told

ROOT = Path(__file__).resolve().parents[3]
BODY = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "c", "namespace": "there"},
    "data": {"a": "1"},
}


@pytest.mark.parametrize("status", [0, 429, 500, 502, 503, 504])
def test_what_may_go_well_a_moment_later_is_tried_again(api: Api, cluster: Cluster, status: int) -> None:
    left = iter([status, status])
    api.faults.append(lambda *_: next(left, None))
    assert cluster.apply(BODY)["data"] == {"a": "1"}
    assert len(api.asked) == 3


def test_a_server_that_stays_away_is_told_with_its_address(api: Api, cluster: Cluster) -> None:
    api.faults.append(lambda *_: 0)
    with pytest.raises(Unanswered, match=api.url):
        cluster.get(CONFIG_MAP, "there", "c")


@pytest.mark.parametrize(("status", "error"), [(401, Forbidden), (403, Forbidden), (422, Rejected)])
def test_a_refusal_is_not_tried_again(
    api: Api, cluster: Cluster, status: int, error: type[Exception]
) -> None:
    api.faults.append(lambda *_: status)
    with pytest.raises(error):
        cluster.apply(BODY)
    assert len(api.asked) == 1


def test_a_field_that_no_schema_knows_is_told_by_its_name(api: Api, cluster: Cluster) -> None:
    with pytest.raises(Rejected, match=r"\.spek"):
        cluster.apply({**BODY, "spek": {}})
    assert len(api.asked) == 1


def test_a_namespace_that_is_not_there_is_told_with_the_cure(api: Api, cluster: Cluster) -> None:
    with pytest.raises(Rejected, match="koalja-fn install"):
        cluster.apply({**BODY, "metadata": {"name": "c", "namespace": "elsewhere"}})


def test_fields_that_we_no_longer_name_go_and_others_stay(api: Api, cluster: Cluster) -> None:
    cluster.apply({**BODY, "data": {"a": "1", "b": "2"}})
    key = ("v1", "configmaps", "there", "c")
    api.objects[key]["data"]["theirs"] = "3"
    api.objects[key]["_owners"]["somebody"] = [("data", "theirs")]
    assert cluster.apply(BODY)["data"] == {"a": "1", "theirs": "3"}


def test_a_dry_run_changes_nothing(api: Api, cluster: Cluster) -> None:
    assert cluster.apply(BODY, dry_run=True)["data"] == {"a": "1"}
    assert cluster.get(CONFIG_MAP, "there", "c") is None


def test_a_kind_that_the_cluster_does_not_know_has_no_objects(api: Api, cluster: Cluster) -> None:
    api.missing.add("pingsources")
    assert cluster.list(PING_SOURCE, "there", {}) == []
    assert (cluster.serves(PING_SOURCE, "there"), cluster.serves(BROKER, "there")) == (False, True)
    assert cluster.delete(SERVICE, "there", "nothing") is False


def test_a_command_gives_its_streams_and_its_status(api: Api, cluster: Cluster) -> None:
    api.environment = dict(os.environ)
    program = "import sys; d = sys.stdin.read(5); print(d * 3); print('e', file=sys.stderr); sys.exit(7)"
    ended = cluster.execute("there", "p", ["python3", "-c", program], b"hello")
    assert (ended.status, ended.out, ended.err) == (7, b"hellohellohello\n", b"e\n")


def test_much_goes_through_a_command(api: Api, cluster: Cluster) -> None:
    api.environment = dict(os.environ)
    data = os.urandom(3_000_000)
    program = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read(3000000))"
    assert cluster.execute("there", "p", ["python3", "-c", program], data).out == data


def test_bytes_are_read_as_they_are_sent(api: Api, cluster: Cluster) -> None:
    api.environment = dict(os.environ)
    data = os.urandom(3_000_000)
    parts = (data[start : start + 1_000_000] for start in range(0, len(data), 1_000_000))
    program = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read(3000000))"
    ended = cluster.execute("there", "p", ["python3", "-c", program], Pieces(len(data), parts))
    assert ended.out == data


def test_without_a_kubeconfig_the_cure_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from koalja_fn.cluster.kube import connect

    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="set KUBECONFIG"):
        connect()


def test_commands_run_in_the_console_beside_the_registry(
    api: Api, cluster: Cluster, told: Told, tmp_path: Path
) -> None:
    """As in the image: the runtime's layer, a bare Python, settings by the environment."""
    layer = tmp_path / "layers/koalja_function/runtime/python"
    layer.mkdir(parents=True)
    for name, path in (
        ("koalja_fn", ROOT / "koalja_fn"),
        ("koalja_runtime", ROOT / "runtime/koalja_runtime"),
    ):
        (layer / name).symlink_to(path)
    api.environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "CNB_LAYERS_DIR": str(tmp_path / "layers"),
        "KOALJA_REGISTRY": str(tmp_path / "registry.db"),
        "KOALJA_STORE": str(tmp_path / "objects"),
        "KOALJA_ROLE": "console",
        "HOME": str(tmp_path),
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "w--console", "namespace": "there"},
        "spec": {},
    }
    console = open_console(cluster, "there", pod, told)
    asked = console.command(["--version"])
    assert (asked.status, asked.out.split(b",")[0]) == (0, b"koalja-fn")
    wrong = console.command(["list", "nonsense-of-a-kind"])
    assert wrong.status in (2, 7)
    assert wrong.err.startswith(b"koalja-fn: ")
    probe = console.probe()
    assert (probe.status, probe.out) == (0, b"registry ok\nstore ok\n")
    before = api.one("Pod", "w--console")["metadata"]["uid"]
    open_console(cluster, "there", pod, told)
    assert api.one("Pod", "w--console")["metadata"]["uid"] == before
    changed = {**pod, "spec": {"restartPolicy": "Never"}}
    open_console(cluster, "there", changed, told)
    assert api.one("Pod", "w--console")["metadata"]["uid"] != before


def test_logs_of_all_pods_of_a_task(api: Api, cluster: Cluster) -> None:
    for name in ("a", "b"):
        metadata = {"name": name, "namespace": "there", "labels": {"koalja.dev/task": "average"}}
        containers = [{"name": "koalja"}, {"name": "queue-proxy"}]
        api.add({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}})
        api.logs[name] = [f"{name} one", f"{name} two"]
    said: list[tuple[str, str]] = []
    count = show(
        cluster, "there", {"koalja.dev/task": "average"}, None, lambda pod, line: said.append((pod, line))
    )
    assert count == 2
    assert said == [("a", "a one"), ("a", "a two"), ("b", "b one"), ("b", "b two")]
    assert len(cluster.list(POD, "there", {})) == 2
