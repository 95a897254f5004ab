"""The examples in each verb's `--help` do what they seem to: each is run as it stands there."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

from koalja_fn.commands import VERBS, main

sys.path.insert(0, str(Path(__file__).parent))

from circuit_runs import COMMAND, koalja

CLUSTER = {"install", "deploy", "diff", "logs", "delete"}  # need a cluster: tests/cluster/applying
ELSEWHERE = {"pack", *CLUSTER}  # needs a base image; its own tests run it
ENDLESS = re.compile(r"koalja-fn (run (?!--once)|log -f)")

WIRING = """\
(wind, temp passive) average (mean)
    run = sh -c "grep -q bad {wind} && exit 3; cat {wind} {temp}"
    policy = swap
    retries = 0
(in) copy (copied)
    run = cat {in}
wire mean
    to = outbox/mean.json
"""

BUILD = """\
(source) compile (program)
    run = cp {source} {out.program}
wire source
    from = *.c
"""


PIPELINE = """\
apiVersion: koalja.aljabr.io/v1alpha1
kind: Pipeline
metadata: {name: letters}
spec:
  tasks:
  - {name: t, outputs: [{name: o, typeRef: n}], executor: {image: i, command: [date]}}
  types: [{name: n, protocol: File}]
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the examples have it in mind: a circuit here, others below it, and some files."""
    here = tmp_path_factory.mktemp("home")
    for folder in (here, here / "weather", here / "mycode"):
        folder.mkdir(exist_ok=True)
        (folder / "weather.koalja").write_text(f"[weather]\n{WIRING}")
        for wire, text in (("temp", "1"), ("wind", "2"), ("wind", "bad")):
            assert koalja("send", folder, wire, "-d", text).returncode == 0
        assert koalja("run", "--once", "-q", folder).returncode == 4
    (here / "build").mkdir()
    (here / "build/build.koalja").write_text(BUILD)
    (here / "build/main.c").write_text("int main(void) { return 0; }")
    (here / "data").mkdir()
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": 1}
    for name, text in (("data/1.json", "3"), ("reading.json", "4"), ("event.json", json.dumps(event))):
        (here / name).write_text(text)
    (here / "big.csv").write_text("1,2\n" * 50_000)
    (here / "pipeline.yaml").write_text(PIPELINE)
    (here / "several.yaml").write_text(f"{PIPELINE}---\n{PIPELINE.replace('letters', 'tally')}")
    (here / ".config/fish/completions").mkdir(parents=True)
    (here / "bin").mkdir()
    for name, text in (("sensor", "seq 3"), ("koalja-fn", f'exec {" ".join(COMMAND)} "$@"')):
        (here / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (here / "bin" / name).chmod(0o755)
    return here


def examples(verb: str) -> list[str]:
    """The lines below `Examples:` in a verb's help."""
    text = CliRunner().invoke(main, [verb, "--help"], terminal_width=200).output
    block = re.search(r"Examples:\n((?:    .*\n)+)", text)
    assert block is not None
    return textwrap.dedent(block[1]).splitlines()


def dead_letters(folder: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(koalja("failures", folder, "-o", "json").stdout)["letters"]
    return found


def real_ids(line: str, home: Path) -> str:
    """The line with the id of a dead letter, or of a value, in place of those that nobody has."""
    made_up = re.search(r"(?<![\w-])(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{4,8}(?![\w-])", line)
    folder = home / "weather" if "weather" in line else home
    if re.search(r"koalja-fn (retry|skip)", line):
        letters = dead_letters(folder)
        if not letters:  # another verb's examples have given them all up
            koalja("send", folder, "wind", "-d", "bad")
            koalja("run", "--once", "-q", folder)
            letters = dead_letters(folder)
        return line if made_up is None else line.replace(made_up[0], letters[0]["id"])
    if made_up is None:
        return line
    values = json.loads(koalja("list", folder, "values", "-o", "json").stdout)["values"]
    return line.replace(made_up[0], values[-1]["id"][:12])


def run_example(line: str, home: Path) -> tuple[int, str]:
    """Run a line in a shell; one that goes on for ever is interrupted."""
    environ = {**os.environ, "HOME": str(home), "PATH": f"{home / 'bin'}:{os.environ['PATH']}"}
    endless = ENDLESS.search(line) is not None
    process = subprocess.Popen(
        ["sh", "-c", f"exec {line}" if endless else line],
        cwd=home,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = process.communicate(timeout=2.0 if endless else 60.0)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=20)
    return process.returncode, said


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ELSEWHERE])
def test_the_examples_of_a_verb_run(home: Path, verb: str) -> None:
    for line in examples(verb):
        if ("dot -T" in line and shutil.which("dot") is None) or "--cluster" in line:
            continue
        assert "koalja-fn" in line
        status, said = run_example(real_ids(line, home), home)
        if verb in ("retry", "skip") and status == 0:
            koalja("run", "--once", "-q", home)  # what was retried fails again, for the next example
        expected = (
            {0, 130}
            if ENDLESS.search(line)
            else {0, 4}
            if "run --once" in line or verb == "recompute"
            else {0}
        )
        assert status in expected, (line, status, said)
        assert "Traceback" not in said, (line, said)
