"""Passports: every stop once, whatever the shape of the history."""

import pytest
from builder import World, weather
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from koalja_fn.story.backward import backward
from koalja_fn.story.forward import forward
from koalja_fn.story.passport import FULL, Limits
from koalja_fn.story.telling import passport_text

MESH = """\
[mesh]
(a, b) left (c)
(c, d[3/1]) right (e)
(e passive, c) back (d)
(b + e as both) merged (f)
"""


@pytest.fixture
def world(tmp_path):
    made = weather(tmp_path)
    yield made
    made.registry.close()


def id_at(world, wire, position):
    """Id of the value at a position, from 0."""
    rows = world.read(
        lambda tx: tx.all("SELECT id FROM value WHERE wire = ? AND position = ?", world.wires[wire], position)
    )
    return rows[0][0]


def test_the_way_back_ends_at_the_sources(world):
    told = world.read(backward, id_at(world, "page", 0), Limits())
    assert {(s.value.wire, s.value.position) for s in told.stops.values()} == {
        ("page", 0),
        ("mean", 0),
        ("temp", 0),
        *(("wind", n) for n in range(10)),
    }
    average = next(v for v in told.visits.values() if v.formed.name == "average")
    assert [(a.outcome, a.reason, a.status) for a in average.attempts] == [
        ("failed", "exit", 3),
        ("done", "", 0),
    ]
    assert [w.fresh for w in average.windows] == [10, 0]
    assert told.notes == ()


def test_the_way_forward_ends_at_the_ends(world):
    told = world.read(forward, id_at(world, "wind", 3), Limits())
    assert {(s.value.wire, s.value.position) for s in told.stops.values()} == {
        ("wind", 3),
        ("mean", 0),
        ("mean", 1),
        ("page", 0),
    }


def test_a_dead_letter_is_told_as_where_the_way_ends(world):
    text = passport_text(world.read(forward, id_at(world, "mean", 1), Limits()))
    assert "report, snapshot 2" in text
    assert "dead, formed by the arrival of mean 0002" in text
    assert "[standard error: KeyError: 'wind']" in text


def test_a_value_that_was_passed_over_says_so(world):
    value = world.send("mean")
    world.pass_over("report", "mean", value.position, value.position)
    world.registry.transact(lambda tx: tx.run("UPDATE link SET position = 3 WHERE input = 'mean'"))
    told = world.read(forward, value.id, Limits())
    assert [(r.task, r.state) for r in told.stops[value.id].readings] == [("report", "superseded")]
    assert "passed it over: superseded" in passport_text(told)


def test_a_value_that_waits_says_so(world):
    told = world.read(forward, world.send("mean").id, Limits())
    assert [r.state for s in told.stops.values() for r in s.readings] == ["not read"]


def test_what_was_passed_over_before_a_window_is_told_with_it(world):
    for _ in range(3):
        world.send("wind")
    world.pass_over("average", "wind", 4, 13)
    snapshot = world.form("average", wind=(5, 14, 3), temp=(0, 0, 0))
    told = world.read(backward, snapshot, Limits())
    assert [(p.first, p.last, p.reason) for p in told.visits[snapshot].windows[0].passed] == [
        (4, 13, "superseded")
    ]


def test_a_wide_window_is_summed_up_and_its_last_value_followed(tmp_path):
    world = World(tmp_path, "[wide]\n(x[1000/1]) count (n)\n")
    for _ in range(1000):
        world.send("x", "payload")
    snapshot = world.form("count", x=(0, 999))
    (value,) = world.done("count", snapshot, "n")
    told = world.read(backward, value.id, Limits())
    window = told.visits[snapshot].windows[0]
    assert (window.count, window.left_out, window.size) == (1000, 999, 7000)
    assert len(told.stops) == 2
    assert "[in x: x [0001..1000], 1000 values, all new" in passport_text(told)
    assert "--full" in passport_text(told)
    full = world.read(backward, value.id, FULL)
    assert len(full.stops) == 1001
    assert full.notes == ()
    world.registry.close()


def test_depth_ends_the_way_and_says_so(world):
    told = world.read(backward, id_at(world, "page", 0), Limits(depth=1))
    assert {s.value.wire for s in told.stops.values()} == {"page", "mean"}
    assert told.notes == ("1 snapshot at the limit of --depth 1 not followed",)
    assert "not followed" in passport_text(told)


def test_a_limit_of_values_ends_the_way_and_says_so(world):
    told = world.read(backward, id_at(world, "page", 0), Limits(most=5))
    assert len(told.stops) == 5
    assert told.notes == ("8 more values left out after the first 5; --full tells all",)


def test_a_loop_of_a_thousand_rounds_is_told(tmp_path):
    """Deeper than Python's stack."""
    world = World(tmp_path, "[loop]\n(x) turn (x)\n")
    world.send("x")
    for n in range(1200):
        world.done("turn", world.form("turn", x=(n, n)), "x")
    last = id_at(world, "x", 1200)
    told = world.read(backward, last, FULL)
    assert (len(told.stops), len(told.visits)) == (1201, 1200)
    assert passport_text(told).count("from outside") == 1
    ahead = world.read(forward, id_at(world, "x", 0), FULL)
    assert set(ahead.stops) == set(told.stops)
    world.registry.close()


def test_a_narrower_window_after_a_rewiring_hides_no_wider_one(tmp_path):
    world = World(tmp_path, "[w]\n(x[10/2]) t (y)\n")
    for _ in range(12):
        world.send("x")
    wide = world.form("t", x=(0, 9))
    from koalja_fn.registry.tasks import LogRecord, append
    from koalja_fn.snapshots import InputSpec, Spec

    spec = Spec((InputSpec("x", ("x",), 3, 3, 3),))

    def rewire(tx):
        import json

        append(
            tx,
            world.tasks["t"],
            [
                LogRecord(
                    2,
                    "wired",
                    world.tick(),
                    body=json.dumps({"spec": spec.to_json(), "starts": {}, "bases": {}, "generation": 2}),
                )
            ],
            {},
        )
        tx.run("UPDATE task SET generation = 2, spec = ?", spec.to_json())

    world.registry.transact(rewire)
    narrow = world.form("t", x=(2, 4))
    told = world.read(forward, id_at(world, "x", 3), Limits())
    assert set(told.visits) == {wide, narrow}
    world.registry.close()


@st.composite
def histories(draw):
    """Steps over the mesh: arrivals, and executions over windows drawn from what there is."""
    return draw(
        st.lists(st.tuples(st.sampled_from("abLRBM"), st.integers(0, 10**6)), min_size=5, max_size=40)
    )


class History:
    """Plays steps on a world, and remembers itself who came of whom."""

    def __init__(self, world):
        self.world = world
        self.on = {wire: [] for wire in world.wires}
        self.parents = {}
        self.fed = []

    def play(self, steps):
        for kind, seed in steps:
            if kind in "ab":
                value = self.world.send(kind)
                self.on[kind].append(value.id)
                self.parents[value.id] = set()
                if kind == "b":
                    self.feed("b", len(self.on["b"]) - 1)
            elif kind == "L":
                self.execute("left", seed, {"a": 1, "b": 1}, "c")
            elif kind == "R":
                self.execute("right", seed, {"c": 1, "d": 3}, "e")
            elif kind == "B":
                self.execute("back", seed, {"e": 1, "c": 1}, "d")
            elif self.fed:
                index = seed % len(self.fed)
                snapshot = self.world.form("merged", both=(index, index))
                self.add(snapshot, "merged", "f", {self.fed[index]})

    def feed(self, wire, position):
        self.world.feed("merged", "both", len(self.fed), 1, wire, position)
        self.fed.append(self.on[wire][position])

    def execute(self, task, seed, widths, out):
        windows, took = {}, set()
        for wire, width in widths.items():
            there = len(self.on[wire])
            # Elastic at the start, so that loops can begin.
            width = min(width, there)
            if not there:
                if wire in "de":
                    continue
                return
            first = seed % (there - width + 1)
            windows[wire] = (first, first + width - 1)
            took |= set(self.on[wire][first : first + width])
        if windows:
            self.add(self.world.form(task, **windows), task, out, took)

    def add(self, snapshot, task, out, took):
        (value,) = self.world.done(task, snapshot, out)
        self.on[out].append(value.id)
        self.parents[value.id] = took
        if out == "e":
            self.feed("e", len(self.on["e"]) - 1)

    def ancestors(self, value):
        found, todo = set(), [value]
        while todo:
            one = todo.pop()
            if one not in found:
                found.add(one)
                todo += self.parents[one]
        return found


@given(histories())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_ancestor_and_every_descendant_is_found_once(tmp_path_factory, steps):
    history = History(World(tmp_path_factory.mktemp("mesh"), MESH))
    history.play(steps)
    every = set(history.parents)
    ancestors = {value: history.ancestors(value) for value in every}
    for value in sorted(every)[:6]:
        told = history.world.read(backward, value, FULL)
        assert set(told.stops) == ancestors[value]
        text = passport_text(told)
        for one in told.stops:
            # Full lines, with the payload's digest, are told once; else it is referred to.
            assert sum(f"  {one[:12]}  " in line for line in text.splitlines()) == 1
        ahead = history.world.read(forward, value, FULL)
        assert set(ahead.stops) == {one for one in every if value in ancestors[one]}
    history.world.registry.close()
