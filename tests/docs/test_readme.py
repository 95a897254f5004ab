"""The commands of README.md and of docs/delivery.md work as they stand there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

from .pages import ROOT, commands, shell

README = (ROOT / "README.md").read_text()


def test_the_first_command_fuses_real_readings_and_the_next_ones_tell_where_they_came_from(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    shutil.copytree(
        ROOT / "examples/weather",
        tmp_path / "examples/weather",
        ignore=shutil.ignore_patterns(".koalja", "outbox"),
    )
    lines = commands(README)
    first = next(line for line in lines if "pip install" in line)
    run = first.split("&&")[-1].strip().removeprefix(".venv/bin/")
    assert run == "koalja-fn run --once examples/weather"
    assert "mean: 56 new" in shell(run, tmp_path, environ)
    folder = tmp_path / "examples/weather"
    asking = lines[lines.index("cd examples/weather") + 1 :][:3]
    assert [line.split()[1] for line in asking] == ["list", "trace", "map"]
    for line in asking:
        assert shell(line, folder, environ)


def test_what_init_makes_runs_and_takes_values(tmp_path: Path, environ: dict[str, str]) -> None:
    assert "koalja-fn init demo" in commands(README)
    shell("koalja-fn init demo && koalja-fn check demo && koalja-fn run --once demo", tmp_path, environ)
    send = next(line for line in commands(README) if "koalja-fn send" in line)
    shell(send, tmp_path, environ)
    done = json.loads(shell("koalja-fn run --once -o json demo", tmp_path, environ))
    assert len(done["wires"]["mean"]) == 1


def test_the_pages_that_the_readme_names_are_there() -> None:
    for page in re.findall(r"\]\((docs/[a-z]+\.md)\)", README):
        assert (ROOT / page).is_file(), page


def test_the_test_command_of_the_readme_is_the_one_of_ci() -> None:
    assert "sh tests/run" in commands(README)
    assert "sh tests/run" in (ROOT / ".ci/run").read_text()


def test_dead_letters_are_listed_retried_and_skipped_as_the_page_says(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    page = (ROOT / "docs/delivery.md").read_text()
    assert {"koalja-fn failures", "koalja-fn retry ID", "koalja-fn skip ID"} <= set(commands(page))
    (tmp_path / "c.koalja").write_text("(in) task (out)\n    run = grep yes {in}\n    retries = 0\n")
    subprocess.run(["sh", "-c", "echo no | koalja-fn send . in -"], cwd=tmp_path, env=environ, check=True)
    subprocess.run(["koalja-fn", "run", "--once", "-q", "."], cwd=tmp_path, env=environ, check=False)
    (letter,) = json.loads(shell("koalja-fn failures -o json", tmp_path, environ))["letters"]
    shell(f"koalja-fn retry {letter['id']}", tmp_path, environ)
    subprocess.run(["koalja-fn", "run", "--once", "-q", "."], cwd=tmp_path, env=environ, check=False)
    shell(f"koalja-fn skip {letter['id']}", tmp_path, environ)
    assert json.loads(shell("koalja-fn failures -o json", tmp_path, environ))["letters"] == []
    assert "records: logs" in shell("koalja-fn doctor --verify .", tmp_path, environ)
