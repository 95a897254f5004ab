"""`list`, `describe`, `failures`, `retry`, `skip`: the verbs, over a registry filled by hand."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner
from story_worlds import World, weather

from koalja_fn.commands import main
from koalja_fn.local.opening import open_registry
from koalja_fn.local.ringing import ring
from koalja_fn.registry import records


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


def test_the_overview_counts(folder):
    told = ask("list")
    assert set(told) == {"tasks", "wires"}
    average, report = told["tasks"]
    assert set(average) == {
        "circuit", "task", "retired", "waiting", "formed", "ready", "running", "done", "dead", "skipped",
        "last",
    }  # fmt: skip
    assert (average["formed"], average["done"], average["dead"]) == (2, 2, 0)
    assert (report["formed"], report["done"], report["dead"]) == (2, 1, 1)
    assert average["waiting"] == {"wind": 0, "temp": 0}
    wires = {wire["wire"]: wire for wire in told["wires"]}
    assert set(wires["mean"]) == {"circuit", "wire", "values", "written", "from", "to", "latest", "last"}
    assert (wires["mean"]["from"], wires["mean"]["to"], wires["mean"]["values"]) == ("average", ["report"], 2)
    assert wires["wind"]["from"] is None
    assert call("list").stdout.splitlines()[0].split() == [
        "TASK", "WAITING", "READY", "RUNNING", "DONE", "DEAD", "SKIPPED"
    ]  # fmt: skip


def test_a_wire_without_values_is_from_whom_the_wiring_says(tmp_path, monkeypatch):
    World(tmp_path, "[w]\n(x) t (y)\n(y) u (z)\n")
    monkeypatch.chdir(tmp_path)
    assert {wire["wire"]: wire["from"] for wire in ask("list", "wires")["wires"]} == {
        "x": None, "y": "t", "z": "u"
    }  # fmt: skip
    shown = [line.split() for line in call("list", "wires").stdout.splitlines()[1:]]
    assert shown == [["x", "0", "(outside)", "t"], ["y", "0", "t", "u"], ["z", "0", "u"]]


def test_values_in_no_snapshot_yet_are_waiting(tmp_path, monkeypatch):
    world = World(tmp_path, "[w]\n(x[3]) t (y)\n(a + b as both) m (z)\n")
    for _ in range(5):
        world.send("x")
    world.form("t", x=(0, 2))
    for wire in "ab":
        world.send(wire)
    world.registry.close()
    monkeypatch.chdir(tmp_path)
    waiting = {task["task"]: task["waiting"] for task in ask("list", "tasks")["tasks"]}
    assert waiting == {"t": {"x": 2}, "m": {"both": 2}}


@pytest.mark.parametrize("kind", ["circuits", "tasks", "wires", "values", "snapshots"])
def test_each_kind_has_its_list(folder, kind):
    assert list(ask("list", kind)) == [kind]
    assert list(ask("list", folder, kind)) == [kind]
    assert len(call("list", kind).stdout.splitlines()) == len(ask("list", kind)[kind]) + 1


def test_last_values_of_a_wire(folder):
    assert [v["position"] for v in ask("list", "values", "--wire", "wind", "--last", "2")["values"]] == [
        11,
        12,
    ]
    assert [v["position"] for v in ask("list", "--wire", "wind", "-n", "1")["values"]] == [12]
    assert "there are: mean, page, temp, wind" in call("list", "values", "-w", "x", status=7).stderr
    assert "did you mean 'wires'" in call("list", "wire", status=2).stderr


def test_describe_knows_what_it_is(folder):
    assert ask("describe", "average")["kind"] == "task"
    assert ask("describe", "wind")["kind"] == "wire"
    assert ask("describe", "weather")["kind"] == "circuit"
    value = ask("list", "values", "-w", "mean")["values"][0]["id"]
    told = ask("describe", value[:12])
    assert (told["kind"], told["madeBy"]["task"], told["readers"][0]["task"]) == (
        "value",
        "average",
        "report",
    )
    snapshot = ask("list", "snapshots")["snapshots"][0]["id"]
    assert ask("describe", snapshot)["kind"] == "snapshot"
    for word in ("average", "wind", "weather", value, snapshot):
        assert call("describe", word).stdout.strip()
    assert "there are: weather, average" in call("describe", "xyz", status=7).stderr


def test_failures_tell_what_and_how_to_mend_it(folder):
    told = ask("failures")
    assert set(told) == {"letters", "more", "refused"}
    (letter,) = told["letters"]
    assert (letter["task"], letter["attempts"][-1]["status"]) == ("report", 3)
    assert letter["cure"].endswith(f"koalja-fn retry {letter['id'][:12]}")
    text = call("failures").stdout
    assert "exit status 3" in text
    assert "| KeyError: 'wind'" in text
    assert ask("failures", "--task", "average")["letters"] == []


def test_refused_events_are_told(folder):
    registry = open_registry(folder)
    refusal = records.Refusal(
        "wind", registry.clock(), "v", "urn:s", "7", "sha256:1", "sha256:2", "other content"
    )
    registry.transact(lambda tx: records.refuse(tx, refusal, 1))
    registry.close()
    (told,) = ask("failures")["refused"]
    assert (told["wire"], told["event"], told["reason"]) == (
        "wind",
        {"source": "urn:s", "id": "7"},
        "other content",
    )
    assert "event '7' of 'urn:s' refused" in call("failures").stdout
    assert ask("log")[-1]["kind"] == "refused"


def test_retry_and_skip(folder):
    (letter,) = ask("failures")["letters"]
    assert ask("retry", letter["id"][:8]) == {
        "retried": [{"snapshot": letter["id"], "task": "report", "number": 2}]
    }
    assert ask("list", "tasks")["tasks"][1]["ready"] == 1
    assert "it is ready" in call("retry", letter["id"], status=2).stderr


def test_skip_says_why(folder):
    (letter,) = ask("failures")["letters"]
    assert "1 dead letter given up" in call("skip", "--task", "report", "--reason", "no sensor").stdout
    assert ask("list", "tasks")["tasks"][1]["skipped"] == 1
    assert "[skipped: no sensor]" in call("trace", letter["id"]).stdout


def test_retry_wants_to_know_which(folder):
    assert "--all" in call("retry", status=2).stderr
    assert "--all" in call("retry", "--all", "--task", "report", status=2).stderr
    assert "no snapshot" in call("retry", ask("list", "values")["values"][0]["id"], status=7).stderr
    assert call("retry", folder, "--all").exit_code == 0


class Bell(BaseHTTPRequestHandler):
    """What `run` answers to a ring."""

    def do_POST(self):
        self.server.rung.append(self.path)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *words):
        pass


def test_a_running_run_is_rung(folder):
    server = HTTPServer(("127.0.0.1", 0), Bell)
    server.rung = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    (folder / ".koalja" / "run.json").write_text(
        json.dumps({"url": f"http://127.0.0.1:{server.server_port}"})
    )
    try:
        call("retry", "--all")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert server.rung == ["/-/ring"]


@pytest.mark.parametrize(
    "text", ["", "{}", '{"url": 7}', '{"url": "http://127.0.0.1:1"}', '{"url": "file:///etc"}']
)
def test_a_ring_that_nobody_hears_is_no_failure(tmp_path, text):
    (tmp_path / ".koalja").mkdir()
    (tmp_path / ".koalja" / "run.json").write_text(text)
    assert ring(tmp_path) is False
    assert ring(tmp_path / "nowhere") is False


def test_the_circuit_may_be_named_by_its_file_as_for_run(folder):
    (folder / "weather.koalja").write_text("[weather]\n(wind) t (mean)\n")
    assert ask("list", "weather.koalja", "tasks") == ask("list", "tasks")
    assert ask("describe", folder / "weather.koalja", "average") == ask("describe", "average")
    assert "neither a folder nor" in call("list", "weather.koala", status=2).output
