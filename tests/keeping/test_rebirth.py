"""A purged payload that is needed is made again from its recipe, bit for bit, or it is said why not."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import pytest
from premises import Premises
from test_reusing import ASK, SERVER

from koalja_fn.local.opening import open_payloads, open_registry

WIRING = """(a) up (b)
    run = ./upper {a} {out.b}
(b) twice (c)
    run = ./twice {b} {out.c}
wire b
    keep = 1ms
wire c
    keep = 1ms
"""
UPPER = 'tr a-z A-Z < "$1" > "$2"'
TWICE = 'cat "$1" "$1" > "$2"'


@pytest.fixture
def place(tmp_path: Path) -> Premises:
    place = Premises(tmp_path / "c", WIRING, upper=UPPER, twice=TWICE)
    place.run(a=["one", "two", "three"])
    purge(place)
    place.ran()
    return place


def purge(place: Premises) -> None:
    time.sleep(0.002)
    koalja(place, "gc")


def koalja(place: Premises, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "koalja_fn", *words]
    return subprocess.run(command, cwd=place.folder, capture_output=True, text=True, check=False)


def there(place: Premises, wire: str) -> list[bool]:
    store = open_payloads(place.folder)
    try:
        return [store.has(value.digest) for value in place.on(wire)]
    finally:
        store.close()


def test_a_payload_comes_back_with_what_it_is_made_from(place: Premises) -> None:
    assert there(place, "b") == there(place, "c") == [False, False, True]
    done = koalja(place, "get", place.on("c")[0].id)
    assert (done.returncode, done.stdout) == (0, "ONEONE"), done.stderr
    assert place.ran() == ["twice", "up"]
    assert there(place, "b") == there(place, "c") == [True, False, True]
    assert place.wrong() == []


def test_what_came_back_goes_again_when_its_time_is_over(place: Premises) -> None:
    koalja(place, "get", place.on("c")[0].id)
    purge(place)
    assert there(place, "b") == there(place, "c") == [False, False, True]
    assert koalja(place, "get", place.on("c")[0].id).stdout == "ONEONE"


def test_another_version_of_the_code_is_named_and_not_run(place: Premises) -> None:
    place.program("upper", UPPER + " # changed")
    place.run()
    value = place.on("b")[0]
    done = koalja(place, "get", value.id)
    assert (done.returncode, done.stdout) == (8, "")
    assert value.version in done.stderr
    assert "of task up made it" in done.stderr
    assert place.ran() == []


def test_other_bytes_are_an_error_and_no_substitute(tmp_path: Path) -> None:
    place = Premises(tmp_path / "c", WIRING, upper='date +%s%N > "$2"', twice=TWICE)
    place.run(a=["one", "two"])
    purge(place)
    done = koalja(place, "get", place.on("b")[0].id)
    assert (done.returncode, done.stdout) == (8, "")
    assert "other bytes come out" in done.stderr
    assert there(place, "b") == [False, True]


def test_a_source_that_is_gone_is_named_and_comes_back_when_it_is_sent_again(place: Premises) -> None:
    place.wire(WIRING + "wire a\n    keep = 1ms\n")
    with place.running() as session:
        from koalja_fn.engine.arriving import Offer

        event = Offer("a", b"four", event_source="/s", event_id="4", type="text/plain")
        session.intake.accept(
            [event, Offer("a", b"five", event_source="/s", event_id="5", type="text/plain")]
        )
        assert session.engine.wait_until_idle()
    purge(place)
    value = place.on("c")[3]
    done = koalja(place, "get", value.id)
    assert done.returncode == 8
    assert "it came from outside (/s)" in done.stderr
    with place.running() as session:
        (receipt,) = session.intake.accept([event])
    assert receipt.duplicate
    assert koalja(place, "get", value.id).stdout == "FOURFOUR"


def test_a_file_of_an_in_tray_that_is_still_there_is_enough(tmp_path: Path) -> None:
    wiring = WIRING + "wire a\n    keep = 1ms\n    from = inbox/*\n"
    place = Premises(tmp_path / "c", wiring, upper=UPPER, twice=TWICE)
    (place.folder / "inbox").mkdir()
    for name in ("x", "y"):
        (place.folder / "inbox" / name).write_text(name)
    assert koalja(place, "run", "--once", ".").returncode == 0
    purge(place)
    assert there(place, "a") == [False, True]
    assert koalja(place, "get", place.on("c")[0].id).stdout == "XX"


def test_an_execution_whose_input_is_purged_has_it_made_again(place: Premises) -> None:
    """A reader that comes later may begin where payloads are not kept any more."""
    place.wire(WIRING + "(b) later (d)\n    run = ./twice {b} {out.d}\n    start = beginning\n")
    registry = open_registry(place.folder)
    registry.transact(lambda tx: tx.run("UPDATE wire SET purged = 0"))
    registry.close()
    place.run()
    assert place.said("d") == ["ONEONE", "TWOTWO", "THREETHREE"]
    assert place.ran() == ["later", "later", "later", "up", "up"]
    assert place.wrong() == []


def test_a_way_out_that_comes_later_gets_what_was_purged(place: Premises) -> None:
    place.wire(WIRING.replace("wire c\n", "wire c\n    to = out/{position}\n"))
    place.run()
    assert sorted(path.read_text() for path in (place.folder / "out").iterdir()) == [
        "ONEONE",
        "THREETHREE",
        "TWOTWO",
    ]


ASKING = """\
(model) server (words implicit)
    run = ./server.py {model}
(a, words implicit) ask (b)
    run = ./ask {a} {out.b}
wire b
    keep = 1ms
"""


def test_what_services_said_then_is_replayed_and_nobody_is_asked(tmp_path: Path) -> None:
    place = Premises(tmp_path / "c", ASKING, ask=ASK)
    (place.folder / "server.py").write_text(SERVER)
    (place.folder / "server.py").chmod(0o755)
    place.run(model="1", a=["x", "y", "z"])
    place.run(model="2")
    purge(place)
    assert there(place, "b") == [False, False, True]
    (place.folder / "server.py").write_text("raise SystemExit('there is none any more')")
    done = koalja(place, "get", place.on("b")[0].id)
    assert (done.returncode, done.stdout) == (0, "x1"), done.stderr
    assert there(place, "b") == [True, False, True]
    # Its answer is not there any more: that is said, and nothing is put in its place.
    store = open_payloads(place.folder)
    store.delete("sha256:" + hashlib.sha256(b"1").hexdigest())
    store.close()
    lost = koalja(place, "get", place.on("b")[1].id)
    assert lost.returncode == 8
    assert "look-up GET / of 'words' has no answer on record: its answer of 1 bytes was purged" in lost.stderr
    assert there(place, "b") == [True, False, True]
