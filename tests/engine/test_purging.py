"""`keep`: what nobody needs any more goes, what anybody needs stays, and metadata stay always."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from circuit_strategies import circuits, happenings
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from test_promises import History, is_valid
from workbench import Workbench, workbench

from koalja_fn.engine.purging import Purger, Round
from koalja_fn.engine.tidying import tidy
from koalja_fn.registry import snapshots
from koalja_fn.wiring import read

EXAMPLES = int(os.environ.get("KOALJA_EXAMPLES", "60"))
DAY = 86_400
Opener = Callable[[str], Workbench]
WIRING = "(a) t (b)\nwire a\n    keep = 1d\n"


def gc(bench: Workbench, **options: Any) -> Round:
    """One round, as if nobody else were there."""
    return Purger(bench.registry, bench.store, grace=0.0).round(**options)


def there(bench: Workbench, wire: str) -> list[bool]:
    """For each value of a wire whether its payload is in the store."""
    return [bench.store.has(value.digest) for value in bench.on(wire)]


def test_a_payload_goes_a_while_after_its_last_need(bench: Opener) -> None:
    place = bench(WIRING)
    place.send("a", "1", "2", "3")
    complete_without_outputs(place)
    assert gc(place).freed == {}
    place.tick(DAY + 1)
    freed = gc(place).freed
    assert {name: (one.payloads, one.bytes) for name, one in freed.items()} == {("bench", "a"): (2, 2)}
    assert there(place, "a") == [False, False, True]  # the latest stays
    assert place.wrong() == []
    assert [value.size for value in place.on("a")] == [1, 1, 1]


def test_the_time_counts_from_the_end_of_the_last_snapshot(bench: Opener) -> None:
    place = bench(WIRING)
    place.send("a", "1", "2")
    place.form()
    place.tick(DAY * 2)
    for _ in range(2):
        (claim,) = place.claim("t")
        place.complete(claim, {})
    place.tick(DAY / 2)
    gc(place)
    assert there(place, "a") == [True, True]
    place.tick(DAY)
    gc(place)
    assert there(place, "a") == [False, True]


@pytest.mark.parametrize("state", ["unread", "ready", "running", "dead"])
def test_what_is_not_finished_pins_its_values(bench: Opener, state: str) -> None:
    place = bench(WIRING)
    place.send("a", "1", "2")
    if state != "unread":
        place.form()
    if state in ("running", "dead"):
        (claim,) = place.claim("t", lease=DAY * 100)
        if state == "dead":
            place.fail(claim, permanent=True)
            place.work_off()
    place.tick(DAY * 10)
    gc(place)
    assert there(place, "a") == [True, True]
    if state == "dead":
        place.skip(place.snapshot("t").rid)
        place.tick(DAY * 10)
        gc(place)
        assert there(place, "a") == [False, True]


def test_an_unfinished_window_pins_its_values(bench: Opener) -> None:
    place = bench("(a[4/2]) t (b)\nwire a\n    keep = 1d\n")
    place.send("a", *"12345")
    place.work_off()
    place.tick(DAY * 2)
    gc(place)
    assert there(place, "a") == [False, False, True, True, True]


def test_a_merged_window_pins_its_values_on_each_wire(bench: Opener) -> None:
    place = bench("(a, b)[3] t (c)\n    policy = merge\nwire a\n    keep = 1d\nwire b\n    keep = 1d\n")
    place.send("a", "1")
    place.send("b", "2", "3", "4")
    place.send("a", "5")
    place.work_off()
    place.send("b", "6", "7", "8")
    place.work_off()
    place.tick(DAY * 2)
    gc(place)
    assert there(place, "a") == [False, True]
    assert there(place, "b") == [False, False, False, False, True, True]


def test_the_latest_window_that_swap_would_use_again_stays(bench: Opener) -> None:
    place = bench("(a, c passive) t (b)\n    policy = swap\nwire c\n    keep = 1d\n")
    place.send("c", "1", "2")
    place.work_off()
    place.send("a", "x")
    place.work_off()
    place.tick(DAY * 2)
    gc(place)
    assert there(place, "c") == [False, True]
    place.send("a", "y")
    place.work_off()
    assert place.said("b")[-1] == "y2"


def test_bytes_that_several_values_share_stay_until_the_last_need(bench: Opener) -> None:
    place = bench(WIRING)
    place.send("a", "1", "2")
    complete_without_outputs(place)
    place.send("b", "1")  # which says nothing, and keeps for ever
    place.tick(DAY * 2)
    gc(place)
    assert there(place, "a") == [True, True]


def test_bytes_that_come_again_are_kept_anew(bench: Opener) -> None:
    place = bench(WIRING.replace("(b)", "(b)\n    run = true"))
    place.send("a", "1", "2")
    complete_without_outputs(place)
    place.tick(DAY * 2)
    gc(place)
    assert there(place, "a") == [False, True]
    place.send("a", "1")
    assert there(place, "a") == [True, True, True]
    place.tick(DAY / 2)
    gc(place)
    assert there(place, "a") == [True, False, True]
    place.send("a", "3")
    complete_without_outputs(place)
    place.tick(DAY * 2)
    gc(place)
    assert there(place, "a") == [False, False, False, True]
    assert place.wrong() == []


def test_what_is_marked_and_needed_again_is_spared(bench: Opener) -> None:
    place = bench(WIRING)
    place.send("a", "1", "2")
    complete_without_outputs(place)
    place.tick(DAY * 2)
    patient = Purger(place.registry, place.store, grace=3600.0)
    assert patient.round().waiting == 1
    place.send("a", "1")
    place.tick(7200)
    assert patient.round().freed == {}
    assert there(place, "a") == [True, True, True]


def test_a_reader_that_comes_afterwards_begins_with_the_first_kept_value(bench: Opener) -> None:
    place = bench(WIRING)
    place.send("a", "1", "2", "3")
    complete_without_outputs(place)
    place.tick(DAY * 2)
    gc(place)
    place.wire(WIRING + "(a) later (d)\n    start = beginning\n")
    place.work_off()
    assert place.said("d") == ["3"]
    assert place.wrong() == []


def test_looking_changes_nothing(bench: Opener) -> None:
    place = bench(WIRING)
    place.send("a", "1", "2")
    complete_without_outputs(place)
    place.tick(DAY * 2)
    found = Purger(place.registry, place.store).look()
    assert found.marked["bench", "a"].payloads == 1
    assert place.ask("SELECT count(*) FROM purge") == [(0,)]
    assert there(place, "a") == [True, True]


def test_older_than_lets_go_of_what_can_be_made_again_and_of_no_source(bench: Opener) -> None:
    place = bench("(a) t (b)\n(b) u (c)\nwire a\n    type = text/plain\n")
    place.send("a", "1", "2")
    for name, said in (("t", "x"), ("u", "y")):
        place.form()
        for claim in place.claim(name):
            place.complete(claim, {claim.plan.task.output_wires[0]: [f"{said}{claim.number}"]})
        place.form()
        for claim in place.claim(name):
            place.complete(claim, {claim.plan.task.output_wires[0]: [f"{said}{claim.number}"]})
    place.tick(DAY * 2)
    gc(place, older=DAY * 1_000_000)
    assert there(place, "a") == [True, True]
    assert there(place, "b") == [False, True]
    assert there(place, "c") == [False, True]


def test_what_nothing_names_goes_only_where_one_asks_for_it(bench: Opener) -> None:
    place = bench(WIRING)
    place.send("a", "1")
    digest = place.store.put_bytes(b"nobody's").digest
    gc(place)
    assert place.store.has(digest)
    assert gc(place, orphans=True).freed["", ""].bytes == 8
    assert not place.store.has(digest)
    place.send("a", "nobody's")
    assert there(place, "a") == [True, True]
    assert place.wrong() == []


def test_a_round_begins_by_itself_only_when_it_is_due_and_once(bench: Opener) -> None:
    place = bench(WIRING)
    place.send("a", "1", "2")
    complete_without_outputs(place)
    place.tick(DAY * 2)
    first = tidy(place.registry, place.store, place.plan)
    assert first is not None
    assert first.waiting == 1
    assert tidy(place.registry, place.store, place.plan) is None
    place.tick(3600)
    tidy(place.registry, place.store, place.plan)
    assert there(place, "a") == [False, True]
    silent = bench("(a) t (b)\n")
    assert tidy(silent.registry, silent.store, silent.plan) is None


def test_a_wire_with_a_sink_waits_until_all_is_written(bench: Opener) -> None:
    place = bench(WIRING + "    to = out/{id}\n")
    place.send("a", "1", "2")
    complete_without_outputs(place)
    place.tick(DAY * 2)
    gc(place)
    assert there(place, "a") == [True, True]
    place.change("UPDATE wire SET sunk = head")
    gc(place)
    assert there(place, "a") == [False, True]


def complete_without_outputs(place: Workbench) -> None:
    going = True
    while going:
        going = bool(place.form())
        for name in place.plan.tasks:
            for claim in place.claim(name):
                place.complete(claim, {})
                going = True


class Keeping(History):
    """A history in which payloads are purged; whoever completes a claim reads all of its inputs."""

    def complete(self, which: int, count: int) -> None:
        for claim in self.claims:
            self.see(claim.rid)
        super().complete(which, count)

    def gc(self, orphans: bool) -> None:
        freed = gc(self.bench, orphans=orphans).freed
        event(f"freed {bool(freed)}")
        for (rid,) in self.bench.ask("SELECT rid FROM snapshot WHERE state IN ('ready', 'running', 'dead')"):
            self.see(rid)

    def see(self, rid: int) -> None:
        for member in self.bench.registry.read(lambda tx: snapshots.members(tx, rid)):
            for value in member.values:
                assert self.bench.store.has(value.digest), (member.input, value.position)


def kept(text: str, keeps: list[str]) -> str:
    """The circuit, each wire with a `keep`, or without where it is empty."""
    circuit = read(text, file="random.koalja").circuit
    assert circuit is not None
    chosen = zip(sorted(circuit.wires), keeps, strict=False)
    return text + "".join(f"wire {name}\n    keep = {keep}\n" for name, keep in chosen if keep)


keeps = st.lists(st.sampled_from(["", "1ms", "1ms", "1ms", "30s"]), min_size=8, max_size=8)
events = st.one_of(happenings.filter(lambda one: one[0] != "rewire"), st.tuples(st.just("gc"), st.booleans()))


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
@given(circuits(3).filter(is_valid), keeps, st.lists(events, min_size=5, max_size=60))
def test_nothing_that_is_needed_is_ever_gone(
    text: str, some: list[str], story: list[tuple[Any, ...]]
) -> None:
    """Also not to later windows: what forms after a purge has all its payloads."""
    wiring = kept(text, some)
    with workbench(wiring) as bench:
        history = Keeping(bench, [wiring])
        for what, *args in story:
            history.happen(what, *args)
        gc(bench)
        bench.tick(100)
        bench.lose_expired()
        for _ in range(20):
            bench.form()
            for name in bench.plan.tasks:
                for claim in bench.claim(name):
                    history.see(claim.rid)
                    bench.complete(claim, {})
            gc(bench)
            bench.tick(30)
        assert bench.wrong() == []
