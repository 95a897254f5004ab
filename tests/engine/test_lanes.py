"""Recompute: results of old code are made again, in a lane that then takes the old ones' place."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import circuit_strategies
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recomputing import World
from workbench import Workbench, workbench

from koalja_fn.wiring import read

Opener = Callable[[str], Workbench]

CHAIN = """
[c]
(in) a (mid)
(mid[3/1]) b (out)
"""


def both(bench: Opener, wiring: str, before: dict[str, str], edit: dict[str, str]) -> tuple[World, World]:
    """A world whose code is edited later, and one that had the new code from the start."""
    return World(bench(wiring), before), World(bench(wiring), before | edit)


def test_results_are_those_of_a_run_that_had_the_new_code_from_the_start(bench: Opener) -> None:
    old, new = both(bench, CHAIN, {}, {"a": "other"})
    for world in (old, new):
        for n in range(6):
            world.tell("in", f"v{n}")
    old.edit({"a": "other"})
    old.recompute()
    assert old.told() == new.told()
    for world in (old, new):
        world.tell("in", "later")
    assert old.told() == new.told()
    assert old.bench.wrong() == []


def test_windows_shift_where_new_code_makes_more_or_fewer_values(bench: Opener) -> None:
    old, new = both(bench, CHAIN, {"a": "filter"}, {"a": "several"})
    for world in (old, new):
        for n in range(20):
            world.tell("in", f"v{n}")
    old.edit({"a": "several"})
    old.recompute()
    assert old.told() == new.told()
    assert old.bench.wrong() == []


@pytest.mark.parametrize("edit", ["other", "several", "filter"])
def test_what_was_wired_otherwise_is_replayed_as_it_was_wired_then(bench: Opener, edit: str) -> None:
    old, new = both(bench, "[c]\n(in) a (mid)\n", {"a": "filter"}, {"a": edit})
    for world in (old, new):
        for n, wiring in enumerate(("", "(mid[3/1]) b (out)\n", "(mid[2]) b (out)\n(out) c (end)\n")):
            world.rewire(f"[c]\n(in) a (mid)\n{wiring}")
            for m in range(7):
                world.tell("in", f"{n}.{m}")
    old.edit({"a": edit})
    old.recompute()
    assert old.told() == new.told()
    for world in (old, new):
        world.tell("in", "later", "and later")
    assert old.told() == new.told()
    assert old.bench.wrong() == []


def test_a_recompute_that_a_crash_ended_goes_on_where_it_was(bench: Opener) -> None:
    old, new = both(bench, CHAIN, {"a": "filter"}, {"a": "other"})
    for world in (old, new):
        for n in range(12):
            world.tell("in", f"v{n}")
    old.edit({"a": "other"})
    before = len(old.runs)

    class Crash(Exception):
        pass

    def crash_after(count: int) -> None:
        lane = old.lane()
        execute, left = old.execute(lane), [count]

        def crashing(claim: Any, stop: Any = None) -> Any:
            if not left[0]:
                raise Crash
            left[0] -= 1
            return execute(claim, stop)

        with pytest.raises(Crash):
            lane.catch_up(crashing)

    for count in (1, 3, 2):
        crash_after(count)
    old.recompute()
    assert old.told() == new.told()
    assert old.bench.wrong() == []
    assert len(old.runs) - before == 12 + len(new.snapshots(new.bench.task("b").id))


def test_the_next_recompute_goes_by_the_places_that_the_last_one_gave(bench: Opener) -> None:
    """Some of its results were kept and some made again, later than what stands behind them."""
    old, new = both(bench, CHAIN, {"a": "fails"}, {"a": "other"})
    for world in (old, new):
        for n in range(9):
            world.tell("in", f"v{n}")
    old.edit({"a": "same"})
    old.recompute(only_failed=True)
    old.edit({"a": "other"})
    old.recompute()
    assert old.told() == new.told()
    assert old.bench.wrong() == []


def test_whatever_the_circuit_and_the_edit_results_are_those_of_the_new_code() -> None:
    whatever("sqlite", EXAMPLES)


def test_whatever_the_circuit_and_the_edit_on_postgresql_too() -> None:
    whatever("postgres", max(1, EXAMPLES // 10))


EXAMPLES = int(os.environ.get("KOALJA_EXAMPLES", "60"))
# Where code makes another number of values readers are free at other moments: no windows that close early.
UNSTEADY = ("filter", "several", "fails")


@st.composite
def forward_circuits(draw: Any, *, timed: bool) -> str:
    """Circuits without loops: windows, joins, merges, passive inputs; `timed`: also what time decides."""
    count = draw(st.integers(1, 4))
    lines = ["[random]"]
    for number in range(count):
        known = ["a", "b", "c", *(f"o{n}" for n in range(number))]
        policies = ["all-new", "all-new", "swap", "swap", "merge", *(["align"] * timed)]
        policy = draw(st.sampled_from(policies))
        text = draw(circuit_strategies.inputs(policy, known))
        if not timed:
            text = re.sub(r"\[\d-\d\]", "", text)
        lines += [f"({text}) t{number} (o{number})", f"    policy = {policy}", "    max-hops = 1000"]
        if timed and (policy == "align" or draw(st.booleans())):
            lines.append(f"    within = {draw(st.sampled_from(['3s', '20s']))}")
        if timed and draw(st.integers(0, 3)) == 0:
            lines.append("    rate = 1/s")
    return "\n".join(lines) + "\n"


def is_valid(text: str) -> bool:
    return read(text, file="random.koalja").circuit is not None


def whatever(kind: str, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def compare(data: st.DataObject) -> None:
        timed = data.draw(st.booleans())
        fits = forward_circuits(timed=timed).filter(is_valid)
        text = data.draw(fits)
        some = ["same", "other"] if timed else ["same", "other", *UNSTEADY]
        circuit = read(text, file="r").circuit
        assert circuit is not None
        names = [task.name for task in circuit.tasks]
        before = {name: data.draw(st.sampled_from(some)) for name in names}
        edited = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
        edit = {name: data.draw(st.sampled_from(some)) for name in edited}
        story = data.draw(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3)), max_size=25))
        meanwhile = data.draw(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3)), max_size=6))
        more = data.draw(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3)), max_size=6))
        with workbench(text, kind) as one, workbench(text, kind) as two:
            old, new = World(one, before), World(two, before | edit)
            for world in (old, new):
                happen(world, story, timed)
            old.edit(edit)
            if meanwhile:
                # The circuit lives on while the lane is under way, and its programs have the new code.
                lane = old.lane()
                assert lane.catch_up(old.execute(lane))
                for world in (old, new):
                    happen(world, meanwhile, timed)
                assert old.bench.wrong(payloads=False) == []
            old.recompute()
            assert old.told() == new.told()
            for world in (old, new):
                happen(world, more, timed)
            assert old.told() == new.told()
            assert old.bench.wrong(payloads=False) == []
            if data.draw(st.integers(0, 3)):
                return
            once_more = {name: data.draw(st.sampled_from(some)) for name in edited}
            with workbench(text, kind) as three:
                third = World(three, before | edit | once_more)
                for part in (story, meanwhile, more):
                    happen(third, part, timed)
                old.edit(once_more)
                old.recompute()
                assert old.told() == third.told()
                assert old.bench.wrong(payloads=False) == []

    compare()


def happen(world: World, story: list[tuple[str, int]], timed: bool) -> None:
    for place, (wire, count) in enumerate(story):
        if wire in world.bench.plan.wires:
            world.tell(wire, *(f"{wire}{place}.{n}" for n in range(count)))
        if timed:
            world.bench.tick(count)
            world.settle()


WIDE = """
[wide]
(in) a (x)
    concurrency = 4
(in) b (y)
(x[2/1]) c (p)
    concurrency = 3
(y + x) d (q)
(p, q) e (end)
    policy = swap
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_side_by_side_results_and_their_order_are_those_of_one_at_a_time(kind: str) -> None:
    with workbench(WIDE, kind) as one, workbench(WIDE, kind) as two:
        old, new = World(one, {"a": "filter"}), World(two, {"a": "several", "b": "other"})
        for world in (old, new):
            for n in range(12):
                world.tell("in", f"v{n}")
        old.edit({"a": "several", "b": "other"})
        lane = old.recompute(jobs=8)
        assert lane.names[0] in "ab"
        assert old.told() == new.told()
        assert old.bench.wrong(payloads=False) == []
        # Of `a`, four at once; of `b`, which says nothing, one.
        assert old.most_of["a"] > 1
        assert old.most_of["a"] <= 4
        assert old.most_of["b"] == 1


def test_a_lane_that_is_stopped_while_outputs_wait_for_their_turn_goes_on_later(bench: Opener) -> None:
    wiring = "[c]\n(in) a (mid)\n    concurrency = 4\n(mid[3/1]) b (out)\n"
    old, new = both(bench, wiring, {}, {"a": "other"})
    for world in (old, new):
        for n in range(12):
            world.tell("in", f"v{n}")
    old.edit({"a": "other"})

    class Crash(Exception):
        pass

    for at in (3, 5, 6):
        lane = old.lane(jobs=4)
        execute = old.execute(lane)

        def crashing(claim: Any, stop: Any = None, at: int = at, execute: Any = execute) -> Any:
            if claim.number == at:
                raise Crash
            return execute(claim, stop)

        with pytest.raises(Crash):
            lane.catch_up(crashing)
        assert len(old.said(lane.plan.wires["mid"])) == at
    old.recompute(jobs=4)
    assert old.told() == new.told()
    assert old.bench.wrong() == []
