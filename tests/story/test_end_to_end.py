"""A real circuit, run once: its stories as a user asks for them."""

import json
import shutil

import pytest
from click.testing import CliRunner

from koalja_fn.commands import main

pytestmark = pytest.mark.skipif(shutil.which("sort") is None, reason="needs sort; apt install coreutils")

WIRING = """\
[words]
(text) sorted (lines)
    run = sort {text}
(lines[2/1]) both (pair)
    run = cat {lines}
    retries = 0
(pair) broken (nothing)
    run = sh -c "echo no such thing >&2; exit 9"
    retries = 0
wire text
    from = inbox/*.txt
wire pair
    to = outbox/{id}.txt
"""


def ask(*words, status=0):
    result = CliRunner().invoke(main, [*words, "-o", "json"])
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "words.koalja").write_text(WIRING)
    (tmp_path / "inbox").mkdir()
    for n in range(3):
        (tmp_path / "inbox" / f"{n}.txt").write_text(f"z{n}\na{n}\n")
    monkeypatch.chdir(tmp_path)
    ask("run", "--once", ".", status=4)
    return tmp_path


def test_the_stories_of_a_real_run(folder):
    outbox = sorted((folder / "outbox").iterdir())
    assert len(outbox) == 2
    told = ask("trace", str(outbox[0]))
    assert {v["wire"] for v in told["values"]} == {"pair", "lines", "text"}
    assert {v["name"] for v in told["values"] if v["wire"] == "text"} < {"0.txt", "1.txt", "2.txt"}
    assert {s["task"] for s in told["snapshots"]} == {"sorted", "both"}
    assert {a["outcome"] for s in told["snapshots"] for a in s["attempts"]} == {"done"}
    assert {s["run"] for s in told["snapshots"]} == {"sort {text}", "cat {lines}"}

    first = ask("list", "values", "--wire", "text")["values"][0]["id"]
    ahead = ask("trace", first, "--forward")
    assert [v["wire"] for v in ahead["values"]][:2] == ["text", "lines"]
    assert "dead" in {s["state"] for s in ahead["snapshots"]}

    letters = ask("failures")["letters"]
    assert [(x["task"], x["attempts"][-1]["status"], x["attempts"][-1]["stderr"]) for x in letters] == [
        ("broken", 9, "no such thing\n")
    ] * 2
    counts = {task["task"]: (task["done"], task["dead"]) for task in ask("list", "tasks")["tasks"]}
    assert counts == {"sorted": (3, 0), "both": (2, 0), "broken": (0, 2)}
    told = ask("map")
    assert {t["name"]: t["usual"]["executions"] for t in told["tasks"]} == {
        "sorted": 3,
        "both": 2,
        "broken": 0,
    }
    assert {w["name"]: w["from"] for w in told["wires"]}["pair"] == "both"
    assert len(ask("visits", "sorted")["visits"]) == 3
    assert {"arrived", "formed", "executed", "wired"} <= {entry["kind"] for entry in ask("log", "-n", "100")}


def test_retried_letters_run_again_and_skipped_ones_do_not(folder):
    (first, second) = ask("failures")["letters"]
    ask("skip", second["id"])
    ask("retry", first["id"])
    (folder / "words.koalja").write_text(WIRING.replace("exit 9", "exit 0"))
    ask("run", "--once", ".")
    assert ask("failures")["letters"] == []
    (task,) = [task for task in ask("list", "tasks")["tasks"] if task["task"] == "broken"]
    assert (task["done"], task["skipped"], task["waiting"]) == (1, 1, {"pair": 0})
    attempts = ask("trace", first["id"])["snapshots"][0]["attempts"]
    assert [(a["outcome"], a["status"]) for a in attempts] == [("failed", 9), ("done", 0)]
    assert len({a["version"] for a in attempts}) == 2


MERGED = """\
[merged]
((left + right)[2] as both) t (out)
    run = sh -c "cat {both}; exit $(cat {both} | grep -c bad)"
    retries = 0
"""


def said(*words):
    return CliRunner().invoke(main, list(words)).stdout


def test_a_merged_input_is_told_by_its_wires_own_positions(tmp_path, monkeypatch):
    """An input of several wires counts for itself: its number 3 is no third value of any wire."""
    (tmp_path / "merged.koalja").write_text(MERGED)
    monkeypatch.chdir(tmp_path)
    for wire in ("left", "right", "right", "left"):
        assert CliRunner().invoke(main, ["send", ".", wire, "-d", wire]).exit_code == 0
    ask("run", "--once", ".")
    formed = [entry for entry in ask("log") if entry["kind"] == "formed"]
    runs = [run for entry in formed for run in entry["inputs"][0]["runs"]]
    taken = [(run["wire"], n) for run in runs for n in range(run["first"], run["last"] + 1)]
    assert sorted(taken) == [("left", 1), ("left", 2), ("right", 1), ("right", 2)]
    shown = [line.partition(" of ")[2] for line in said("log").splitlines() if " formed " in line]
    assert not any("both" in text for text in shown)
    assert sum(text.count("left") + text.count("right") for text in shown) == len(runs)


def test_how_an_attempt_ended_is_said_once(tmp_path, monkeypatch):
    (tmp_path / "merged.koalja").write_text(MERGED)
    monkeypatch.chdir(tmp_path)
    CliRunner().invoke(main, ["send", ".", "left", "--lines", "-d", "bad\nbad"])
    ask("run", "--once", ".", status=4)
    assert "the last one: failed, ended with exit status 1\n" in said("failures")
