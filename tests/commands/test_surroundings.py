"""Odd surroundings: streams that are closed or full, folders that may not be read or written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from circuit_runs import COMMAND, folder_of, koalja, once, rows, texts

ONE = "(in) t (out)\n    run = cat {in}\n"
NOBODY = 65534


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A shell's line in which `$K` is the command."""
    script = line.replace("$K", " ".join(COMMAND))
    return subprocess.run(["sh", "-c", script], cwd=cwd, capture_output=True, text=True, timeout=60)


def as_somebody_else(args: Sequence[object], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run without root's rights over others' files, yet as root: Python may lie where only that one reads."""
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *COMMAND, *(str(a) for a in args)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away: run it with sudo")


@pytest.mark.parametrize(
    "line",
    [
        "$K run --once circuit --lines in <&-",
        "$K run --once circuit --in in=- <&-",
        "$K fmt - <&-",
        "$K send circuit in --lines <&-",
        "$K run --once circuit >&-",
        "$K run --once circuit 2>&-",
        "$K check circuit <&- >&- 2>&-",
    ],
)
def test_streams_that_are_closed_are_as_good_as_empty(tmp_path: Path, line: str) -> None:
    folder_of(tmp_path, ONE)
    done = shell(line, tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


def test_what_is_told_on_a_closed_standard_error_does_not_turn_up_elsewhere(tmp_path: Path) -> None:
    folder_of(tmp_path, ONE)
    done = shell("echo 1 | $K run --once circuit --lines in -o json 2>&-", tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout)["executions"] == 1


@pytest.mark.parametrize(
    "line", ["$K run --once circuit", "$K list circuit", "$K fmt - < circuit/circuit.koalja"]
)
def test_a_full_output_is_told_without_a_traceback(tmp_path: Path, line: str) -> None:
    once(folder_of(tmp_path, ONE), "--lines", "in", stdin="1\n")
    done = shell(f"{line} > /dev/full", tmp_path)
    assert done.returncode == 8
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_an_output_that_nobody_reads_ends_it_quietly(tmp_path: Path) -> None:
    once(folder_of(tmp_path, ONE), "--lines", "in", stdin="1\n" * 500)
    done = shell("$K log circuit -n 1000 | head -1", tmp_path)
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")


@pytest.mark.parametrize("nothing", ["< /dev/null", "<&-"])
def test_sending_nothing_by_mistake_sends_no_empty_value(tmp_path: Path, nothing: str) -> None:
    folder = folder_of(tmp_path, ONE)
    done = shell(f"$K send circuit in {nothing}", tmp_path)
    assert done.returncode == 2
    assert "nothing to send" in done.stderr
    assert "`-` for standard input" in done.stderr
    assert not (folder / ".koalja/registry.db").exists()


def test_an_empty_value_can_be_sent_on_purpose(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "(in) t (out)\n    run = echo {in}\n")
    assert koalja("send", folder, "in", "-").returncode == 0
    assert koalja("send", folder, "in", "--data", "").returncode == 0
    assert len(texts(once(folder), "out")) == 2
    assert [size for (size,) in rows(folder, "SELECT size FROM value WHERE wire = 1")] == [0, 0]


@as_root
@pytest.mark.parametrize("args", [("run", "--once"), ("send", "in", "--data", "1")])
def test_a_folder_of_somebody_else_is_told_with_a_cure(tmp_path: Path, args: tuple[str, ...]) -> None:
    folder = folder_of(tmp_path, ONE)
    once(folder)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    verb, *rest = args
    done = as_somebody_else([verb, "circuit", *rest] if verb == "send" else [*args, "circuit"], tmp_path)
    assert done.returncode == 8, done.stderr
    assert "Permission denied" in done.stderr
    assert "try: " in done.stderr
    assert "Traceback" not in done.stderr


@as_root
@pytest.mark.parametrize(
    "verb",
    [
        ("list", "closed"),
        ("trace", "-C", "closed", "abcd"),
        ("init", "closed/x"),
        ("fmt", "closed"),
        ("check", "closed"),
        ("run", "closed"),
        ("simulate", "closed", "-a", "x"),
        ("send", "closed", "x", "-d", "1"),
        ("doctor", "closed"),
    ],
)
def test_a_folder_that_may_not_be_read_is_told_so(tmp_path: Path, verb: tuple[str, ...]) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(0o700)
    os.chown(closed, NOBODY, NOBODY)
    done = as_somebody_else(verb, tmp_path)
    assert done.returncode in (1, 2, 7, 8), done.stderr
    assert "Traceback" not in done.stderr
    said = done.stderr + done.stdout
    assert "not readable" in said or "Permission denied" in said, said


@as_root
def test_an_in_tray_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    """Else nothing would come, and nobody would know why."""
    folder = folder_of(tmp_path, ONE + "wire in\n    from = inbox/*\n")
    (folder / "inbox").mkdir(mode=0o700)
    (folder / "inbox/1").write_text("1")
    os.chown(folder / "inbox", NOBODY, NOBODY)
    done = as_somebody_else(["run", "--once", "circuit"], tmp_path)
    assert done.returncode == 0
    assert f"nothing is taken from {folder / 'inbox'}" in done.stderr
