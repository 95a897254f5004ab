"""`recompute` while a `run` has the folder: values keep coming, and each comes out once, by the new code."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from functools import partial
from http.client import HTTPException
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from circuit_runs import COMMAND, end, folder_of, koalja, post, rows, running, wait_for

ROUNDS = int(os.environ.get("KOALJA_KILLS", "3"))
WIRING = """\
(in) up (mid)
    concurrency = 3
(mid[3/1]) join (out)
(out, other) pair (ends)
    policy = swap
(ends) tell ()

wire mid
    type = text/plain
"""
OLD = "#!/bin/sh\necho old $(cat $1)\n"
NEW = "#!/bin/sh\necho new $(cat $1)\n"
CAT = "#!/bin/sh\ncat $*\n"


def circuit(home: Path, wiring: str = WIRING) -> Path:
    return folder_of(home, wiring, up=OLD, join=CAT, pair=CAT, tell="#!/bin/sh\n")


def edit(folder: Path, text: str = NEW) -> None:
    """As editors do: the new file takes the old one's place."""
    part = folder / ".up.part"
    part.write_text(text)
    part.chmod(0o755)
    part.replace(folder / "up")


class Flood:
    """Sends numbers to wires, each with an id of its own, until each is acknowledged."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._over = threading.Event()
        self.sent: dict[str, list[int]] = {"in": [], "mid": [], "other": []}
        self._threads = [threading.Thread(target=self._run, args=(wire,)) for wire in self.sent]

    def __enter__(self) -> Flood:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, wire: str) -> None:
        number = 0
        while not self._over.is_set():
            while not self._accepted(wire, number):
                if self._over.wait(0.02):
                    return
            self.sent[wire].append(number)
            number += 1
            self._over.wait(0.03 if wire == "in" else 0.1)

    def _accepted(self, wire: str, number: int) -> bool:
        with suppress(OSError, HTTPException, ValueError):
            url = json.loads((self._folder / ".koalja/run.json").read_text())["url"]
            headers = {
                "ce-specversion": "1.0",
                "ce-type": "number",
                "ce-source": f"/flood/{wire}",
                "ce-id": str(number),
                "content-type": "text/plain",
            }
            body = f"{wire} {number}\n".encode()
            request = urllib.request.Request(f"{url}/circuit/{wire}", body, headers)
            with urllib.request.urlopen(request, timeout=10) as answer:
                return bool(answer.status < 300)
        return False


def payloads(folder: Path, wire: str) -> list[str]:
    """What stands on a wire, in order."""
    from koalja_fn.local.opening import open_payloads

    store = open_payloads(folder)
    try:
        found = rows(
            folder,
            "SELECT v.digest FROM value v JOIN wire w ON w.id = v.wire JOIN circuit c ON c.id = w.circuit"
            f" WHERE c.name = 'circuit' AND w.name = '{wire}' ORDER BY v.position",
        )
        return [store.read(digest).decode() for (digest,) in found]
    finally:
        store.close()


def done(folder: Path) -> int:
    """How many recomputes are in force."""
    return int(rows(folder, "SELECT count(*) FROM recompute WHERE state = 'done'")[0][0])


def attempts(folder: Path) -> int:
    return int(rows(folder, "SELECT count(*) FROM execution WHERE outcome = 'done'")[0][0])


def check(folder: Path, flood: Flood, marks: set[str]) -> None:
    """All that was acknowledged is there once, by the new code, and all logs replay."""
    told = koalja("run", "--once", "-q", folder)
    assert told.returncode == 0, told.stderr
    mid = payloads(folder, "mid")
    made = [text.split() for text in mid if not text.startswith("mid ")]
    assert {words[0] for words in made} <= marks
    assert sorted(int(words[2]) for words in made) == flood.sent["in"]
    direct = [int(text.split()[1]) for text in mid if text.startswith("mid ")]
    assert direct == flood.sent["mid"]
    # Who lost a program to a SIGKILL runs it again a second later, behind others.
    assert sorted(payloads(folder, "out")) == sorted("".join(mid[n : n + 3]) for n in range(len(mid) - 2))
    checked = koalja("doctor", folder, "--verify")
    assert "agree" in checked.stdout, checked.stdout


def test_values_that_come_meanwhile_come_out_once_and_by_the_new_code(tmp_path: Path) -> None:
    folder = circuit(tmp_path)
    with running(folder, "-q"), Flood(folder) as flood:
        wait_for(lambda: attempts(folder) > 40)
        edit(folder)
        told = koalja("recompute", folder, "-o", "json")
        assert told.returncode == 0, told.stderr
        assert "the run that has the folder does it" in told.stderr
        came = json.loads(told.stdout)
        assert came["state"] == "done"
        assert came["tasks"]["up"]["again"] >= 5
        before = len(flood.sent["in"])
        wait_for(lambda: len(flood.sent["in"]) > before + 5)
    check(folder, flood, {"new"})


def test_code_that_is_edited_while_a_run_goes_on_makes_old_results_again(tmp_path: Path) -> None:
    folder = circuit(tmp_path, WIRING.replace("concurrency", "on-update = recompute\n    concurrency", 1))
    with running(folder, "-q"), Flood(folder) as flood:
        for number, word in enumerate(("new", "newer"), 1):
            so_far = attempts(folder)
            wait_for(lambda so_far=so_far: attempts(folder) > so_far + 20)  # type: ignore[misc]
            edit(folder, NEW.replace("new", word))
            wait_for(lambda number=number: done(folder) == number, 90)  # type: ignore[misc]
        flood.__exit__()
    check(folder, flood, {"newer"})


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_killed_at_any_moment_nothing_is_lost_and_nothing_comes_twice(tmp_path: Path, seed: int) -> None:
    """Either process may be killed: the run, which does it, or who waits for it and takes it over."""
    chance = random.Random(seed)
    folder = circuit(tmp_path)
    with running(folder, "-q"), Flood(folder) as flood:
        wait_for(lambda: attempts(folder) > 30)
        edit(folder)
        waiting = recompute(folder)
        wait_for(partial(begun, folder))
        time.sleep(chance.random() * 0.6)  # the moment is what is tried
        if seed % 3 == 2:
            waiting.kill()
        run = json.loads((folder / ".koalja/run.json").read_text())["pid"] if seed % 3 != 2 else None
        if run is not None:
            os.kill(run, signal.SIGKILL)
            time.sleep(chance.random() * 0.6)
            if seed % 3 == 1:
                waiting.kill()
        waiting.wait(90)
        if run is not None:
            assert seed % 3 == 1 or waiting.returncode == 0
            again(folder, flood)
        else:
            wait_for(lambda: done(folder) == 1, 90)
            flood.__exit__()
    assert done(folder) == 1
    check(folder, flood, {"new"})


def again(folder: Path, flood: Flood) -> None:
    """Another run, which goes on with what was left, and takes what was not acknowledged."""
    (folder / ".koalja/run.json").unlink()
    with running(folder, "-q"):
        before = len(flood.sent["in"])
        wait_for(lambda: len(flood.sent["in"]) > before + 5)
        wait_for(lambda: done(folder) == 1, 90)
        flood.__exit__()


def begun(folder: Path) -> bool:
    return bool(rows(folder, "SELECT id FROM recompute"))


def recompute(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*COMMAND, "recompute", str(folder), "-q"], stdout=subprocess.DEVNULL)


def test_a_wiring_that_was_changed_since_the_run_began_is_refused(tmp_path: Path) -> None:
    folder = circuit(tmp_path)
    with running(folder, "-q"):
        (folder / "circuit.koalja").write_text("[circuit]\n" + WIRING.replace("[3/1]", "[2]"))
        told = koalja("recompute", folder)
        assert told.returncode == 2
        assert "the wiring was changed since the run began" in told.stderr


SERVER = """#!/usr/bin/env python3
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
text = open(sys.argv[1], "rb").read()
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *_):
        pass
HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
ASK = """#!/usr/bin/env python3
import os, urllib.request
print(urllib.request.urlopen(os.environ["KOALJA_LOOKUP_URL"]).read().decode().strip())
"""


def test_a_service_whose_input_is_made_again_goes_on_with_the_new_one(tmp_path: Path) -> None:
    wiring = "(train) up (model)\n(model) server (lookup implicit)\n(in, lookup implicit) ask (out)\n"
    folder = folder_of(tmp_path, wiring, up=OLD, server_py=SERVER, ask_py=ASK)

    def answer() -> str:
        before = len(payloads(folder, "out"))
        post(folder, "in", b"what?")
        wait_for(lambda: len(payloads(folder, "out")) > before)
        return payloads(folder, "out")[-1]

    with running(folder, "-q") as process:
        post(folder, "train", b"data")
        assert answer() == "old data\n"
        edit(folder)
        told = koalja("recompute", folder)
        assert told.returncode == 0, told.stderr
        wait_for(lambda: answer() == "new data\n")
        end(process)  # which ends the service, too
    assert "agree" in koalja("doctor", folder, "--verify").stdout
