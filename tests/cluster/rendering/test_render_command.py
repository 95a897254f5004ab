"""`koalja-fn render`: YAML for GitOps, with neither a cluster nor an image registry at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from koalja_fn.commands import main
from koalja_fn.plain import circuit_of

WIRING = "[shop]\n(order) pack (parcel)\n    run = cat {order}\nwire order\n    from = inbox/*.json\n"
GIVEN = ("--images", "ghcr.io/me", "--tags", "--set", "store=s3://data/shop")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.koalja").write_text(WIRING)
    return tmp_path


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["render", *map(str, words)])


def documents(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return list(yaml.safe_load_all(result.stdout))


def test_all_objects_are_there_each_with_its_comment(folder: Path) -> None:
    result = call(folder, *GIVEN, "-n", "shops")
    found = documents(result)
    assert {one["metadata"]["namespace"] for one in found} == {"shops"}
    named = [f"{one['kind']} {one['metadata']['name']}" for one in found]
    for name in ("Broker shop", "Service shop--entry", "Service shop--pack", "ScaledJob shop--sweep"):
        assert name in named
        assert f"# {name}: " in result.stdout
    assert "# Not here: wire order: `from = inbox/*.json`" in result.stdout


def test_json_is_one_list_with_the_same_objects(folder: Path) -> None:
    told = json.loads(call(folder, *GIVEN, "-o", "json").stdout)
    assert told["kind"] == "List"
    assert told["items"] == documents(call(folder, *GIVEN))


def test_the_same_folder_gives_the_same_text(folder: Path) -> None:
    assert call(folder, *GIVEN).stdout == call(folder, *GIVEN).stdout


def test_a_job_brings_the_circuit_into_the_registry_and_is_another_one_when_it_changes(folder: Path) -> None:
    """A Job can't be changed, whatever it is that differs."""

    def installing(*more: str) -> tuple[str, dict[str, Any]]:
        items = json.loads(call(folder, *GIVEN, *more, "-o", "json").stdout)["items"]
        (job,) = [one for one in items if one["kind"] == "Job"]
        (told,) = [one for one in items if one["kind"] == "ConfigMap"]
        assert job["metadata"]["name"] == told["metadata"]["name"]
        return job["metadata"]["name"], json.loads(told["data"]["circuit.json"])

    name, told = installing()
    circuit = circuit_of(told["circuit"])
    assert [task.name for task in circuit.tasks] == ["pack"]
    assert told["wiring"] == WIRING
    assert told["versions"]["pack"].startswith("sha256:")
    (folder / "shop.koalja").write_text(WIRING.replace("cat", "tac"))
    assert len({name, installing()[0], installing("--set", "region=eu-west-1")[0]}) == 3


def test_the_job_can_be_left_out(folder: Path) -> None:
    kinds = {one["kind"] for one in documents(call(folder, *GIVEN, "--no-install"))}
    assert not kinds & {"Job", "ConfigMap"}


def test_settings_come_from_a_file_as_the_cluster_has_them(folder: Path) -> None:
    data = {"store": "s3://data/shop", "images": "ghcr.io/me", "broker-class": "Kafka"}
    file = folder / "settings.yaml"
    file.write_text(yaml.safe_dump({"kind": "ConfigMap", "data": data}))
    found = documents(call(folder, "--settings", file, "--tags"))
    assert "InMemoryChannel" not in {one["kind"] for one in found}
    assert "kafka-broker-ingress" in yaml.safe_dump(found)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--tags",), 2, "where are the images?"),
        (("--tags", "--images", "ghcr.io/me"), 2, "where do payloads go?"),
        ((*GIVEN, "--set", "colour=red"), 2, "there is no such setting"),
        ((*GIVEN, "--set", "colour"), 2, "has no value"),
        ((*GIVEN, "--set", "broker-class=kafka"), 2, "Kafka is meant, case counts"),
    ],
)
def test_what_is_missing_is_said_with_its_cure(
    folder: Path, words: tuple[str, ...], status: int, said: str
) -> None:
    result = call(folder, *words)
    assert result.exit_code == status
    assert said in result.output


def test_a_wiring_with_errors_is_not_rendered(tmp_path: Path) -> None:
    (tmp_path / "bad.koalja").write_text("(a[2/5]) t (b)\n    run = cat {a}\n")
    result = call(tmp_path, *GIVEN)
    assert result.exit_code == 3
    assert result.stdout == ""
