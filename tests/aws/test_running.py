"""A circuit on this machine with its payloads in a bucket, by a real LocalStack; and over what is shared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .localstack import LocalStack, shared

WIRING = """[w]
(in) upper (out)
    run = sh -c "tr a-z A-Z < {in} > {out.out}"
(out[2]) both (end)
    run = sh -c "cat {out} > {out.end}"
"""


@pytest.fixture
def stack() -> LocalStack:
    return shared()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "w.koalja").write_text(WIRING)
    return tmp_path


def call(folder: Path, *words: str, status: int = 0, **environ: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "KOALJA_"))}
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    done = subprocess.run(
        [sys.executable, "-m", "koalja_fn", *words],
        cwd=folder,
        env={**clean, **keys, **environ},
        input="one\ntwo\n",
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def first_json(said: str) -> Any:
    """The JSON document in what was said; news may come before and after it."""
    return json.JSONDecoder().raw_decode(said[said.index("{") :])[0]


def test_a_whole_circuit_runs_with_its_payloads_in_a_bucket(stack: LocalStack, folder: Path) -> None:
    bucket = stack.bucket()
    url = f"s3://{bucket}/here"
    said = call(
        folder, "run", "--once", "--lines", "in", "-o", "json", "--store", url, "--endpoint-url", stack.url
    )
    told = first_json(said)
    assert Path(told["wires"]["end"][0]["path"]).read_text() == "ONETWO"
    found = stack.client("s3").list_objects_v2(Bucket=bucket)["Contents"]
    assert all(item["Key"].startswith("here/") for item in found)
    assert len(found) == 5
    assert not (folder / ".koalja/objects").exists()
    # It is remembered: later commands and runs find the payloads without being told.
    assert "agree" in call(folder, "doctor", "--verify")
    said = call(folder, "run", "--once", "--lines", "in", "-o", "json")
    assert len(first_json(said)["wires"]["end"]) == 1


def test_a_folder_does_not_change_its_store_silently(stack: LocalStack, folder: Path) -> None:
    call(folder, "run", "--once", "--lines", "in")
    said = call(folder, "run", "--once", "--store", f"s3://{stack.bucket()}", status=2)
    assert "keeps its payloads in" in said


def test_a_bucket_that_is_not_there_is_told_and_nothing_is_acknowledged(
    stack: LocalStack, folder: Path
) -> None:
    words = ["run", "--once", "--lines", "in", "--store", "s3://not-there", "--endpoint-url", stack.url]
    assert "there is no bucket not-there" in call(folder, *words, status=8)


def test_make_keeps_what_it_makes_in_the_bucket(stack: LocalStack, folder: Path) -> None:
    bucket = stack.bucket()
    (folder / "a.txt").write_text("x")
    (folder / "w.koalja").write_text(
        "[w]\n(in) copy (out)\n    run = cp {in} {out.out}\nwire in\n    from = a.txt\n"
    )
    call(folder, "run", "--once", "--store", f"s3://{bucket}", "--endpoint-url", stack.url)
    told = first_json(call(folder, "make", "-q", "-o", "json"))
    assert Path(told["wires"]["out"][0]["path"]).read_text() == "x"
    assert stack.client("s3").list_objects_v2(Bucket=bucket)["KeyCount"] == 1


def test_questions_are_asked_of_what_the_environment_names(
    stack: LocalStack, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    url = f"s3://{stack.bucket()}"
    call(folder, "run", "--once", "--lines", "in", "--store", url, "--endpoint-url", stack.url)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    environ = {
        "KOALJA_REGISTRY": f"sqlite:{folder}/.koalja/registry.db",
        "KOALJA_STORE": url,
        "AWS_ENDPOINT_URL_S3": stack.url,
        "KOALJA_CACHE": str(elsewhere / "cache"),
    }
    assert "end" in call(elsewhere, "list", "wires", **environ)
    assert "both" in call(elsewhere, "map", **environ)
    assert "agree" in call(elsewhere, "doctor", "--verify", **environ)
    assert "no circuit has run" in call(elsewhere, "list", status=7)
