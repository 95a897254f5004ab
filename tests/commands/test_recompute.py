"""`koalja-fn recompute`, as a user calls it: real programs, real SIGKILL."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from circuit_runs import COMMAND, folder_of, koalja, once, wait_for

WIRING = """\
(in) up (mid)
(mid[3/1]) join (out)
(out) tell ()
"""
OLD = "#!/bin/sh\ntr a-z A-Z < $1\n"
NEW = "#!/bin/sh\ntr a-z A-Z < $1; echo new\n"
JOIN = "#!/bin/sh\ncat $*\n"


def circuit(home: Path, up: str = OLD, wiring: str = WIRING) -> Path:
    return folder_of(home, wiring, up=up, join=JOIN, tell=f"#!/bin/sh\necho told >> {home}/told\n")


def feed(folder: Path, *lines: str) -> dict[str, Any]:
    return once(folder, "--lines", "in", stdin="".join(f"{line}\n" for line in lines))


def listed(folder: Path, wire: str) -> list[dict[str, Any]]:
    told = koalja("list", "values", "--wire", wire, "-n", 100, "-C", folder, "-o", "json")
    found: list[dict[str, Any]] = json.loads(told.stdout)["values"]
    return found


def payloads(folder: Path, wire: str) -> list[str]:
    """What the values of a wire say."""
    return [value["digest"] for value in listed(folder, wire)]


def recomputed(folder: Path, *args: object) -> Any:
    done = koalja("recompute", folder, "-q", "-o", "json", *args)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ran(path: Path, count: int) -> bool:
    """Whether a program has left so many marks."""
    return path.exists() and len(path.read_text().split()) >= count


def edit(folder: Path, text: str) -> None:
    (folder / "up").write_text(text)


def test_the_results_are_those_of_the_new_code_and_effects_are_not_repeated(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    old, new = circuit(one), circuit(two, NEW)
    for folder in (old, new):
        feed(folder, "a", "b", "c", "d")
    assert (one / "told").read_text() == "told\n" * 2
    edit(old, NEW)
    planned = json.loads(koalja("recompute", old, "--dry-run", "-o", "json").stdout)
    assert [(t["task"], t["snapshots"], t["certain"]) for t in planned["tasks"]] == [
        ("up", 4, True),
        ("join", 2, False),
        ("tell", 2, False),
    ]
    assert any("tell has effects only" in note for note in planned["notes"])
    told = recomputed(old)
    assert told["tasks"] == {"up": {"again": 4}, "join": {"again": 2}, "tell": {"skipped": 2}}
    assert (one / "told").read_text() == "told\n" * 2
    assert payloads(old, "out") == payloads(new, "out")
    # A window that was begun goes on with the new values.
    for folder in (old, new):
        feed(folder, "e")
    assert payloads(old, "out") == payloads(new, "out")
    assert "agree" in koalja("doctor", old, "--verify").stdout
    assert recomputed(old)["tasks"] == []


def test_old_and_new_results_know_of_each_other(tmp_path: Path) -> None:
    folder = circuit(tmp_path)
    before = feed(folder, "a", "b", "c")["wires"]["mid"][0]["id"]
    edit(folder, NEW)
    recomputed(folder)
    now = listed(folder, "mid")[0]["id"]
    assert now != before
    old = json.loads(koalja("trace", before, "-C", folder, "-o", "json").stdout)["superseding"][before]
    new = json.loads(koalja("trace", now, "-C", folder, "-o", "json").stdout)["superseding"][now]
    assert [(m["relation"], m["id"], m["recompute"]) for m in old] == [("superseded by", now, 1)]
    assert [(m["relation"], m["id"], m["recompute"]) for m in new] == [("supersedes", before, 1)]
    text = koalja("trace", before, "-C", folder).stdout
    assert f"superseded by {now[:12]}" in text
    assert "recompute 1" in koalja("map", "-C", folder).stdout
    assert "done, superseded" in koalja("list", "snapshots", "-C", folder).stdout


def test_what_comes_out_as_it_was_is_kept(tmp_path: Path) -> None:
    folder = circuit(tmp_path)
    feed(folder, "a", "b", "c", "d")
    edit(folder, OLD + "# another comment\n")
    assert recomputed(folder)["tasks"] == {"up": {"again": 4}, "join": {"kept": 2}, "tell": {"kept": 2}}


def test_only_failed_runs_dead_letters_and_puts_their_results_in_their_places(tmp_path: Path) -> None:
    wiring = WIRING.replace("(mid)\n", "(mid)\n    retries = 0\n", 1)
    folder = circuit(tmp_path, "#!/bin/sh\ngrep -q b $1 && exit 3; tr a-z A-Z < $1\n", wiring)
    feed(folder, "a", "b", "c", "d")
    edit(folder, OLD)
    told = recomputed(folder, "--only-failed")
    assert told["tasks"]["up"] == {"again": 1, "kept": 3}
    clean = tmp_path / "clean"
    clean.mkdir()
    feed(other := circuit(clean), "a", "b", "c", "d")
    assert payloads(folder, "mid") == payloads(other, "mid")
    assert payloads(folder, "out") == payloads(other, "out")


def test_since_takes_later_snapshots_only(tmp_path: Path) -> None:
    folder = circuit(tmp_path)
    feed(folder, "a", "b")
    feed(folder, "c")
    edit(folder, NEW)
    told = recomputed(folder, "--task", "up", "--since", 3)
    assert told["tasks"]["up"] == {"again": 1, "kept": 2}


def test_killed_at_any_moment_it_goes_on_and_comes_to_the_same(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    old, new = circuit(one), circuit(two, NEW)
    lines = [f"line {n}" for n in range(15)]
    for folder in (old, new):
        feed(folder, *lines)
    edit(
        old, NEW.replace("echo", "echo up >> $KOALJA_CODE/../runs; echo").replace("$KOALJA_CODE/..", str(one))
    )
    edit(new, (old / "up").read_text())
    for kills in range(1, 4):
        process = subprocess.Popen([*COMMAND, "recompute", str(old), "-q"], start_new_session=True)
        try:
            wait_for(partial(ran, one / "runs", kills * 3))
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(30)
    told = recomputed(old)
    assert told["recompute"] == 1
    assert told["tasks"]["up"] == {"again": 15}
    assert payloads(old, "out") == payloads(new, "out")
    assert "agree" in koalja("doctor", old, "--verify").stdout
    # Of what was under way when it was killed nothing is known but that it is to be run.
    assert 15 <= len((one / "runs").read_text().split()) <= 15 + 3


def test_a_folder_in_which_nothing_differs_has_nothing_to_do(tmp_path: Path) -> None:
    folder = circuit(tmp_path)
    feed(folder, "a")
    done = koalja("recompute", folder)
    assert done.returncode == 0
    assert "nothing to do" in done.stdout
    unknown = koalja("recompute", folder, "--task", "nobody")
    assert unknown.returncode == 7
    assert "there are: up, join, tell" in unknown.stderr


def test_a_run_begins_by_itself_where_the_wiring_says_so(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    wiring = WIRING.replace("(mid)\n", "(mid)\n    on-update = recompute\n", 1)
    old, new = circuit(one, OLD, wiring), circuit(two, NEW, wiring)
    for folder in (old, new):
        feed(folder, "a", "b", "c")
    edit(old, NEW)
    assert "recompute 1 is in force" in feed(old, "d")["talk"]
    assert "recompute" not in feed(new, "d")["talk"]
    assert payloads(old, "out") == payloads(new, "out")
    assert "not yet" not in koalja("check", old).stdout


def test_a_run_goes_on_with_what_was_interrupted(tmp_path: Path) -> None:
    folder = circuit(tmp_path)
    feed(folder, "a", "b", "c", "d")
    edit(folder, f"#!/bin/sh\necho up >> {tmp_path}/runs\n{NEW}")
    process = subprocess.Popen([*COMMAND, "recompute", str(folder), "-q"], start_new_session=True)
    try:
        wait_for(partial(ran, tmp_path / "runs", 1))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    talk = feed(folder, "e")["talk"]
    # It may have come to its end before it was killed.
    assert "recompute 1 is in force" in talk or "recompute 1," in koalja("map", "-C", folder).stdout
    assert recomputed(folder)["tasks"] == []
    assert "agree" in koalja("doctor", folder, "--verify").stdout
