"""`koalja-fn recompute --replay-lookups`, as a user calls it: real services, real HTTP, real SIGKILL."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from circuit_runs import COMMAND, folder_of, koalja, once, running, wait_for

from koalja_fn.local.opening import open_payloads
from koalja_fn.model import AnnotatedValue
from koalja_fn.registry import Transaction, connect, lookups, snapshots, values
from koalja_fn.registry.lookups import LookupRow
from koalja_fn.story.failures import failures
from koalja_fn.story.words import iso

OUTSIDE = """\
(json, lookup implicit) predict (result)
    run = python3 predict.py {{json}}
    retries = 3
    backoff = 10ms
wire lookup
    at = http://127.0.0.1:{port}/v1
"""
OWN = """\
(model) server (lookup implicit)
    run = python3 server.py {model}
(json, lookup implicit) predict (result)
    run = python3 predict.py {json}
"""
SERVER = """\
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

class Answers(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = self.rfile.read(int(self.headers["Content-Length"]))
        said = Path(sys.argv[1]).read_bytes().strip() + b":" + asked
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
    def log_message(self, *words):
        pass

HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Answers).serve_forever()
"""
ASKER = """\
import os, sys, urllib.request
from pathlib import Path

given = Path(sys.argv[1]).read_bytes()
def ask(path, data=given, **headers):
    request = urllib.request.Request(os.environ["KOALJA_LOOKUP_URL"] + path, data, headers)
    with urllib.request.urlopen(request) as answer:
        return answer.read().decode()
"""
OLD = ASKER + "print(ask('/ask'))\n"
NEW = ASKER + "print('new', ask('/ask'))\n"

Answer = Callable[[str, bytes], bytes]


@contextmanager
def outside(answer: Answer) -> Iterator[int]:
    """A service that nobody of us starts; its port. It is gone when the block ends."""

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            said = answer(self.path, body)
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def fed(home: Path, answer: Answer, *lines: str, predict: str = OLD) -> Path:
    """A circuit that has asked an outside service, which is gone now."""
    with outside(answer) as port:
        folder = folder_of(home, OUTSIDE.format(port=port), predict_py=predict)
        once(folder, "--lines", "json", stdin="".join(f"{line}\n" for line in lines))
    return folder


def results(folder: Path) -> list[str]:
    """What the values on the wire say."""
    store = open_payloads(folder)
    try:
        return [store.read(value.digest).decode().strip() for value in values_of(folder)]
    finally:
        store.close()


def values_of(folder: Path) -> list[AnnotatedValue]:
    def look(tx: Transaction) -> list[AnnotatedValue]:
        row = tx.one(
            "SELECT w.id FROM wire w JOIN circuit c ON c.id = w.circuit"
            " WHERE w.name = 'result' AND c.name = 'circuit'"
        )
        return values.between(tx, row[0], 0, 99) if row else []

    return reading(folder, look)


def asked_for(folder: Path, number: int = 0) -> list[LookupRow]:
    """What the execution asked that made a value."""

    def look(tx: Transaction) -> list[LookupRow]:
        snapshot = snapshots.by_id(tx, values_of(folder)[number].snapshot)
        assert snapshot is not None
        return lookups.of_snapshot(tx, snapshot.rid, 99)

    return reading(folder, look)


def reading(folder: Path, look: Callable[[Transaction], Any]) -> Any:
    registry = connect(folder / ".koalja/registry.db")
    try:
        return registry.read(look)
    finally:
        registry.close()


def snapshot_of(folder: Path, row: LookupRow) -> str:
    """Id of the snapshot whose execution asked."""
    sql = "SELECT s.id FROM snapshot s JOIN lookup l ON l.snapshot = s.rid WHERE l.id = ?"
    return str(reading(folder, lambda tx: tx.one(sql, row.id))[0])


def told_of(*args: object) -> Any:
    done = koalja(*args, "-o", "json")
    assert done.returncode in (0, 4), done.stderr
    return json.loads(done.stdout)


def edit(folder: Path, text: str) -> None:
    (folder / "predict.py").write_text(text)


def replayed(folder: Path, *args: object, status: int = 0) -> dict[str, int]:
    """Recompute with the recorded answers; what became of the asking task's snapshots."""
    done = koalja("recompute", folder, "-q", "--replay-lookups", "-o", "json", *args)
    assert done.returncode == status, done.stderr
    found: dict[str, int] = json.loads(done.stdout)["tasks"]["predict"]
    return found


def cause(folder: Path) -> str:
    """Why the only dead letter is one, and what can be done."""
    (letter,) = reading(folder, lambda tx: failures(tx, None, 9)).letters
    (attempt,) = letter.visit.attempts  # no other try would do better
    assert (attempt.outcome, attempt.reason) == ("failed", "look-up")
    return f"{attempt.message} | {letter.cure}"


def echo(path: str, body: bytes) -> bytes:
    return f"{path}:".encode() + body


def test_new_code_gives_new_results_of_old_answers_with_nobody_there_to_ask(tmp_path: Path) -> None:
    folder = fed(tmp_path, echo, "a", "b")
    assert results(folder) == ["/v1/ask:a", "/v1/ask:b"]
    (old,) = asked_for(folder, 1)
    edit(folder, NEW)
    planned = told_of("recompute", folder, "--dry-run", "--replay-lookups")
    assert "predict is told what is on record for lookup; nobody is asked" in planned["notes"]
    assert replayed(folder) == {"again": 2}
    assert results(folder) == ["new /v1/ask:a", "new /v1/ask:b"]
    (new,) = asked_for(folder, 1)
    assert (old.lookup.replayed, new.lookup.replayed) == (None, old.id)
    assert replace(new.lookup, at=0, took=0, headers={}, replayed=None) == replace(
        old.lookup, at=0, took=0, headers={}
    )
    now = values_of(folder)[1].id
    (told,) = [visit for visit in told_of("trace", now, "-C", folder)["snapshots"] if visit["lookups"]]
    (one,) = told["lookups"]
    assert one["replayed"] == {"snapshot": snapshot_of(folder, old), "at": iso(old.lookup.at)}
    shown = koalja("trace", now, "-C", folder).stdout
    assert f"answered by {old.lookup.place}, replayed from snapshot 2 (" in shown
    assert "replayed from snapshot 2 (" in koalja("visits", "predict", "-C", folder).stdout
    why = koalja("why", now, "-C", folder).stdout
    assert "recompute 1 made it again, with the recorded look-ups" in why
    assert "was answered otherwise" not in why
    assert "with the recorded look-ups: predict 2 made again" in koalja("map", "-C", folder).stdout
    assert "agree" in koalja("doctor", folder, "--verify").stdout


def test_a_service_of_the_circuit_is_neither_started_nor_asked(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, OWN, predict_py=OLD, server_py=SERVER)
    (tmp_path / "model").write_text("m1")
    (tmp_path / "json").write_text("a")
    once(folder, "--in", f"model={tmp_path}/model", "--in", f"json={tmp_path}/json")
    (folder / "server.py").write_text("raise SystemExit('it is broken now')\n")
    edit(folder, NEW)
    assert replayed(folder) == {"again": 1}
    assert results(folder) == ["new m1:a"]
    (new,) = asked_for(folder)
    assert (new.service, new.number, new.lookup.replayed is not None) == ("server", 0, True)


def test_beside_a_run_that_serves_old_answers_are_replayed_and_new_values_ask(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, OWN, predict_py=OLD, server_py=SERVER)
    with running(folder, "-q"):
        koalja("send", folder, "model", "--data", "m1")
        koalja("send", folder, "json", "--data", "a")
        wait_for(lambda: results(folder) == ["m1:a"])
        koalja("send", folder, "model", "--data", "m2")
        wait_for(partial(reading, folder, lambda tx: listening(tx) == 2))
        edit(folder, NEW)
        assert replayed(folder) == {"again": 1}
        assert results(folder) == ["new m1:a"]
        koalja("send", folder, "json", "--data", "b")
        wait_for(lambda: results(folder) == ["new m1:a", "new m2:b"])
    assert [asked_for(folder, n)[0].lookup.replayed is not None for n in (0, 1)] == [True, False]


def listening(tx: Transaction) -> int:
    """How many processes of services have come up."""
    row = tx.one("SELECT count(*) FROM execution WHERE outcome = 'listening'")
    return int(row[0]) if row else 0


def test_an_answer_that_is_another_by_now_is_asked_for_without_the_option_only(tmp_path: Path) -> None:
    said = [b"then"]
    with outside(lambda path, body: said[0]) as port:
        folder = folder_of(tmp_path, OUTSIDE.format(port=port), predict_py=OLD)
        once(folder, "--lines", "json", stdin="a\n")
        said[0] = b"now"
        edit(folder, NEW)
        assert replayed(folder) == {"again": 1}
        assert results(folder) == ["new then"]
        edit(folder, NEW + "print('!')\n")
        done = koalja("recompute", folder)
        assert done.returncode == 0, done.stderr
        assert "predict asks lookup anew; --replay-lookups gives it the answers on record" in done.stderr
        assert results(folder) == ["new now\n!"]
        assert asked_for(folder)[0].lookup.replayed is None
        why = koalja("why", values_of(folder)[0].id, "-C", folder).stdout
        assert re.search(
            r"POST /ask, was answered otherwise: 200 \S+, replayed from snapshot 1 .* -> 200 \S+$", why, re.M
        )
        said[0] = b"later"
        edit(folder, NEW)
        assert replayed(folder) == {"again": 1}
        assert results(folder) == ["new now"]  # the last time that it was asked


def test_a_request_that_was_not_made_then_is_a_dead_letter_that_names_it(tmp_path: Path) -> None:
    folder = fed(tmp_path, echo, "a")
    # Whatever the program makes of the refusal: it is no result.
    passing_over = "import contextlib\nwith contextlib.suppress(OSError): ask('/other')\n"
    edit(folder, NEW.replace("print(", passing_over + "print("))
    assert replayed(folder, status=4) == {"dead": 1}
    told = cause(folder)
    assert "look-up POST /other with 1 B sha256:ca978112ca1b of 'lookup' has no answer on record" in told
    assert "it was not asked" in told
    assert "koalja-fn recompute --only-failed, without --replay-lookups, asks anew" in told
    assert results(folder) == []
    # The next version may ask all that the first one did.
    edit(folder, NEW)
    assert replayed(folder) == {"again": 1}
    assert results(folder) == ["new /v1/ask:a"]


def test_the_cure_that_it_names_puts_the_result_in_its_place(tmp_path: Path) -> None:
    with outside(echo) as port:
        folder = folder_of(tmp_path, OUTSIDE.format(port=port), predict_py=OLD)
        once(folder, "--lines", "json", stdin="a\nb\n")
        other = ASKER + "print(ask('/other' if given == b'a' else '/ask'))\n"
        edit(folder, other)
        assert replayed(folder, status=4) == {"again": 1, "dead": 1}
        assert results(folder) == ["/v1/ask:b"]
        assert koalja("recompute", folder, "--only-failed").returncode == 0
        assert results(folder) == ["/v1/other:a", "/v1/ask:b"]
        assert "agree" in koalja("doctor", folder, "--verify").stdout


def test_equal_requests_get_their_answers_in_their_order_and_no_more_than_there_are(tmp_path: Path) -> None:
    count = iter(range(1, 100))
    two = ASKER + "print({word}, *[ask('/next') for _ in range({times})])\n"
    folder = fed(
        tmp_path, lambda path, body: str(next(count)).encode(), "a", predict=two.format(word="0", times=3)
    )
    assert results(folder) == ["0 1 2 3"]
    edit(folder, two.format(word="'new'", times=2))
    assert replayed(folder) == {"again": 1}
    assert results(folder) == ["new 1 2"]
    edit(folder, two.format(word="'more'", times=4))
    assert replayed(folder, status=4) == {"dead": 1}
    assert "it was asked 3 times, and not once more" in cause(folder)


def test_a_body_that_is_on_record_by_its_digest_only_is_no_answer(tmp_path: Path) -> None:
    folder = fed(tmp_path, lambda path, body: bytes(17 << 20), "a", predict=ASKER + "print(len(ask('/')))\n")
    assert results(folder) == [str(17 << 20)]
    edit(folder, ASKER + "print('new', len(ask('/')))\n")
    planned = told_of("recompute", folder, "--dry-run", "--replay-lookups")
    assert any("predict: 1 answers on record have lost their bodies" in note for note in planned["notes"])
    assert replayed(folder, status=4) == {"dead": 1}
    assert f"its answer of {17 << 20} bytes was too large to be kept" in cause(folder)


def test_killed_and_gone_on_with_it_still_replays(tmp_path: Path) -> None:
    folder = fed(tmp_path, echo, *"abcdef")
    marks = tmp_path / "marks"
    edit(folder, f"with open({str(marks)!r}, 'a') as file: file.write('ran\\n')\n{NEW}")
    process = subprocess.Popen(
        [*COMMAND, "recompute", str(folder), "-q", "--replay-lookups"], start_new_session=True
    )
    try:
        wait_for(partial(ran, marks, 2))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    again = koalja("recompute", folder, "--replay-lookups")
    if again.returncode == 2:  # it was not at its end, as nearly ever
        assert "without options, goes on with it" in again.stderr
        done = koalja("recompute", folder)
        assert done.returncode == 0, done.stderr
    assert results(folder) == [f"new /v1/ask:{letter}" for letter in "abcdef"]
    asked = [row for number in range(6) for row in asked_for(folder, number)]
    assert [row.lookup.replayed is not None for row in asked] == [True] * 6
    assert "agree" in koalja("doctor", folder, "--verify").stdout


def ran(path: Path, count: int) -> bool:
    return path.exists() and len(path.read_text().split()) >= count
