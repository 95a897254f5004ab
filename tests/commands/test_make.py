"""`koalja-fn make` as it is called: what it prints, and its exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

WIRING = """[w]
(a) first (b)
    run = ./first.sh {a} {out.b}
(b) second (c)
    run = cp {b} {out.c}
wire a
    from = src/*.txt
wire c
    to = out/{wire}.txt
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "w.koalja").write_text(WIRING)
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a.txt").write_text("x\n")
    program(tmp_path, 'cat "$1" > "$2"')
    return tmp_path


def program(folder: Path, body: str) -> None:
    path = folder / "first.sh"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def call(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "koalja_fn", "make", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_results_go_to_standard_output_and_news_to_standard_error(folder: Path) -> None:
    done = call(folder)
    assert done.returncode == 0, done.stderr
    wire, _, path = done.stdout.split()
    assert (wire, path) == ("c", "out/c.txt")
    assert (folder / path).read_text() == "x\n"
    assert done.stderr.splitlines()[-1] == "2 made, 0 were up to date"
    assert call(folder).stderr == "nothing to do: 2 up to date\n"


def test_json_has_all_of_it(folder: Path) -> None:
    data = json.loads(call(folder, "-o", "json").stdout)
    assert [(one["task"], one["why"]) for one in data["made"]] == [
        ("first", "it was never made"),
        ("second", "it was never made"),
    ]
    assert Path(data["wires"]["c"][0]["path"]).read_text() == "x\n"


def test_a_wire_without_to_has_a_path_all_the_same(folder: Path) -> None:
    data = json.loads(call(folder, ".", "b", "-o", "json").stdout)
    assert Path(data["wires"]["b"][0]["path"]).read_text() == "x\n"


def test_a_failing_program_gives_4_and_what_it_said(folder: Path) -> None:
    program(folder, "echo this is why >&2; exit 7")
    done = call(folder)
    assert done.returncode == 4
    assert "first ended with exit status 7" in done.stderr
    assert "    this is why" in done.stderr
    assert "not made, since they need what failed: second" in done.stderr


def test_a_wrong_wire_gives_7_and_a_broken_wiring_3(folder: Path) -> None:
    assert call(folder, ".", "d").returncode == 7
    (folder / "w.koalja").write_text("[w]\n(a first (b)\n")
    assert call(folder).returncode == 3


def test_interrupted_it_ends_the_program_and_gives_130(folder: Path) -> None:
    program(folder, 'echo $$ > pid.part; mv pid.part "$KOALJA_CODE/pid"; sleep 60')
    process = subprocess.Popen(
        [sys.executable, "-m", "koalja_fn", "make"],
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    until = time.monotonic() + 30
    while not (folder / "pid").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert b"interrupted: what was finished is kept" in said
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "pid").read_text()), 0)


def test_trace_tells_of_a_made_file(folder: Path) -> None:
    call(folder)
    done = subprocess.run(
        [sys.executable, "-m", "koalja_fn", "trace", "out/c.txt"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "file src/a.txt" in done.stdout
    assert "./first.sh {a} {out.b}" in done.stdout
