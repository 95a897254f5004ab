"""Making a namespace ready, and the words of `--cluster`."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from koalja_fn.cluster.client import Cluster
from koalja_fn.commands import main
from koalja_fn.commands.remote import Call, called
from tests.cluster.applying.api import Api

DSN = "postgresql://me:secret@db:5432/koalja"
STORE = ("--store", "s3://bucket/here", "--images", "registry.example/me")


def install(*words: str, dsn: str = DSN, **environ: str) -> Result:
    runner = CliRunner(env={"KOALJA_REGISTRY": dsn, **environ})
    return runner.invoke(main, ["install", "-n", "there", *words])


def test_a_namespace_gets_settings_secret_and_an_account_without_rights(api: Api, cluster: Cluster) -> None:
    done = install(*STORE)
    assert done.exit_code == 0, done.output
    settings = api.one("ConfigMap", "koalja-settings")["data"]
    assert (settings["store"], settings["images"]) == ("s3://bucket/here", "registry.example/me")
    assert base64.b64decode(api.one("Secret", "koalja-registry")["data"]["dsn"]).decode() == DSN
    assert api.one("ServiceAccount", "koalja")["automountServiceAccountToken"] is False
    assert "secret" not in done.output


def test_what_is_not_given_again_stays(api: Api, cluster: Cluster) -> None:
    install(*STORE)
    done = install("--set", "memory=512Mi", dsn="")
    assert done.exit_code == 0, done.output
    settings = api.one("ConfigMap", "koalja-settings")["data"]
    assert (settings["store"], settings["memory"]) == ("s3://bucket/here", "512Mi")


def test_the_same_again_changes_nothing(api: Api, cluster: Cluster) -> None:
    install(*STORE)
    api.written.clear()
    assert install(*STORE).exit_code == 0
    assert api.written == []


def test_a_password_on_the_command_line_is_refused(api: Api, cluster: Cluster) -> None:
    done = install(*STORE, "--registry", DSN)
    assert done.exit_code == 2
    assert "KOALJA_REGISTRY" in done.output
    assert "secret@" not in done.output


def test_a_registry_and_a_store_are_needed(api: Api, cluster: Cluster) -> None:
    assert "has no registry yet" in install(*STORE, dsn="").output
    assert "has no store yet" in install().output
    assert api.names("ConfigMap") == []


def test_a_setting_that_makes_no_sense_is_refused(api: Api, cluster: Cluster) -> None:
    done = install(*STORE, "--set", "memory=lots")
    assert (done.exit_code, "memory" in done.output) == (2, True)


def test_a_database_for_trying_out_keeps_its_password(api: Api, cluster: Cluster) -> None:
    api.stuck["Pod", "koalja-postgres-0"] = {"conditions": [{"type": "Ready", "status": "True"}]}
    api.add(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "koalja-postgres-0", "namespace": "there"}}
    )
    assert install(*STORE, "--with-postgres", dsn="").exit_code == 0
    first = api.one("Secret", "koalja-postgres")["data"]
    assert install(*STORE, "--with-postgres", dsn="").exit_code == 0
    assert api.one("Secret", "koalja-postgres")["data"] == first
    dsn = base64.b64decode(api.one("Secret", "koalja-registry")["data"]["dsn"]).decode()
    assert "@koalja-postgres.there.svc:5432/koalja" in dsn


def test_a_namespace_that_is_not_installed_is_told_before_anything_is_packed(
    api: Api, cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "c.koalja").write_text("(a) t (b)\n    run = cat {a}\n")
    done = CliRunner().invoke(main, ["deploy", str(tmp_path), "-n", "there"])
    assert done.exit_code == 7
    assert "koalja-fn install -n there" in done.output


def test_doctor_tells_what_the_cluster_lacks_with_the_fix(api: Api, cluster: Cluster) -> None:
    api.missing |= {"brokers", "scaledjobs"}
    done = CliRunner().invoke(main, ["doctor", "--cluster", "-n", "there", "-o", "json"])
    found = {one["what"]: one for one in json.loads(done.stdout)}
    assert done.exit_code == 1
    assert found["Knative Serving"]["ok"]
    assert (found["Knative Eventing"]["ok"], found["Knative Eventing"]["needed"]) == (False, True)
    assert (found["KEDA"]["ok"], found["KEDA"]["needed"]) == (False, False)
    assert "koalja-fn install" in found["namespace there"]["cure"]
    assert all(one["cure"] for one in found.values() if not one["ok"])


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("--cluster weather values --last 5", Call(("values", "--last", "5"), "weather")),
        ("values --cluster weather -n prod", Call(("values",), "weather", "prod")),
        ("--cluster -n prod weather id", Call(("id",), "weather", "prod")),
        ("--cluster=weather id --context c", Call(("id",), "weather", None, "c")),
        ("--cluster -o json", Call(("-o", "json"), "")),
    ],
)
def test_the_word_behind_cluster_is_the_circuit(line: str, call: Call) -> None:
    assert called(line.split()) == call
