"""`trace`, `visits`, `log`, `map`: the verbs, over a registry filled by hand."""

import hashlib
import json
import re
import shutil
import subprocess

import pytest
from click.testing import CliRunner
from story_worlds import weather

from koalja_fn.commands import main

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
VALUE = {
    "id", "circuit", "wire", "position", "arrived", "created", "source", "snapshot", "version", "digest",
    "size", "type", "name", "hops", "event", "attributes",
}  # fmt: skip
SNAPSHOT = {
    "id", "circuit", "task", "number", "generation", "state", "formed", "cause", "finished", "version", "run",
    "inputs", "attempts", "remarks", "made", "madeMore", "lookups", "answered", "superseded",
}  # fmt: skip
WINDOW = {
    "input",
    "count",
    "new",
    "size",
    "earliest",
    "latest",
    "snapshots",
    "runs",
    "values",
    "leftOut",
    "passed",
}
ATTEMPT = {
    "attempt", "outcome", "reason", "status", "message", "stderr", "version", "run", "started", "ended",
    "seconds", "sizeIn", "sizeOut",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    weather(tmp_path).registry.close()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*words, status=0):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == status, result.output
    return result


def ask(*words):
    return json.loads(call(*words, "-o", "json").stdout)


def an_id(wire, position=0):
    return ask("list", "values", "--wire", wire)["values"][position]["id"]


def test_trace_in_json_has_its_schema(folder):
    told = ask("trace", an_id("page"))
    assert set(told) == {"start", "direction", "values", "snapshots", "notes", "superseding"}
    assert all(set(value) == VALUE | {"depth"} for value in told["values"])
    assert all(snapshot.keys() == SNAPSHOT | {"depth"} for snapshot in told["snapshots"]), told["snapshots"]
    assert {tuple(sorted(w)) for s in told["snapshots"] for w in s["inputs"]} == {tuple(sorted(WINDOW))}
    assert {tuple(sorted(a)) for s in told["snapshots"] for a in s["attempts"]} == {tuple(sorted(ATTEMPT))}
    page = told["values"][0]
    assert (page["wire"], page["position"], page["depth"]) == ("page", 1, 0)
    assert ISO.fullmatch(page["arrived"])
    average = next(s for s in told["snapshots"] if s["task"] == "average")
    assert average["cause"] == {"wire": "wind", "position": 10}
    assert average["inputs"][0]["runs"] == [{"wire": "wind", "first": 1, "last": 10}]
    assert average["run"] == "./average.py {wind} {temp}"
    source = next(v for v in told["values"] if v["wire"] == "temp")
    assert source["event"] == {"source": "urn:sensor", "id": "temp-0"}
    assert source["name"] == "temp-1.txt"


def test_trace_forward_tells_what_readers_did(folder):
    told = ask("trace", an_id("wind", 3), "--forward")
    assert told["direction"] == "forward"
    assert told["values"][0]["readers"][0]["state"] == "used"
    assert len(told["values"][0]["readers"][0]["snapshots"]) == 2


def test_a_prefix_of_four_characters_will_do(folder):
    value = an_id("page")
    assert ask("trace", value[:4])["start"] == value
    assert ask("trace", value[:10].upper())["start"] == value
    assert "too short" in call("trace", value[:3], status=2).stderr


def test_an_ambiguous_prefix_lists_the_candidates(folder):
    weather(folder / "more").registry.close()
    registry = folder / ".koalja" / "registry.db"
    import sqlite3

    with sqlite3.connect(registry) as connection:
        connection.execute("UPDATE value SET id = 'aaaa' || position WHERE wire = 4")
    told = call("trace", "aaaa", status=2).stderr
    assert "beginning of several ids" in told
    assert "wind 0002" in told
    assert ask("trace", "aaaa3")["start"] == "aaaa3"


def test_a_snapshot_can_be_traced_both_ways(folder):
    value = ask("list", "snapshots", "--task", "average")["snapshots"][0]["id"]
    assert len(ask("trace", value)["values"]) == 11
    assert [v["wire"] for v in ask("trace", value, "--forward")["values"]] == ["mean", "page"]


def test_a_file_with_the_content_of_a_value_is_that_value(folder, monkeypatch):
    content = "wind-4"
    (folder / "copy.txt").write_text(content)
    assert ask("trace", "copy.txt")["values"][0]["position"] == 5
    monkeypatch.chdir("/")
    assert ask("trace", folder / "copy.txt")["start"]
    (folder / "other.txt").write_text("other")
    told = call("trace", folder / "other.txt", status=7).stderr
    assert hashlib.sha256(b"other").hexdigest() in told


def test_depth_and_full(folder):
    value = an_id("page")
    assert len(ask("trace", value, "--depth", "1")["values"]) == 2
    assert len(ask("trace", value, "--full")["values"]) == 13
    assert "--depth 0" in call("trace", value, "--depth", "0").stdout


def test_what_is_not_there_says_so(folder, tmp_path, monkeypatch):
    assert "list values" in call("trace", "ffffffff0", status=7).stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "koalja-fn run" in call("trace", empty, "ffff", status=7).stderr


def test_visits(folder):
    told = ask("visits", "average")
    assert set(told) == {"circuit", "task", "snapshots", "usual", "visits"}
    assert set(told["usual"]) == {"executions", "seconds", "sizeIn", "sizeOut", "interval", "anomalies"}
    assert [visit["number"] for visit in told["visits"]] == [1, 2]
    assert [set(visit) for visit in told["visits"]] == [SNAPSHOT] * 2
    assert len(ask("visits", "average", "--last", "1")["visits"]) == 1
    assert ask("visits", "average", "--anomalies")["visits"] == []
    text = call("visits", "average").stdout
    assert "[out: mean 0001" in text
    assert "[remark: look up a name]" in text
    assert "there are: average, report" in call("visits", "nobody", status=7).stderr


def test_a_folder_of_a_tasks_name_is_not_taken_for_the_circuits(folder):
    (folder / "average").mkdir()
    assert ask("visits", "average")["task"] == "average"
    assert ask("visits", folder, "average")["task"] == "average"


def test_log(folder):
    told = ask("log")
    assert all({"at", "kind", "task", "text"} <= set(entry) for entry in told)
    assert [entry["at"] for entry in told] == sorted(entry["at"] for entry in told)
    kinds = {entry["kind"] for entry in told}
    assert kinds == {"arrived", "formed", "executed", "remark", "wired"}
    assert len(ask("log", "--last", "4")) == 4
    report = ask("log", "--task", "report")
    assert {entry["task"] for entry in report if entry["kind"] != "arrived"} == {"report"}
    formed = next(entry for entry in told if entry["kind"] == "formed")
    assert formed["cause"] == {"wire": "wind", "position": 10}
    assert "no folder" in call("log", "nowhere", status=7).stderr


def test_map_in_text_json_and_dot(folder):
    text = call("map").stdout
    assert '  (wind) --b(triggers [10/2])--> "average"' in text.splitlines()
    assert "promises: policy swap, rate 5/s" in text
    told = ask("map")
    assert set(told) == {"circuit", "tasks", "wires", "recomputes"}
    assert {tuple(task) for task in told["tasks"]} == {
        ("name", "retired", "generation", "inputs", "outputs", "promises", "versions", "snapshots", "usual",
         "anomalies")
    }  # fmt: skip
    assert {tuple(wire) for wire in told["wires"]} == {
        ("name", "values", "from", "to", "last", "sampled", "types", "size", "interval")
    }
    wind = next(wire for wire in told["wires"] if wire["name"] == "wind")
    assert (wind["values"], wind["types"], wind["to"]) == (12, {"text/plain": 12}, ["average"])
    assert wind["interval"]["mean"] == 1.0
    assert ask("map", "weather") == told
    assert "did you mean 'weather'" in call("map", "wether", status=7).stderr


def test_dot_is_in_graphviz_grammar(folder):
    """A statement on each line: a node or an edge with quoted names and labels."""
    quoted = r'"(?:[^"\\]|\\.)*"'
    attributes = rf"(?: \[\w+=(?:\w+|{quoted})(?:, \w+=(?:\w+|{quoted}))*\])?"
    statement = re.compile(rf"  (?:rankdir=LR|(?:node|{quoted})(?: -> {quoted})?{attributes});")
    first, *statements, last = call("map", "-o", "dot").stdout.splitlines()
    assert (first, last) == ('digraph "weather" {', "}")
    assert [line for line in statements if not statement.fullmatch(line)] == []


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not there: apt install graphviz")
def test_graphviz_draws_the_map(folder):
    drawn = subprocess.run(
        ["dot", "-Tsvg"], input=call("map", "-o", "dot").stdout, capture_output=True, text=True, check=True
    )
    assert "<svg" in drawn.stdout


def test_help_has_examples(folder):
    for verb in ("trace", "visits", "log", "map", "list", "describe", "failures", "retry", "skip"):
        assert f"koalja-fn {verb}" in call(verb, "--help").stdout


def test_times_are_local_in_text(folder, monkeypatch):
    import time

    value = an_id("page")
    monkeypatch.setenv("TZ", "Europe/Amsterdam")
    time.tzset()
    try:
        assert "2026-07-01 12:00:22.250 +0200 CEST |" in call("trace", value).stdout
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_file_that_is_not_there_is_told_as_such(folder):
    result = call("trace", "outbox/nowhere.json", status=7)
    assert "there is no file outbox/nowhere.json" in result.stderr
