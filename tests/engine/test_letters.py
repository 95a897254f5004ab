"""Dead letters: again, or given up."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "story"))

from builder import World

from koalja_fn.engine import letters
from koalja_fn.registry import snapshots, stories
from koalja_fn.registry.tasks import links


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path, "[w]\n(x[2/1]) t (y)\n(a + b as both) m (z)\n")
    yield made
    made.registry.close()


def dead(world, task="t", **windows):
    """A dead letter, its new values counted as settled, as the engine does."""
    snapshot = world.form(task, **windows)
    world.fail(task, snapshot, dead=True)

    def settle(tx):
        row = snapshots.by_id(tx, snapshot)
        for item in snapshots.inputs_of(tx, row.rid):
            tx.run(
                "UPDATE link SET settled = settled + ? WHERE task = ? AND input = ? AND wire = ("
                "SELECT min(wire) FROM link l WHERE l.task = link.task AND l.input = link.input)",
                item.fresh,
                row.task,
                item.input,
            )
        return row.rid

    return world.registry.transact(settle)


def settled(world, task):
    return {link.name: link.settled for link in world.read(links, world.tasks[task])}


def test_retry_makes_a_dead_letter_ready_with_all_its_attempts(world):
    for _ in range(3):
        world.send("x")
    first, second = dead(world, x=(0, 1)), dead(world, x=(1, 2, 1))
    assert settled(world, "t") == {"x": 3}
    assert world.registry.transact(lambda tx: letters.retry(tx, 77, [second])) == [second]
    again = world.read(snapshots.by_rid, second)
    assert (again.state, again.due, again.attempts, again.finished) == ("ready", 77, 0, 0)
    assert len(world.read(stories.attempts, second)) == 1
    assert settled(world, "t") == {"x": 2}
    assert world.read(snapshots.by_rid, first).state == "dead"


def test_only_dead_letters_are_retried_or_skipped(world):
    world.send("x")
    world.send("x")
    letter = dead(world, x=(0, 1))
    assert world.registry.transact(lambda tx: letters.retry(tx, 1, [letter, letter])) == [letter]
    assert world.registry.transact(lambda tx: letters.skip(tx, 1, [letter], "no")) == []
    assert settled(world, "t") == {"x": 0}


def test_a_merged_input_counts_at_its_first_wire(world):
    world.send("a")
    world.feed("m", "both", 0, 1, "a", 0)
    letter = dead(world, "m", both=(0, 0))
    assert settled(world, "m") == {"a": 1, "b": 0}
    world.registry.transact(lambda tx: letters.retry(tx, 1, [letter]))
    assert settled(world, "m") == {"a": 0, "b": 0}


def test_skipping_is_on_record_and_settles(world):
    world.send("x")
    world.send("x")
    letter = dead(world, x=(0, 1))
    assert world.registry.transact(lambda tx: letters.skip(tx, 88, [letter], "broken sensor")) == [letter]
    skipped = world.read(snapshots.by_rid, letter)
    assert (skipped.state, skipped.finished) == ("skipped", 88)
    assert [(r.kind, r.text, r.at) for r in world.read(stories.remarks, letter)] == [
        ("skipped", "broken sensor", 88)
    ]
    assert settled(world, "t") == {"x": 2}
