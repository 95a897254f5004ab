"""The registry: its clock, its schema, and that every hot statement finds its rows by an index."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from koalja_fn import postgres
from koalja_fn.registry import Registry, connect, snapshots, tasks, values
from koalja_fn.registry.registry import migrations
from tests.postgres.schemas import empty_registry


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty registry."""
    if request.param == "sqlite":
        yield str(tmp_path / "registry.db")
    else:
        with empty_registry() as address:
            yield address


@pytest.fixture
def registry(where: str) -> Iterator[Registry]:
    made = connect(where)
    yield made
    made.close()


def test_the_clock_is_always_later_than_its_last_answer(registry: Registry) -> None:
    answers: list[list[int]] = [[], []]

    def ask(mine: list[int]) -> None:
        mine += [registry.clock() for _ in range(2000)]

    threads = [threading.Thread(target=ask, args=(mine,)) for mine in answers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine in answers:
        assert mine == sorted(set(mine))
    assert len({*answers[0], *answers[1]}) == 4000


def test_the_clock_does_not_go_back_when_the_systems_does(registry: Registry, monkeypatch) -> None:
    now = registry.clock()
    monkeypatch.setattr(registry._database, "now", lambda: now - 3_600_000_000)
    assert registry.clock() == now + 1


def test_the_clock_does_not_go_back_over_a_restart(where: str) -> None:
    future = time.time_ns() // 1000 + 86_400_000_000
    first = connect(where)

    def fill(tx) -> None:
        circuit = tasks.keep_circuit(tx, "c", "", 0)
        wire = tasks.keep_wire(tx, circuit, "w")
        from koalja_fn.model import AnnotatedValue

        value = AnnotatedValue("i", "c", "w", 0, "/s", 0, future, "sha256:" + "0" * 64, 0, "text/plain")
        values.place(tx, wire, [value])
        values.move_head(tx, wire, 1, future)

    first.transact(fill)
    first.close()
    second = connect(where)
    assert second.clock() > future
    second.close()


def test_the_schema_is_plain_enough_for_another_engine() -> None:
    for script in migrations():
        for word in ("AUTOINCREMENT", "WITHOUT TYPE", "datetime(", "strftime(", "json_", "REPLACE INTO"):
            assert word not in script


def test_every_table_is_strict() -> None:
    text = "\n".join(migrations())
    assert text.count("CREATE TABLE") == len(re.findall(r"\) (?:WITHOUT ROWID, )?STRICT;", text))


HOT = {
    "a value by its id": lambda tx: values.hold_and_look(tx, [1], ["x", "y"]),
    "values of a stretch of a wire": lambda tx: values.between(tx, 1, 5, 9),
    "the value at a position": lambda tx: tx.one(
        "SELECT id FROM value WHERE wire = ? AND position = ?", 1, 1
    ),
    "what an execution made": lambda tx: tx.all("SELECT id FROM value v WHERE v.snapshot = ?", 1),
    "snapshots at hand": lambda tx: snapshots.at_hand(tx, 1, 9, strict=False),
    "the next in strict order": lambda tx: snapshots.at_hand(tx, 1, 9, strict=True),
    "what is in a snapshot": lambda tx: snapshots.members(tx, 1),
    "how many run": lambda tx: snapshots.running(tx, 1),
    "when one is due": lambda tx: snapshots.next_due(tx, 1),
    "what is to be tried again": lambda tx: snapshots.dues(tx, 1, 9),
    "expired leases": lambda tx: snapshots.expired(tx, 1, 9),
    "the first open one": lambda tx: snapshots.first_open(tx, 1),
    "dead letters": lambda tx: snapshots.dead(tx, 1),
    "links of a task": lambda tx: tasks.links(tx, 1),
    "the log's tail": lambda tx: tasks.log_after(tx, 1, 5),
    "runs of admissions": lambda tx: list(snapshots.feed_runs(tx, 1, "m", 3, 9)),
    "the next admission": lambda tx: snapshots.next_feed_index(tx, 1, "m"),
}


@pytest.mark.parametrize("what", HOT)
def test_no_hot_statement_scans_a_table(registry: Registry, what: str) -> None:
    class Explaining:
        """A transaction that asks how each statement would be executed."""

        def __init__(self, tx) -> None:
            self.tx = tx
            self.plans: list[str] = []

        def _explain(self, sql: str, params) -> None:
            if on_postgres:
                self.plans += [row[0] for row in self.tx.all(f"EXPLAIN {sql}", *params)]
            else:
                self.plans += [row[3] for row in self.tx.all(f"EXPLAIN QUERY PLAN {sql}", *params)]

        def later(self, sql, *params):
            self._explain(sql, params)
            return self.tx.later(sql, *params)

        def one(self, sql: str, *params):
            self._explain(sql, params)
            return self.tx.one(sql, *params)

        def all(self, sql: str, *params):
            self._explain(sql, params)
            return self.tx.all(sql, *params)

    on_postgres = isinstance(registry._database, postgres.Database)

    def look(tx) -> list[str]:
        if on_postgres:  # an empty table is read as a whole if that is allowed
            tx.do("SET LOCAL enable_seqscan = off")
        explaining = Explaining(tx)
        with suppress(ValueError):  # there is no such task
            HOT[what](explaining)
        return explaining.plans

    plans = registry.transact(look)
    assert plans
    for plan in plans:
        assert not re.match(r"SCAN (?!CONSTANT|SUBQUERY)", plan), plans
        assert "Seq Scan" not in plan, plans
