"""`cache = on`: what is known is not run again, in push mode as in `make`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from premises import Premises

from koalja_fn.local.opening import open_payloads
from koalja_fn.store.disk import STAMP

WIRING = """(a) up (b)
    run = ./upper {a} {out.b}
    cache = on
"""
UPPER = 'tr a-z A-Z < "$1" > "$2"'


@pytest.fixture
def place(tmp_path: Path) -> Premises:
    return Premises(tmp_path / "c", WIRING, upper=UPPER)


def told(place: Premises, *words: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "koalja_fn", *words],
        cwd=place.folder,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_the_same_input_is_answered_from_what_is_on_record(place: Premises) -> None:
    place.run(a=["x", "y", "x"])
    assert place.said("b") == ["X", "Y", "X"]
    assert place.ran() == ["up", "up"]
    first, _, third = place.on("b")
    assert third.id != first.id
    assert third.snapshot != first.snapshot
    assert place.wrong() == []


def test_the_stories_say_what_was_cached_and_from_where(place: Premises) -> None:
    place.run(a=["x", "x"])
    first, second = place.on("b")
    short = first.snapshot[:12]
    assert f"cached from snapshot {short}" in told(place, "trace", second.id)
    assert f"cached from snapshot {short}" in told(place, "visits", "up")
    assert f"cached from snapshot {short}" in told(place, "log")
    document = json.loads(told(place, "trace", second.id, "-o", "json"))
    (attempt,) = document["snapshots"][0]["attempts"]
    assert (attempt["outcome"], attempt["reason"]) == ("done", "cached")
    assert attempt["message"] == f"from snapshot {first.snapshot}"


def test_other_code_is_another_key(place: Premises) -> None:
    place.run(a="x")
    place.program("upper", UPPER + " # changed")
    place.run(a="x")
    assert place.ran() == ["up", "up"]


def test_without_the_word_every_snapshot_runs(place: Premises) -> None:
    place.wire(WIRING.replace("    cache = on\n", ""))
    place.run(a=["x", "x"])
    assert place.ran() == ["up", "up"]


def test_a_sink_always_runs(tmp_path: Path) -> None:
    place = Premises(tmp_path / "c", "(a) out ()\n    run = ./quiet {a}\n    cache = on\n", quiet="true")
    place.run(a=["x", "x"])
    assert place.ran() == ["out", "out"]


@pytest.mark.parametrize("length", [1, 100_000])
def test_a_damaged_payload_is_no_answer(place: Premises, length: int) -> None:
    place.run(a="x" * length)
    (value,) = place.on("b")
    damage(place, value.digest, length)
    place.run(a="x" * length)
    assert place.ran() == ["up", "up"]
    assert place.said("b") == ["X" * length] * 2
    assert place.wrong() == []


def test_a_missing_payload_is_no_answer(place: Premises) -> None:
    place.run(a="x")
    store = open_payloads(place.folder)
    store.delete(place.on("b")[0].digest)
    store.close()
    place.run(a="x")
    assert place.ran() == ["up", "up"]
    assert place.said("b") == ["X", "X"]


def test_what_make_made_is_known_to_a_run(place: Premises) -> None:
    place.wire(WIRING + "wire a\n    from = in.txt\n    type = text/plain\n")
    (place.folder / "in.txt").write_text("x")
    place.make("b")
    assert place.ran() == ["up"]
    place.run(a="x")
    assert place.ran() == []
    assert place.said("b") == ["X"]
    assert "cached from run 1 of make" in told(place, "visits", "up")


def test_what_a_run_made_is_known_to_make(place: Premises) -> None:
    place.wire(WIRING + "wire a\n    from = in.txt\n    type = text/plain\n")
    place.run(a="x")
    assert place.ran() == ["up"]
    (place.folder / "in.txt").write_text("x")
    answer = place.make("b")
    assert place.ran() == []
    assert (answer.made, answer.cached) == ([], 1)
    assert answer.wires["b"][0]["digest"] == place.on("b")[0].digest
    assert "made by up" in told(place, "trace", answer.wires["b"][0]["id"])


def test_make_runs_what_says_cache_off_every_time(place: Premises) -> None:
    place.wire(WIRING.replace("on", "off") + "wire a\n    from = in.txt\n")
    (place.folder / "in.txt").write_text("x")
    assert [len(place.make("b").made) for _ in range(2)] == [1, 1]
    assert place.ran() == ["up", "up"]


def damage(place: Premises, digest: str, length: int) -> None:
    """Other bytes in the store, such as no look at the file's times would find."""
    name = digest.removeprefix("sha256:")
    objects = place.folder / ".koalja/objects"
    if length > 16 << 10:
        path = objects / name[:2] / name[2:]
        path.chmod(0o644)
        path.write_text("?" * length)
        path.chmod(0o444)
        os.utime(path, ns=(STAMP, STAMP))
        return
    import sqlite3

    with sqlite3.connect(objects / "small.db") as small:
        small.execute("UPDATE small SET data = ? WHERE digest = ?", (b"?", bytes.fromhex(name)))


SERVICE = """(model) server (words implicit)
    run = ./server.py {model}
(a, words implicit) ask (b)
    run = ./ask {a} {out.b}
    cache = on
"""
SERVER = """#!/usr/bin/env python3
import http.server, os, sys
word = open(sys.argv[1], "rb").read()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(word)))
        self.end_headers()
        self.wfile.write(word)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
ASK = f"""{sys.executable} - "$1" "$2" <<'END'
import os, sys, urllib.request
answer = urllib.request.urlopen(os.environ["KOALJA_LOOKUP_URL"] + "/").read()
open(sys.argv[2], "wb").write(open(sys.argv[1], "rb").read() + answer)
END"""


def test_who_answers_look_ups_is_part_of_the_key(tmp_path: Path) -> None:
    place = Premises(tmp_path / "c", SERVICE, ask=ASK)
    (place.folder / "server.py").write_text(SERVER)
    (place.folder / "server.py").chmod(0o755)
    place.run(model="1", a=["x", "x"])
    assert place.ran() == ["ask"]
    place.run(model="2")
    place.run(a="x")
    assert place.ran() == ["ask"]
    assert place.said("b") == ["x1", "x1", "x2"]
