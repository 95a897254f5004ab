"""The query planner's word that no story scans a table that grows with the data."""

import pytest
from builder import weather

from koalja_fn.commands.designs import design_of
from koalja_fn.engine import letters
from koalja_fn.registry import overview
from koalja_fn.story import failures, log, visits
from koalja_fn.story import overview as lines
from koalja_fn.story.backward import backward
from koalja_fn.story.concept_map import concept_map
from koalja_fn.story.describing import describe
from koalja_fn.story.finding import find, find_payload
from koalja_fn.story.forward import forward
from koalja_fn.story.passport import FULL, Limits

# One row for each circuit: as many as there are folders' names.
SMALL = ("circuit", "c")


class Planned:
    """A transaction that asks the planner about each statement before it runs it."""

    def __init__(self, tx):
        self.tx = tx
        self.scans = set()

    def look(self, sql, params):
        for *_, detail in self.tx.all(f"EXPLAIN QUERY PLAN {sql}", *params):
            words = detail.split()
            if words[0] == "SCAN" and words[1] not in SMALL and words[1] != "CONSTANT":
                self.scans.add(f"{detail}: {sql}")

    def run(self, sql, *params):
        self.look(sql, params)
        return self.tx.run(sql, *params)

    def do(self, sql, *params):
        self.look(sql, params)
        self.tx.do(sql, *params)

    def later(self, sql, *params):
        self.look(sql, params)
        return self.tx.later(sql, *params)

    def many(self, sql, rows):
        self.tx.many(sql, rows)

    def one(self, sql, *params):
        self.look(sql, params)
        return self.tx.one(sql, *params)

    def all(self, sql, *params):
        self.look(sql, params)
        return self.tx.all(sql, *params)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = weather(tmp_path_factory.mktemp("weather"))
    made.feed("report", "mean", 0, 1, "mean", 0)
    made.pass_over("report", "mean", 0, 0)
    yield made
    made.registry.close()


def page(tx):
    return tx.one("SELECT id FROM value WHERE idx = 0 AND hops = 1 ORDER BY arrived DESC")[0]


def a_map(tx):
    (circuit,) = overview.circuits(tx)
    return concept_map(tx, circuit, design_of(circuit))


def everything_after_nothing(tx):
    return log.since(tx, log.Marks(overview.Cursors(), {}, {}))


STORIES = {
    "backward": lambda tx, one: backward(tx, one, Limits()),
    "backward in full": lambda tx, one: backward(tx, one, FULL),
    "forward": lambda tx, one: forward(tx, one, Limits()),
    "find": lambda tx, one: find(tx, one[:6]),
    "find a payload": lambda tx, one: find_payload(
        tx, tx.one("SELECT digest FROM value WHERE id = ?", one)[0]
    ),
    "describe a value": lambda tx, one: describe(tx, one, design_of),
    "describe a task": lambda tx, _: describe(tx, "average", design_of),
    "describe a wire": lambda tx, _: describe(tx, "wind", design_of),
    "log": lambda tx, _: log.latest(tx, 10),
    "log of a task": lambda tx, _: log.latest(tx, 10, "report"),
    "log since": lambda tx, _: everything_after_nothing(tx),
    "visits": lambda tx, _: visits.visits(tx, "average", 10),
    "anomalies": lambda tx, _: visits.visits(tx, "average", 10, anomalies=True),
    "map": lambda tx, _: a_map(tx),
    "circuits": lambda tx, _: lines.circuits(tx),
    "tasks": lambda tx, _: lines.task_lines(tx),
    "wires": lambda tx, _: lines.wire_lines(tx, design_of),
    "values": lambda tx, _: lines.latest_values(tx, None, 10),
    "snapshots": lambda tx, _: lines.latest_snapshots(tx, None, 10),
    "snapshots of a task": lambda tx, _: lines.latest_snapshots(tx, "average", 10),
    "failures": lambda tx, _: failures.failures(tx, None, 10),
    "dead": lambda tx, _: failures.dead_rids(tx, "report"),
}


@pytest.mark.parametrize("name", STORIES)
def test_a_story_scans_nothing(world, name):
    value = world.read(page)

    def ask(tx):
        planned = Planned(tx)
        STORIES[name](planned, value)
        return planned.scans

    assert world.read(ask) == set()


def test_letters_scan_nothing(world):
    rids = world.read(failures.dead_rids, None)

    def write(tx):
        planned = Planned(tx)
        letters.retry(planned, 1, rids)
        letters.skip(planned, 1, rids, "no")
        return planned.scans

    assert world.registry.transact(write) == set()
