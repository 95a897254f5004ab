"""Auditing finds damage that was planted: each kind by the sentence that names it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from workbench import Workbench

Opener = Callable[[str], Workbench]
WIRING = "[audited]\n(in[3/1], (a + b) as both) t (out)\n(out, p passive) u (end)\n    retries = 0\n"


@pytest.fixture
def b(bench: Opener) -> Workbench:
    made = bench(WIRING)
    made.send("p", "p")
    made.send("in", *"123456")
    made.send("a", "x", "y")
    made.send("b", "z", "w")
    made.work_off()
    assert made.wrong() == []
    return made


def found(b: Workbench, text: str) -> bool:
    b.remembered.clear()
    return any(text in sentence for sentence in b.wrong())


DAMAGE = {
    "a value is gone": (
        "DELETE FROM value WHERE position = 1 AND wire = (SELECT id FROM wire WHERE name = 'end')",
        "wire end: head is 4, but 3 values",
    ),
    "a wire's head is too far": ("UPDATE wire SET head = head + 1 WHERE name = 'end'", "wire end: head is 5"),
    "a sink is beyond its wire": ("UPDATE wire SET sunk = 99 WHERE name = 'end'", "its sink is at 99"),
    "a window is another one": (
        "UPDATE snapshot_input SET first = first + 1 WHERE snapshot = 2 AND ord = 0",
        "has windows",
    ),
    "a window was lost": ("DELETE FROM snapshot_input WHERE snapshot = 1 AND ord = 1", "has windows"),
    "a snapshot was lost": ("DELETE FROM snapshot WHERE rid = 2", "not numbered without gaps"),
    "a snapshot is there twice": (
        """INSERT INTO snapshot (id, task, number, generation, epoch, state, formed, due)
           SELECT 'x', id, formed, 1, 0, 'ready', 0, 0 FROM task WHERE name = 't'""",
        "not numbered without gaps",
    ),
    "a snapshot has another id": (
        "UPDATE snapshot SET id = 'f' || substr(id, 2) || 'f' WHERE rid = 1",
        "has another id",
    ),
    "a snapshot is of another generation": (
        "UPDATE snapshot SET generation = 2 WHERE rid = 1",
        "is of generation 2, its log says 1",
    ),
    "a record of the log is gone": (
        "DELETE FROM log WHERE seq = 2 AND task = (SELECT id FROM task WHERE name = 't')",
        "of the log is missing",
    ),
    "the log's end is gone": (
        "UPDATE task SET log_head = log_head + 1 WHERE name = 'u'",
        "the log ends at",
    ),
    "the log read something else": (
        """UPDATE log SET first = first + 1
           WHERE kind = 'run' AND task = (SELECT id FROM task WHERE name = 'u')""",
        "the log reads",
    ),
    "a link was moved": ("UPDATE link SET position = position - 1 WHERE input = 'in'", "link in is at 5"),
    "an execution is recorded twice": (
        """INSERT INTO execution
           (task, snapshot, attempt, version, started, ended,
            outcome, reason, message, stderr, size_in, size_out)
           SELECT task, snapshot, 2, version, started, ended,
            outcome, reason, message, stderr, size_in, size_out
           FROM execution WHERE snapshot = 1""",
        "was committed 2 times",
    ),
    "a snapshot is done that nobody executed": (
        "DELETE FROM execution WHERE snapshot = 1",
        "is done, and was committed 0 times",
    ),
    "a snapshot has outputs and is not done": (
        "UPDATE snapshot SET state = 'ready' WHERE rid = 1",
        "is ready, but has outputs",
    ),
    "an output is numbered wrong": (
        "UPDATE value SET idx = 7 WHERE snapshot = 1",
        "has outputs [7] on out",
    ),
    "an admission points to another value": (
        "UPDATE feed SET wire = (SELECT id FROM wire WHERE name = 'b') WHERE first = 0",
        "value 0 of both is not the one admitted",
    ),
    "an admission points to nothing": (
        "UPDATE feed SET position = position + 7 WHERE first = 0",
        "has values that are not there",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_it_finds_that(b: Workbench, damage: str) -> None:
    sql, sentence = DAMAGE[damage]
    assert b.change(sql) >= 1
    assert found(b, sentence), b.wrong()


def test_it_finds_another_state(bench: Opener) -> None:
    b = bench("[audited]\n(in[3]) t (out)\n")
    b.send("in", "1", "2")
    b.form()
    ((state,),) = b.ask("SELECT state FROM task")
    b.send("in", "3")
    b.form()
    b.change("UPDATE task SET state = ?", state)
    assert found(b, "the core's state is not the one that its log gives")


def test_it_finds_values_that_are_in_nothing(bench: Opener) -> None:
    b = bench("[audited]\n(a, b) t (out)\n    policy = swap\n")
    b.send("a", "1", "2", "3")
    b.send("b", "x")
    b.work_off()
    assert b.wrong() == []
    b.change("DELETE FROM passed WHERE first = 1")
    assert b.wrong() == ["task t: values 1 to 1 of a are in nothing"]


def test_it_finds_merged_values_that_are_in_nothing(bench: Opener) -> None:
    b = bench("[audited]\n(a + b as m) t (out)\n    policy = swap\n    rate = 1/s\n")
    b.send("a", "1", "2", "3")
    b.send("b", "x")
    b.form()
    b.tick(2)
    b.work_off()
    assert b.wrong() == []
    assert b.change("DELETE FROM passed WHERE first = 1") == 1
    assert b.wrong() == ["task t: values 1 to 1 of a are in nothing"]


def test_it_finds_a_flipped_bit_of_a_small_payload(b: Workbench) -> None:
    digest = b.on("in")[2].digest
    b.store.close()
    file = b.registry.file  # what arrives lies where it is named
    raw = sqlite3.connect(file.path if file else b.folder / ".koalja/objects/small.db")
    with raw:
        assert raw.execute("UPDATE small SET data = x'39' WHERE data = x'33'").rowcount == 1
    raw.close()
    b.reopen()
    assert b.wrong() == [f"payload {digest} is missing or damaged"]


def test_it_finds_a_flipped_bit_of_a_large_payload_and_a_missing_one(b: Workbench) -> None:
    one, two = b.send("in", "x" * 300_000, "y" * 300_000)
    b.work_off()
    assert b.wrong() == []
    path = b.store.path(one.digest)
    mode = path.stat().st_mode
    path.chmod(0o600)
    with open(path, "r+b") as file:
        file.seek(150_000)
        file.write(b"z")
    path.chmod(mode)
    Path(b.store.path(two.digest)).unlink()
    assert {s for s in b.wrong() if s.startswith("payload")} >= {
        f"payload {d} is missing or damaged" for d in (one.digest, two.digest)
    }


def test_a_healthy_circuit_of_every_kind_has_no_findings(bench: Opener) -> None:
    b = bench(
        "[all]\n(in) fan (l, r)\n(l, r) join (j)\n    policy = align\n    within = 5s\n"
        "(j + l as m) swap (s)\n    policy = swap\n    rate = 1/s\n"
        "(s[1-3], p passive) slow (out)\n    within = 3s\n"
        "(in ordered) sorted (o)\n    within = 2s\n() tick (t)\n    every = 7s\n"
    )
    for n in range(12):
        b.send("in", f"{n} ", event_source="/s", event_id=str(n), sequence=str(n ^ 1 if n != 5 else 77))
        b.send("p", "p")
        b.work_off()
        b.tick(1.5)
    b.tick(60)
    b.work_off()
    assert len(b.on("out")) > 0
    assert b.wrong() == []
