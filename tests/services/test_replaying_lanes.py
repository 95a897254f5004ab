"""Recompute with the recorded answers, over both registries: whose they are, and what is on record then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from koalja_fn.engine import letters
from koalja_fn.engine.attaching import moved
from koalja_fn.engine.installing import install
from koalja_fn.engine.lane.beginning import prospect
from koalja_fn.local import recomputing
from koalja_fn.local.recomputing import Ears
from koalja_fn.local.workplace import Workplace
from koalja_fn.program.cancel import Cancel
from koalja_fn.program.folder import open_circuit
from tests.services.hall import ASKER, WIRING, Hall, hall

UPPER = f"(raw) up (json)\n    run = sh up.sh {{raw}}\n{WIRING}"
ASKED = "print(answer.read().decode())"


def edit(place: Hall, name: str, text: str) -> None:
    (place.folder / name).write_text(text)


def reopened(place: Hall) -> Any:
    """The circuit with its code as it is now."""
    opened = open_circuit(place.folder)
    assert opened.circuit is not None, opened.findings
    circuit = opened.circuit
    place.plan = place.registry.transact(
        lambda tx: install(tx, place.registry.clock(), circuit, place.folder, opened.located, "")
    ).plan
    return opened


def recomputed(place: Hall, **options: Any) -> Any:
    """Recompute, as in a folder; what became of the tasks' snapshots."""
    opened = reopened(place)
    plan = place.plan
    wanted = place.registry.read(lambda tx: prospect(tx, plan, **options))
    found = recomputing.begun(place.registry, plan, wanted)
    state = place.folder / ".koalja"
    workplace = Workplace(opened, place.folder, state, place.registry, place.store, plan, ())
    ears = Ears(lambda _: None, lambda _: None, lambda _: None)
    stop = Cancel()
    try:
        done = recomputing.recompute(workplace, found, ears, stop, 4)
    finally:
        stop.close()
    assert done is not None
    place.plan = place.registry.read(lambda tx: moved(tx, plan))
    return done.told["tasks"]


def replayed_from(place: Hall) -> list[int | None]:
    """For each look-up of the task's snapshots the row that its answer is from."""
    return [row.lookup.replayed for row in place.lookups()]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_answers_are_those_of_whoever_asked_last_through_any_number_of_recomputes(
    tmp_path: Path, kind: str
) -> None:
    (tmp_path / "up.sh").write_text("cat $1\n")
    with hall(tmp_path, UPPER, kind) as place:
        with place.running():
            place.send("model", "m1")
            place.send("raw", "a", "b")
            place.settle()
        first = place.lookups()
        assert [row.lookup.replayed for row in first] == [None, None]
        # What is kept is copied as it was.
        edit(place, "up.sh", "cat $1  # the same\n")
        assert recomputed(place, replay_lookups=True) == {"up": {"again": 2}, "predict": {"kept": 2}}
        copies = place.lookups()
        assert [row.lookup for row in copies] == [row.lookup for row in first]
        # Nobody is asked; the row is the one that was truly asked.
        edit(place, "predict.py", ASKER.replace("print(", "print('v2', "))
        assert recomputed(place, replay_lookups=True) == {"predict": {"again": 2}}
        assert place.said_on("result") == ["v2 m1:a", "v2 m1:b"]
        asked = [row.id for row in first]
        assert replayed_from(place) == asked
        assert [(row.service, row.number) for row in place.lookups()] == [("server", 0)] * 2
        assert [row.origin.at for row in place.lookups() if row.origin] == [row.lookup.at for row in first]
        # A version between them that asked less takes nothing away.
        edit(place, "predict.py", "print('v3')\n")
        assert recomputed(place, replay_lookups=True) == {"predict": {"again": 2}}
        assert (place.said_on("result"), place.lookups()) == (["v3"] * 2, [])
        edit(place, "predict.py", ASKER.replace("print(", "print('v4', "))
        assert recomputed(place, replay_lookups=True) == {"predict": {"again": 2}}
        assert (place.said_on("result"), replayed_from(place)) == (["v4 m1:a", "v4 m1:b"], asked)
        # Where services are asked again, theirs are the answers from then on.
        with place.running():
            place.send("model", "m2")
            place.settle()
        edit(place, "predict.py", ASKER.replace("print(", "print('v5', "))
        assert recomputed(place) == {"predict": {"again": 2}}
        anew = [row.id for row in place.lookups()]
        assert (place.said_on("result"), replayed_from(place)) == (["v5 m2:a", "v5 m2:b"], [None, None])
        edit(place, "predict.py", ASKER.replace("print(", "print('v6', "))
        assert recomputed(place, replay_lookups=True) == {"predict": {"again": 2}}
        assert (place.said_on("result"), replayed_from(place)) == (["v6 m2:a", "v6 m2:b"], anew)
        assert place.wrong() == []


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_answers_to_attempts_that_came_to_nothing_are_not_those_of_the_result(
    tmp_path: Path, kind: str
) -> None:
    fails = ASKER + f"if not Path({str(tmp_path / 'well')!r}).exists(): sys.exit(3)\n"
    with hall(tmp_path, WIRING + "    retries = 0\n", kind, predict=fails) as place:
        with place.running():
            place.send("model", "m1")
            place.send("json", "a")
            place.settle()
            assert place.states("predict") == ["dead"]
            (tmp_path / "well").touch()
            place.send("model", "m2")
            place.settle()
            rids = [rid for (rid,) in place.ask("SELECT rid FROM snapshot WHERE state = 'dead'")]
            place.registry.transact(lambda tx: letters.retry(tx, place.registry.clock(), rids))
            place.engine.ring({"json"})
            place.settle()
        assert place.said_on("result") == ["m2:a"]
        # The second life of the snapshot counts its attempts anew.
        assert [row.attempt for row in place.lookups()] == [1, 1]
        last = max(row.id for row in place.lookups())
        edit(place, "predict.py", ASKER.replace("print(", "print('new', "))
        recomputed(place, replay_lookups=True)
        assert (place.said_on("result"), replayed_from(place)) == (["new m2:a"], [last])
        # A dead letter has the answers that it had last.
        edit(place, "predict.py", "sys.exit(4)\n")
        assert recomputed(place, replay_lookups=True) == {"predict": {"dead": 1}}
        edit(place, "predict.py", ASKER)
        assert recomputed(place, replay_lookups=True, only_failed=True) == {"predict": {"again": 1}}
        assert (place.said_on("result"), replayed_from(place)) == (["m2:a"], [last])
        assert place.wrong() == []


def test_a_dead_letter_that_never_was_a_result_has_the_answers_of_its_last_attempt(tmp_path: Path) -> None:
    with hall(tmp_path, WIRING + "    retries = 0\n", predict=ASKER + "sys.exit(3)\n") as place:
        with place.running():
            place.send("model", "m1")
            place.send("json", "a")
            place.settle()
        edit(place, "predict.py", ASKER)
        assert recomputed(place, replay_lookups=True) == {"predict": {"again": 1}}
        assert place.said_on("result") == ["m1:a"]


def test_a_result_out_of_the_cache_has_the_answers_of_the_execution_that_made_it(tmp_path: Path) -> None:
    with hall(tmp_path, WIRING + "    cache = on\n") as place:
        with place.running():
            place.send("model", "m1")
            place.send("json", "a", "a")
            place.settle()
        assert [reason for _, reason, *_ in place.attempts("predict")] == ["", "cached"]
        (asked,) = place.lookups()
        edit(place, "predict.py", ASKER.replace("print(", "print('new', "))
        recomputed(place, replay_lookups=True)
        assert place.said_on("result") == ["new m1:a"] * 2
        assert replayed_from(place) == [asked.id] * 2
        # Nothing of it is the answer to a key: whoever asks later is not told what was said once.
        kept = place.ask("SELECT count(*) FROM cached")
        assert kept == [(1,)]


def test_what_was_not_there_before_has_no_answers(tmp_path: Path) -> None:
    (tmp_path / "up.sh").write_text("grep -q b $1 || cat $1 > $KOALJA_OUT/json\n")
    with hall(tmp_path, UPPER) as place:
        with place.running():
            place.send("model", "m1")
            place.send("raw", "a", "b")
            place.settle()
        assert place.said_on("result") == ["m1:a"]
        edit(place, "up.sh", "cat $1\n")
        assert recomputed(place, replay_lookups=True)["predict"] == {"dead": 1, "kept": 1}
        assert place.said_on("result") == ["m1:a"]
        (_, reason, _, message, _) = place.attempts("predict")[-1]
        assert reason == "look-up"
        assert "has no answer on record: nothing was asked" in message
        assert place.wrong() == []
