"""What a cluster needs once: complete for kubectl, and the same that `koalja-fn install` makes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from koalja_fn.cluster import kinds, rules
from koalja_fn.cluster.settings import CONFIG_MAP, REGISTRY_KEY, REGISTRY_SECRET, SERVICE_ACCOUNT, Settings
from koalja_fn.cluster.trying import IMAGE, POSTGRES, postgres

MANIFESTS = Path(__file__).resolve().parents[3] / "manifests"


def kustomized(folder: Path) -> list[dict[str, Any]]:
    """The objects of a kustomization: of its resources, and the Secrets that it makes."""
    told = yaml.safe_load((folder / "kustomization.yaml").read_text())
    found: list[dict[str, Any]] = []
    for name in told["resources"]:
        path = folder / name
        assert path.exists(), f"{folder.name} names {name}"
        found += kustomized(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
    for made in told.get("secretGenerator", ()):
        data = dict(word.split("=", 1) for word in made["literals"])
        metadata = {"name": made["name"], "labels": told["generatorOptions"]["labels"]}
        found.append({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data})
    return found


def named(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {f"{o['kind']} {o['metadata']['name']}": o for o in objects}


@pytest.mark.parametrize("folder", [".", "base", "try-out", "deployer"])
def test_every_folder_is_a_kustomization_of_good_objects(folder: str) -> None:
    objects = kustomized(MANIFESTS / folder)
    assert objects
    for item in objects:
        assert rules.findings(item) == []
        assert item["metadata"]["labels"][kinds.LABEL_MANAGER] == kinds.MANAGER
        assert "namespace" not in item["metadata"]  # -n, or an overlay's


@pytest.mark.parametrize("folder", [".", "try-out", "deployer"])
@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not here; the parser above is")
def test_kubectl_builds_the_same(folder: str) -> None:
    built = subprocess.run(
        ["kubectl", "kustomize", str(MANIFESTS / folder)], capture_output=True, text=True, check=True
    )
    objects = [one for one in yaml.safe_load_all(built.stdout) if one]
    assert set(named(objects)) == set(named(kustomized(MANIFESTS / folder)))


def test_the_settings_are_the_defaults_and_each_is_there() -> None:
    data = named(kustomized(MANIFESTS))[f"ConfigMap {CONFIG_MAP}"]["data"]
    told = Settings.of(data)
    assert set(data) == set(Settings().data())
    assert told.model_copy(update={"store": ""}) == Settings()
    assert told.store.startswith("s3://")


def test_the_account_has_no_token_and_nobody_gives_it_rights() -> None:
    objects = kustomized(MANIFESTS)
    assert named(objects)[f"ServiceAccount {SERVICE_ACCOUNT}"]["automountServiceAccountToken"] is False
    assert not [o for o in objects if "Role" in o["kind"]]


def test_the_database_for_trying_out_is_the_one_that_install_makes() -> None:
    objects = named(kustomized(MANIFESTS / "try-out"))
    for item in postgres("x", IMAGE, "p", ""):
        if item["kind"] != "Secret":
            item["metadata"].pop("namespace")
            assert objects[f"{item['kind']} {item['metadata']['name']}"] == item
    password = objects[f"Secret {POSTGRES}"]["stringData"]["password"]
    dsn = objects[f"Secret {REGISTRY_SECRET}"]["stringData"][REGISTRY_KEY]
    assert dsn == f"postgresql://koalja:{password}@{POSTGRES}:5432/koalja"


def test_whoever_deploys_may_do_so_with_all_kinds_that_are_a_circuit_s() -> None:
    (role,) = kustomized(MANIFESTS / "deployer")
    allowed = {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    secret = (kinds.SECRET, kinds.SERVICE_ACCOUNT)  # no circuit has some of its own
    for kind in (*(k for k in kinds.OWNED if k not in secret), kinds.POD):
        group = kind.version.rpartition("/")[0]
        assert {"get", "list", "create", "patch", "delete"} <= allowed[group, kind.plural], kind
    assert not [key for key in allowed if key[1] == "secrets"]
