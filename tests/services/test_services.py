"""Services under the engine: started, switched over, restarted, ended; and who answered is on record."""

from __future__ import annotations

import json
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from koalja_fn.engine import serving
from koalja_fn.story.backward import backward
from koalja_fn.story.forward import forward
from koalja_fn.story.passport import FULL
from koalja_fn.story.telling import passport_text
from tests.services.hall import SERVER, WIRING, Crowd, get, hall, wait_for


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_an_execution_waits_for_its_service_and_the_answer_is_on_record(tmp_path: Path, kind: str) -> None:
    with hall(tmp_path, kind=kind) as place:
        with place.running():
            place.send("json", "a", "b")
            place.settle()
            assert place.states("predict") == ["ready", "ready"]  # nobody to ask: neither failed nor lost
            place.send("model", "m1")
            place.settle()
            assert place.said_on("result") == ["m1:a", "m1:b"]
            place.send("model", "m2")
            place.settle()
            place.send("json", "c")
            place.settle()
        assert place.said_on("result") == ["m1:a", "m1:b", "m2:c"]
        found = place.lookups()
        assert [(one.service, one.number, one.lookup.status) for one in found] == [
            ("server", 0, 200),
            ("server", 0, 200),
            ("server", 1, 200),
        ]
        last = found[-1].lookup
        assert place.store.read(last.asked.digest) == b"c"
        assert place.store.read(last.told.digest) == b"m2:c"
        assert (last.method, last.path, last.problem) == ("POST", "/ask", "")
        place.store.delete(last.told.digest)
        place.store.delete(last.asked.digest)
        damage = [
            f"payload {digest} is missing or damaged" for digest in (last.asked.digest, last.told.digest)
        ]
        assert sorted(place.wrong()) == sorted(damage)
        place.store.put_many([b"c", b"m2:c"])
        assert last.version == place.plan.tasks["server"].code.version
        assert place.wrong() == []


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_no_request_fails_while_the_service_changes(tmp_path: Path, kind: str) -> None:
    with hall(tmp_path, kind=kind) as place, place.running():
        place.send("model", "m1")
        place.settle()
        with place.asking() as url:
            pid = int(get(f"{url}/pid")[1])
            with Crowd(url) as crowd:
                for model in ("m2", "m3"):
                    place.send("model", model)
                    wait_for(lambda model=model: (200, f"{model}:") in crowd.answers[-1:])
            assert {status for status, _ in crowd.answers} == {200}
            texts = [text for _, text in crowd.answers]
            assert texts == sorted(texts)  # never back to an older one
        wait_for(lambda: not alive(pid))


def test_the_old_process_ends_after_its_open_requests(tmp_path: Path) -> None:
    with hall(tmp_path) as place, place.running():
        place.send("model", "m1")
        place.settle()
        gate = tmp_path / "gate"
        with place.asking() as url, Crowd(f"{url}/slow{gate}") as crowd:
            pid = int(get(f"{url}/pid")[1])
            wait_for((tmp_path / "gate.begun").exists)
            place.send("model", "m2")
            wait_for(lambda: get(url) == (200, "m2:"))
            assert alive(pid)
            gate.touch()
            wait_for(lambda: crowd.answers)
            assert crowd.answers[0] == (200, "m1:")
            wait_for(lambda: not alive(pid))


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_service_that_dies_is_started_again_and_on_record(tmp_path: Path, kind: str) -> None:
    with hall(tmp_path, kind=kind) as place:
        with place.running():
            place.send("model", "m1")
            place.settle()
            with place.asking() as url:
                status, told = get(f"{url}/die", b"")
                assert status == 502
                assert "broke off" in json.loads(told)["error"]
                assert get(url) == (200, "m1:")  # it waited for the next process
        outcomes = [outcome for outcome, *_ in place.attempts("server")]
        assert outcomes == ["listening", "failed", "listening"]
        _, reason, exit_status, message, stderr = place.attempts("server")[1]
        assert (reason, exit_status) == ("exit", 7)
        assert "died after" in message
        assert "it hurts" in stderr
        assert place.states("server") == ["done"]
        assert place.wrong() == []


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_service_that_goes_on_dying_is_a_dead_letter_and_requests_need_not_wait(
    tmp_path: Path, kind: str
) -> None:
    wiring = WIRING.replace("backoff = 10ms", "backoff = 10ms\n    retries = 1")
    with hall(tmp_path, wiring, kind) as place:
        with place.running():
            place.send("model", "m1")
            place.settle()
            with place.asking() as url:
                for tries in (2, 4):  # each listens, and dies
                    assert get(f"{url}/die", b"")[0] == 502
                    wait_for(lambda tries=tries: len(place.attempts("server")) >= tries)
                status, told = get(url)
                assert status == 503
                assert "dead letter" in json.loads(told)["error"]
            place.send("json", "a")
            place.settle()
            assert place.states("predict") == ["ready"]
            place.send("model", "m2")  # another model may be better
            place.settle()
            assert place.said_on("result") == ["m2:a"]
        assert place.states("server") == ["dead", "done"]
        assert place.wrong() == []


def test_a_service_that_had_come_up_well_is_not_counted_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_STEADY", 0.0)
    wiring = WIRING.replace("backoff = 10ms", "backoff = 10ms\n    retries = 0")
    with hall(tmp_path, wiring) as place, place.running():
        place.send("model", "m1")
        place.settle()
        with place.asking() as url:
            for tries in (2, 4):
                assert get(f"{url}/die", b"")[0] == 502
                wait_for(lambda tries=tries: len(place.attempts("server")) >= tries)
                wait_for(lambda: place.services.is_ready(place.plan.tasks["predict"]))
            assert get(url) == (200, "m1:")
        assert place.states("server") == ["done"]


def test_a_service_that_says_nothing_for_long_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_NOTICE", 0.05)
    slow = "import time\ntime.sleep(0.5)\n" + SERVER
    with hall(tmp_path, server=slow) as place, place.running():
        place.send("model", "m1")
        place.settle()
        assert any("server: does not listen on 127.0.0.1:" in text for text in place.said)


def test_a_service_that_never_listens_is_a_failure_that_says_so(tmp_path: Path) -> None:
    wiring = WIRING.replace("backoff = 10ms", "backoff = 10ms\n    retries = 0\n    timeout = 300ms")
    with hall(tmp_path, wiring, server="import time\ntime.sleep(600)\n") as place, place.running():
        place.send("model", "m1")
        place.settle()
        ((outcome, reason, _, message, _),) = place.attempts("server")
        assert (outcome, reason) == ("failed", "timeout")
        assert "did not listen on 127.0.0.1:$PORT within 0.3 s" in message
        assert place.states("server") == ["dead"]


@pytest.mark.parametrize(("address", "outcome"), [("127.0.0.2", "failed"), ("0.0.0.0", "listening")])
def test_what_listens_is_found_where_requests_would_go(tmp_path: Path, address: str, outcome: str) -> None:
    wiring = WIRING.replace("backoff = 10ms", "backoff = 10ms\n    retries = 0\n    timeout = 3s")
    server = SERVER.replace("127.0.0.1", address)
    with hall(tmp_path, wiring, server=server) as place, place.running():
        place.send("model", "m1")
        place.settle()
        assert [attempt[0] for attempt in place.attempts("server")] == [outcome]


def test_a_program_that_serves_from_another_process_is_found(tmp_path: Path) -> None:
    server = (
        "import subprocess, sys\nsubprocess.run([sys.executable, sys.path[0] + '/real.py', sys.argv[1]])\n"
    )
    with hall(tmp_path, server=server, real=SERVER) as place, place.running():
        place.send("model", "m1")
        place.send("json", "a")
        place.settle()
        assert place.said_on("result") == ["m1:a"]


def test_a_new_snapshot_that_does_not_come_up_leaves_the_old_process_at_work(tmp_path: Path) -> None:
    broken = SERVER.replace("class Answers", "if model == 'bad': sys.exit('no such model')\n\nclass Answers")
    wiring = WIRING.replace("backoff = 10ms", "backoff = 10ms\n    retries = 0")
    with hall(tmp_path, wiring, server=broken) as place, place.running():
        place.send("model", "m1")
        place.settle()
        place.send("model", "bad")
        place.settle()
        assert place.states("server") == ["done", "dead"]
        place.send("json", "a")
        place.settle()
        assert place.said_on("result") == ["m1:a"]


def test_a_service_that_ends_by_itself_has_failed_whatever_its_status(tmp_path: Path) -> None:
    wiring = WIRING.replace("backoff = 10ms", "backoff = 10ms\n    retries = 0")
    with hall(tmp_path, wiring, server="print('ready')\n") as place, place.running():
        place.send("model", "m1")
        place.settle()
        ((outcome, reason, status, message, _),) = place.attempts("server")
        assert (outcome, reason, status) == ("failed", "exit", 0)
        assert "a service goes on" in message


def test_only_the_newest_of_several_snapshots_is_started(tmp_path: Path) -> None:
    with hall(tmp_path) as place:
        with place.running():
            place.send("model", "m1", "m2", "m3")
            place.send("json", "a")
            place.settle()
            assert place.said_on("result") == ["m3:a"]
        assert place.states("server")[-1] == "done"
        assert set(place.states("server")[:2]) <= {"skipped", "done"}
        assert place.wrong() == []


def test_the_next_run_starts_the_service_on_its_last_snapshot(tmp_path: Path) -> None:
    with hall(tmp_path) as place:
        for text in ("a", "b"):
            with place.running():
                if text == "a":
                    place.send("model", "m1")
                place.send("json", text)
                place.settle()
        assert place.said_on("result") == ["m1:a", "m1:b"]
        assert [one.number for one in place.lookups()] == [0, 0]
        assert place.wrong() == []


def test_a_service_without_inputs_is_started_at_once(tmp_path: Path) -> None:
    wiring = (
        "() server (lookup implicit)\n  run = python3 server.py\n(json, lookup implicit) predict (result)\n"
    )
    with hall(tmp_path, wiring) as place:
        for text in ("a", "b"):
            with place.running():
                place.send("json", text)
                place.settle()
        assert place.said_on("result") == ["none:a", "none:b"]
        assert place.states("server") == ["done"]
        assert place.wrong() == []


def test_a_service_may_ask_another_and_that_is_on_record(tmp_path: Path) -> None:
    middle = SERVER.replace('model = Path(sys.argv[1]).read_text() if len(sys.argv) > 1 else "none"', ASKED)
    wiring = """\
(model) base (facts implicit)
    run = python3 server.py {model}
(facts implicit) middle (lookup implicit)
    run = python3 middle.py
(json, lookup implicit) predict (result)
"""
    with hall(tmp_path, wiring, middle=middle) as place:
        with place.running():
            place.send("json", "a")
            place.send("model", "m1")
            place.settle()
            assert place.said_on("result") == ["<m1:>:a"]
        assert [(one.lookup.wire, one.service) for one in place.lookups("middle")] == [("facts", "base")]


ASKED = """\
import urllib.request
with urllib.request.urlopen(os.environ["KOALJA_FACTS_URL"]) as answer:
    model = f"<{answer.read().decode()}>"
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_passport_goes_on_through_the_service_both_ways(tmp_path: Path, kind: str) -> None:
    with hall(tmp_path, kind=kind) as place:
        with place.running():
            for model, text in (("m1", "a"), ("m2", "b")):
                place.send("model", model)
                place.settle()
                place.send("json", text)
                place.settle()
        models, results = (place.values_on(wire) for wire in ("model", "result"))
        for number, (model, result) in enumerate(zip(models, results, strict=True), 1):
            back = place.registry.read(lambda tx, of=result.id: backward(tx, of, FULL))  # type: ignore[misc]
            assert back is not None
            assert [stop.value.wire for stop in back.stops.values()] == ["result", "json", "model"]
            assert model.id in back.stops
            text = passport_text(back)
            assert re.search(
                rf"asked lookup: POST /ask: 200 .*, answered by server, snapshot {number} \(", text
            )
            assert re.search(rf"server, snapshot {number} \(.*\n(.*\n)+.*model 000{number}", text)
            on = place.registry.read(lambda tx, of=model.id: forward(tx, of, FULL))  # type: ignore[misc]
            assert on is not None
            assert list(on.stops) == [model.id, result.id]
            assert "result" in passport_text(on)


def test_a_task_may_ask_several_services_one_of_them_outside(tmp_path: Path) -> None:
    asker = (
        "import os, urllib.request\n"
        "for name in ('KOALJA_LOOKUP_URL', 'KOALJA_FAR_AWAY_URL'):\n"
        "    with urllib.request.urlopen(os.environ[name] + '/x') as answer:\n"
        "        print(answer.read().decode(), end=' ')\n"
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), Outside) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        wiring = (
            WIRING.replace("lookup implicit) predict", "lookup implicit, far-away implicit) predict")
            + f"wire far-away\n    at = http://127.0.0.1:{server.server_address[1]}/base\n"
        )
        with hall(tmp_path, wiring, predict=asker) as place, place.running():
            place.send("model", "m1")
            place.send("json", "a")
            place.settle()
            assert place.said_on("result") == ["m1: outside /base/x"]
            asked = [(one.service, one.lookup.wire, bool(one.lookup.place)) for one in place.lookups()]
            assert asked == [("server", "lookup", False), ("", "far-away", True)]
        server.shutdown()


class Outside(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"outside {self.path}".encode())

    def log_message(self, *words: object) -> None:
        pass


def test_a_failed_execution_keeps_what_it_asked(tmp_path: Path) -> None:
    asker = (
        "import os, urllib.request\nurllib.request.urlopen(os.environ['KOALJA_LOOKUP_URL'] + '/status/404')\n"
    )
    wiring = WIRING + "    retries = 0\n"
    with hall(tmp_path, wiring, predict=asker) as place, place.running():
        place.send("model", "m1")
        place.send("json", "a")
        place.settle()
        assert place.states("predict") == ["dead"]
        (one,) = place.lookups()
        assert (one.lookup.status, one.attempt) == (404, 1)


def test_what_is_cut_off_by_the_programs_end_is_on_record_as_such(tmp_path: Path) -> None:
    asker = (
        "import os, pathlib, socket, sys, time\n"
        "port = int(os.environ['KOALJA_LOOKUP_URL'].rpartition(':')[2])\n"
        f"gate = {str(tmp_path / 'gate')!r}\n"
        "asked = socket.create_connection(('127.0.0.1', port))\n"
        "asked.sendall(f'GET /slow{gate} HTTP/1.1\\r\\nHost: 127.0.0.1:{port}\\r\\n\\r\\n'.encode())\n"
        "while not pathlib.Path(gate + '.begun').exists(): time.sleep(0.01)\n"
        "print('gone')\n"
    )
    with hall(tmp_path, predict=asker) as place, place.running():
        place.send("model", "m1")
        place.send("json", "a")
        place.settle()
        assert place.said_on("result") == ["gone"]
        (one,) = place.lookups()
        assert one.lookup.status == 0
        assert one.lookup.problem == "cut off: the program ended"
