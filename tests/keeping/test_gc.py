"""`koalja-fn gc`: what it tells, and what is left afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from premises import Premises

from koalja_fn.local.holding import hold
from koalja_fn.local.opening import open_payloads

WIRING = """(a) up (b)
    run = ./upper {a} {out.b}
wire a
    keep = 1ms
"""
UPPER = 'tr a-z A-Z < "$1" > "$2"'


@pytest.fixture
def place(tmp_path: Path) -> Premises:
    place = Premises(tmp_path / "c", WIRING, upper=UPPER)
    place.run(a=["one", "two", "three"])
    time.sleep(0.002)  # `keep` is over
    return place


def gc(place: Premises, *words: str) -> Any:
    command = [sys.executable, "-m", "koalja_fn", "gc", *words, "-o", "json"]
    return json.loads(subprocess.run(command, cwd=place.folder, check=True, capture_output=True).stdout)


def there(place: Premises, wire: str) -> list[bool]:
    store = open_payloads(place.folder)
    try:
        return [store.has(value.digest) for value in place.on(wire)]
    finally:
        store.close()


def test_it_frees_by_wire_and_tells_so(place: Premises) -> None:
    would = gc(place, "--dry-run")
    assert would["wouldFree"] == [{"circuit": "c", "wire": "a", "payloads": 2, "bytes": 6}]
    assert there(place, "a") == [True, True, True]
    assert gc(place)["freed"] == would["wouldFree"]
    assert there(place, "a") == [False, False, True]
    assert gc(place)["freed"] == []
    assert place.wrong() == []


def test_doctor_knows_what_was_purged(place: Premises) -> None:
    gc(place)
    command = [sys.executable, "-m", "koalja_fn", "doctor", "--verify", "."]
    done = subprocess.run(command, cwd=place.folder, capture_output=True, text=True, check=False)
    assert "missing or damaged" not in done.stdout + done.stderr


def test_a_list_of_values_marks_what_was_purged(place: Premises) -> None:
    gc(place)
    words = [sys.executable, "-m", "koalja_fn", "list", "values", "--wire", "a"]
    told = subprocess.run([*words, "-o", "json"], cwd=place.folder, check=True, capture_output=True).stdout
    assert [value["purged"] for value in json.loads(told)["values"]] == [True, True, False]
    lines = subprocess.run(words, cwd=place.folder, check=True, capture_output=True, text=True).stdout
    assert lines.count(", purged") == 2


def test_where_others_are_at_work_it_only_marks(place: Premises) -> None:
    with hold(place.folder):
        done = gc(place)
    assert (done["freed"], done["waiting"]) == ([], 2)
    assert there(place, "a") == [True, True, True]
    assert gc(place)["freed"][0]["payloads"] == 2


def test_older_than_frees_what_can_be_made_again(place: Premises) -> None:
    place.wire(WIRING.partition("wire")[0])
    place.run()
    assert [row["wire"] for row in gc(place, "--older-than", "0s")["freed"]] == ["b"]
    assert there(place, "a") == [True, True, True]
    assert there(place, "b") == [False, False, True]


def test_a_duration_that_is_none_is_an_error(place: Premises) -> None:
    command = [sys.executable, "-m", "koalja_fn", "gc", "--older-than", "soon"]
    done = subprocess.run(command, cwd=place.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'soon' is no duration" in done.stderr


def test_what_an_interrupted_execution_left_in_the_store_goes_too(place: Premises) -> None:
    store = open_payloads(place.folder)
    digest = store.put_bytes(b"x" * 100_000).digest
    store.close()
    freed = gc(place)["freed"]
    assert {"circuit": None, "wire": None, "payloads": 1, "bytes": 100_000} in freed
    store = open_payloads(place.folder)
    assert not store.has(digest)
    store.close()


def test_results_of_make_go_when_a_newer_run_has_others(tmp_path: Path) -> None:
    place = Premises(
        tmp_path / "m",
        "(a) up (b)\n    run = ./upper {a} {out.b}\nwire a\n    from = in.txt\nwire b\n    keep = 1ms\n",
        upper=UPPER,
    )
    for text in ("first", "second"):
        (place.folder / "in.txt").write_text(text)
        place.make("b")
    time.sleep(0.002)
    assert gc(place)["freed"] == [{"circuit": None, "wire": None, "payloads": 1, "bytes": 5}]
    assert place.make("b").made == []
    (place.folder / "in.txt").write_text("first")
    place.ran()
    assert [why for _, _, why in place.make("b").made] == ["what it made is gone"]
    assert place.ran() == ["up"]


def test_what_a_recompute_replaced_goes_as_well(place: Premises) -> None:
    place.wire(WIRING + "wire b\n    keep = 1ms\n")
    place.run()
    place.program("upper", UPPER + "; echo >> $2")
    command = [sys.executable, "-m", "koalja_fn", "recompute", "."]
    subprocess.run(command, cwd=place.folder, check=True, capture_output=True)
    assert place.said("b") == ["ONE\n", "TWO\n", "THREE\n"]
    time.sleep(0.002)
    freed = {row["wire"]: row["payloads"] for row in gc(place)["freed"]}
    assert freed["a"] == 2
    assert freed["b"] >= 4
    assert there(place, "b") == [False, False, True]
    assert place.wrong() == []
