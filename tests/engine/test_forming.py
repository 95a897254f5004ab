"""Forming: what has arrived becomes snapshots as the policy says, and the log alone tells which."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workbench import BEGIN, SECOND, Workbench, workbench

from koalja_fn.engine import forming
from koalja_fn.engine.arriving import Offer
from koalja_fn.engine.replaying import replay
from koalja_fn.registry import tasks

Opener = Callable[[str], Workbench]


def wiring(inputs: str, *attributes: str) -> str:
    return f"[forming]\n({inputs}) t (out)\n" + "".join(f"    {line}\n" for line in attributes)


def formed(b: Workbench, arrivals: str, *, together: bool = False) -> list[str]:
    """Send one value on each wire named, form after each or after all, and read the snapshots."""
    numbers: dict[str, int] = {}
    for wire in arrivals.split():
        numbers[wire] = numbers.get(wire, 0) + 1
        b.send(wire, f"{wire}{numbers[wire]} ")
        if not together:
            b.form()
    b.form()
    return [text.strip().replace(" |", "|") for text in b.texts("t")]


CASES = {
    "all-new pairs windows by number": ("a, b", [], "a a b a b", ["a1|b1", "a2|b2"]),
    "exactly n values, each once": ("a[3]", [], "a a a a a a a", ["a1 a2 a3", "a4 a5 a6"]),
    "a window that slides": ("a[3/2]", [], "a a a a a a", ["a1 a2 a3", "a3 a4 a5"]),
    "a window that slides by one": ("a[2/1]", [], "a a a", ["a1 a2", "a2 a3"]),
    "a window beside a plain input": ("a[2], b", [], "a b b a a a", ["a1 a2|b1", "a3 a4|b2"]),
    "swap takes the latest of each": (
        "a, b",
        ["policy = swap"],
        "a a b a b",
        ["a2|b1", "a3|b1", "a3|b2"],
    ),
    "merge puts all into one window": (
        "(a, b)[3/1]",
        ["policy = merge"],
        "a b b a",
        ["a1 b1 b2", "b1 b2 a2"],
    ),
    "merged wires, first come first served": ("a + b as both", [], "b a a b", ["b1", "a1", "a2", "b2"]),
    "a merged input beside another": ("(a + b)[2] as both, c", [], "b c a c a b", ["b1 a1|c1", "a2 b2|c2"]),
    "a passive input never triggers": ("a, p passive", [], "a p p a p", ["a1|p1", "a2|p2"]),
    "a passive input holds back all that waits for it": (
        "a, p passive",
        [],
        "a a p a",
        ["a1|p1", "a2|p1", "a3|p1"],
    ),
}


def text_of(inputs: str, attributes: list[str]) -> str:
    if inputs.startswith("(") and " as " not in inputs:
        return "[forming]\n" + inputs + " t (out)\n" + "".join(f"    {line}\n" for line in attributes)
    return wiring(inputs, *attributes)


@pytest.mark.parametrize("case", CASES)
def test_policy_and_window_give(bench: Opener, case: str) -> None:
    inputs, attributes, arrivals, expected = CASES[case]
    b = bench(text_of(inputs, attributes))
    assert formed(b, arrivals) == expected
    assert b.wrong() == []


@pytest.mark.parametrize("case", CASES)
def test_how_many_arrivals_are_taken_up_at_once_makes_no_difference(bench: Opener, case: str) -> None:
    inputs, attributes, arrivals, _ = CASES[case]
    one, other = bench(text_of(inputs, attributes)), bench(text_of(inputs, attributes))
    assert formed(one, arrivals) == formed(other, arrivals, together=True)
    assert other.wrong() == []


def test_superseded_values_are_on_record(bench: Opener) -> None:
    b = bench(wiring("a, b", "policy = swap"))
    formed(b, "a a a b")
    assert b.passed("t") == [("a", 0, 0, "superseded"), ("a", 1, 1, "superseded")]
    assert b.waiting("t") == {"a": 1, "b": 1}
    b.work_off()
    assert b.waiting("t") == {"a": 0, "b": 0}


def test_an_elastic_window_closes_early_only_while_the_task_is_free(bench: Opener) -> None:
    b = bench(wiring("a[2-4]"))
    b.send("a", "1", "2", "3")
    b.form()
    assert b.texts("t") == ["123"]
    b.send("a", "4", "5", "6")
    b.form()
    assert b.texts("t") == ["123"]  # one is ready: not free
    (claim,) = b.claim("t")
    b.form()
    assert b.texts("t") == ["123"]  # one is running: not free
    b.send("a", "7")
    b.form()
    assert b.texts("t") == ["123", "4567"]
    b.complete(claim)
    assert b.wrong() == []


def test_an_elastic_window_below_its_least_waits(bench: Opener) -> None:
    b = bench(wiring("a[2-4]"))
    b.send("a", "1")
    assert b.form() == 0
    b.send("a", "2")
    assert b.form() == 1


def test_within_closes_an_elastic_window_though_the_task_is_busy(bench: Opener) -> None:
    b = bench(wiring("a[2-4]", "within = 10s"))
    b.send("a", "1", "2")
    b.form()
    b.send("a", "3", "4")
    assert b.form() == 0
    b.tick(9)
    assert b.form() == 0
    b.tick(2)
    assert b.form() == 1
    assert b.texts("t") == ["12", "34"]
    assert b.wrong() == []


def test_rate_spreads_snapshots_and_loses_none(bench: Opener) -> None:
    b = bench(wiring("a", "rate = 2/s"))
    b.send("a", *"123")
    assert b.form() == 1
    assert b.form() == 0
    assert b.form_step("t").due == b.snapshot("t").formed + SECOND // 2
    b.tick(0.5)
    assert b.form() == 1
    b.tick(0.5)
    assert b.form() == 1
    assert b.texts("t") == ["1", "2", "3"]
    assert b.wrong() == []


def test_rate_under_swap_coalesces_and_the_last_is_never_lost(bench: Opener) -> None:
    b = bench(wiring("a", "rate = 1/s", "policy = swap"))
    for n in "1234":
        b.send("a", n)
        b.form()
    b.tick(1)
    b.form()
    assert b.texts("t") == ["1", "4"]
    assert [reason for *_, reason in b.passed("t")] == ["superseded"] * 2
    assert b.wrong() == []


def test_align_pairs_by_the_source_through_a_diamond_that_filters(bench: Opener) -> None:
    b = bench(
        "[diamond]\n(in) left (l)\n(in) right (r)\n(l, r) join (out)\n    policy = align\n    within = 10s\n"
    )
    b.send("in", *"123")
    b.form()
    for claim in b.claim("left"):
        b.complete(claim, {"l": []} if claim.number == 1 else {"l": [f"l{claim.number}"]})
    for name in ("left", "left"):
        for claim in b.claim(name):
            b.complete(claim, {"l": []} if claim.number == 1 else {"l": [f"l{claim.number}"]})
    while claims := b.claim("right"):
        for claim in claims:
            b.complete(claim, {"r": [f"r{claim.number}"]})
    b.form()
    assert b.texts("join") == ["l0|r0", "l2|r2"]
    b.tick(11)
    b.form()
    assert [(i, f, r) for i, f, _, r in b.passed("join")] == [("r", 1, "alone")]
    b.work_off()
    assert b.waiting("join") == {"l": 0, "r": 0}
    assert b.wrong() == []


def test_align_by_an_attribute(bench: Opener) -> None:
    b = bench(wiring("a, b", "policy = align", "align = plant", "within = 5s"))
    for wire, plant in (("a", "north"), ("a", "south"), ("b", "south"), ("b", "north")):
        b.send(wire, f"{wire}-{plant}", attributes={"plant": plant})
    b.form()
    assert b.texts("t") == ["a-south|b-south", "a-north|b-north"]
    assert b.wrong() == []


def test_ordered_restores_the_senders_order(bench: Opener) -> None:
    b = bench(wiring("a ordered"))
    for sequence in ("1", "3", "2", "4"):
        b.send("a", sequence, event_source="/s", event_id=sequence, sequence=sequence)
        b.form()
    assert b.texts("t") == ["1", "2", "3", "4"]
    assert b.wrong() == []


def test_ordered_skips_a_gap_on_record_after_within(bench: Opener) -> None:
    b = bench(wiring("a ordered", "within = 5s"))
    for sequence in ("1", "3", "4"):
        b.send("a", sequence, event_source="/s", event_id=sequence, sequence=sequence)
    b.form()
    assert b.texts("t") == ["1"]
    b.tick(6)
    b.form()
    assert b.texts("t") == ["1", "3", "4"]
    assert [reason for *_, reason in b.passed("t")] == ["gap"]
    assert b.wrong() == []


def test_every_fires_a_task_without_inputs_and_missed_instants_once(bench: Opener) -> None:
    b = bench("[clock]\n() tick (out)\n    every = 10s\n")
    assert b.form() == 1
    assert b.form() == 0
    b.tick(9)
    assert b.form() == 0
    b.tick(1.1)
    assert b.form() == 1
    b.tick(55)  # five instants are missed
    assert b.form() == 1
    assert b.form() == 0
    causes = [json.loads(row[0])["time"] for row in b.ask("SELECT cause FROM snapshot ORDER BY number")]
    assert {(cause - causes[0]) % (10 * SECOND) for cause in causes} == {0}
    b.reopen()
    assert b.form() == 0  # a restart is no instant
    b.work_off()
    assert b.wrong() == []


def test_more_arrivals_than_a_transaction_takes_are_formed_in_several(bench: Opener) -> None:
    b = bench(wiring("a + b as both, c"))
    for wire, count in (("a", 1500), ("c", 2600), ("b", 1100)):
        b.send_many(wire, count)
    step = b.form_step("t")
    assert step.more
    assert 0 < b.form() + step.formed == 2600
    assert b.states("t") == {"ready": 2600}
    assert b.wrong(payloads=False) == []
    assert b.waiting("t") == {"both": 2600, "c": 2600}


def test_arrivals_are_merged_in_the_order_in_which_they_came_across_batches(bench: Opener) -> None:
    b = bench(wiring("(a + b)[10] as both"))
    chance = 12345
    expected = ""
    for _ in range(60):
        chance = (chance * 1103515245 + 12345) % (1 << 31)
        wire = "ab"[chance >> 16 & 1]
        b.send(wire, wire)
        expected += wire
    b.form()
    assert "".join(b.texts("t")) == expected


def test_a_remembered_state_that_is_not_the_last_one_is_not_used(bench: Opener) -> None:
    b = bench(wiring("a[2]"))
    b.send("a", "1")
    b.form()
    old = dict(b.remembered)
    b.send("a", "2", "3")
    b.form()
    b.remembered = old
    b.send("a", "4")
    b.form()
    assert b.texts("t") == ["12", "34"]
    assert b.wrong() == []


def test_a_runtime_of_an_older_generation_forms_and_claims_nothing(bench: Opener) -> None:
    b = bench(wiring("a"))
    b.send("a", "1", "2")
    b.form()
    old = b.task("t")
    b.wire(wiring("a[2]"))
    with pytest.raises(forming.Stale):
        b.transact(lambda tx: forming.form(tx, b.clock, old))
    from koalja_fn.engine import claiming

    assert b.transact(lambda tx: claiming.claim(tx, b.clock(), b.plan, old, "old", 9, 30.0)) == []
    assert len(b.claim("t")) == 1


# The log, and the state that spares reading it


def big_state(b: Workbench, count: int) -> None:
    """An ordered input that waits for its first missing number holds back all that came."""
    b.send("a", "0", event_source="/s", event_id="first", sequence="1")
    for n in range(count):
        b.send("a", str(n), event_source="/s", event_id=str(n), sequence=str(n + 3))
        b.form()


def test_a_long_state_is_not_written_each_time_and_the_logs_tail_gives_it_again(bench: Opener) -> None:
    b = bench(wiring("a ordered, b"))
    big_state(b, 90)
    ((state_at, head, size),) = b.ask("SELECT state_at, log_head, length(state) FROM task")
    assert size > 2048
    assert state_at < head
    b.reopen()
    b.send("a", "last", event_source="/s", event_id="last", sequence="2")
    b.send("b", *(str(n) for n in range(92)))
    b.form()
    assert [text.split("|")[0] for text in b.texts("t")] == ["0", "last", *(str(n) for n in range(90))]
    assert b.wrong() == []


def test_a_rewiring_with_a_tail_of_the_log_unwritten_loses_nothing(bench: Opener) -> None:
    b = bench(wiring("a ordered, b"))
    big_state(b, 90)
    b.remembered.clear()
    b.wire(wiring("a, b"))
    b.send("b", *(str(n) for n in range(91)))
    b.work_off()
    assert sorted(text.split("|")[0] for text in b.texts("t")) == sorted(["0", *(str(n) for n in range(90))])
    assert b.wrong() == []


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "form", "tick", "reopen", "claim"]), max_size=60))
def test_the_log_replayed_gives_the_same_snapshots_however_it_was_cut(story: list[str]) -> None:
    with workbench(wiring("a[1-3], b[2/1]", "policy = swap", "within = 4s")) as b:
        for number, what in enumerate(story):
            if what in ("a", "b"):
                b.send(what, f"{number} ")
            elif what == "form":
                b.form()
            elif what == "tick":
                b.tick(3)
            elif what == "reopen":
                b.reopen()
            else:
                for claim in b.claim("t"):
                    b.complete(claim)
        assert b.wrong() == []


def test_the_log_says_when_it_was_free_and_what_time_it_was(bench: Opener) -> None:
    b = bench(wiring("a[1-3]", "within = 4s"))
    b.send("a", "1")
    b.form()
    kinds = [row[0] for row in b.ask("SELECT kind FROM log ORDER BY seq")]
    assert kinds == ["wired", "time", "run", "free"]
    last = b.registry.read(lambda tx: [r.state for r in replay(tx, b.task("t").id)][-1])
    assert last.now >= BEGIN


def test_neighbours_on_one_wire_are_one_record(bench: Opener) -> None:
    b = bench(wiring("a[100]"))
    b.send("a", *("x" * 50))
    b.form()
    rows = b.ask("SELECT kind, first, last FROM log ORDER BY seq")
    assert rows == [("wired", None, None), ("run", 0, 49)]
    assert b.registry.read(lambda tx: tasks.log_after(tx, b.task("t").id, 1))[0].wire == "a"


def test_two_circuits_in_one_registry_may_have_tasks_and_wires_of_the_same_names(bench: Opener) -> None:
    b = bench("[one]\n(a) t (out)\n")
    b.send("a", "first")
    b.form()
    b.remembered.clear()
    b.wire("[two]\n(a[2]) t (out)\n")
    b.send("a", "x", "y")
    b.form()
    b.intake.accept([Offer("a", b"z", event_source="/s", event_id="1")])
    assert b.wrong() == []
    rows = b.ask(
        "SELECT c.name, t.retired, t.formed FROM task t JOIN circuit c ON c.id = t.circuit ORDER BY c.name"
    )
    assert rows == [("one", 0, 1), ("two", 0, 1)]
    b.remembered.clear()
    b.wire("[one]\n(a) t (out)\n")
    b.work_off()
    assert b.waiting("t") == {"a": 0}
    again = b.intake.accept([Offer("a", b"z", event_source="/s", event_id="1")])
    assert not again[0].duplicate  # another circuit's wire of that name has its own ids
