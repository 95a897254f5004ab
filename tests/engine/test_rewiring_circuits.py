"""Rewiring a circuit that has values under way: nothing is dropped, nothing is used twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from workbench import Workbench

from koalja_fn.errors import NotFound

Opener = Callable[[str], Workbench]


def one(inputs: str, *attributes: str) -> str:
    return f"[rewired]\n({inputs}) t (out)\n" + "".join(f"    {line}\n" for line in attributes)


def test_a_first_wiring_is_no_change_and_the_same_wiring_is_none(bench: Opener) -> None:
    b = bench(one("a"))
    assert b.changes == []
    assert b.wire(one("a")) == []
    assert b.wire(one("a", "retries = 9", "concurrency = 2", "backlog = 7")) == []
    assert b.task("t").generation == 1


def test_a_changed_window_begins_at_the_first_value_that_has_not_left_one(bench: Opener) -> None:
    b = bench(one("a[3]"))
    b.send("a", *"12345")
    b.form()
    assert b.wire(one("a[2]")) == [("t", "rewired")]
    b.send("a", "6")
    b.work_off()
    assert b.texts("t") == ["123", "45"]
    b.send("a", "7")
    b.work_off()
    assert b.texts("t") == ["123", "45", "67"]
    assert b.wrong() == []


def test_a_sliding_window_that_is_changed_keeps_what_it_still_holds(bench: Opener) -> None:
    b = bench(one("a[3/1]"))
    b.send("a", *"1234")
    b.form()
    b.wire(one("a[2]"))
    b.work_off()
    assert b.texts("t") == ["123", "234", "34"]
    assert b.wrong() == []


def test_snapshots_that_have_formed_stay_and_are_executed(bench: Opener) -> None:
    b = bench(one("a"))
    b.send("a", "1", "2")
    b.form()
    (claim,) = b.claim("t")
    b.wire(one("a[2]"))
    b.complete(claim)
    b.work_off()
    assert b.said("out") == ["1", "2"]
    assert [row[0] for row in b.ask("SELECT generation FROM snapshot ORDER BY number")] == [1, 1]


def test_an_input_that_is_added_starts_now(bench: Opener) -> None:
    b = bench(one("a") + "(b) other (x)\n")
    b.send("a", "1")
    b.send("b", "old")
    b.work_off()
    b.wire(one("a, b") + "(b) other (x)\n")
    b.send("a", "2")
    b.send("b", "new")
    b.work_off()
    assert b.texts("t") == ["1", "2|new"]
    assert b.waiting("t") == {"a": 0, "b": 0}
    assert b.wrong() == []


def test_an_input_that_is_added_with_start_beginning_has_all(bench: Opener) -> None:
    b = bench(one("a") + "(b) other (x)\n")
    b.send("b", "old", "older")
    b.work_off()
    b.wire(one("a, b", "start = beginning") + "(b) other (x)\n")
    b.send("a", "1", "2")
    b.work_off()
    assert b.texts("t") == ["1|old", "2|older"]
    assert b.wrong() == []


@pytest.mark.parametrize(("start", "expected"), [("now", ["3"]), ("beginning", ["1", "2", "3"])])
def test_a_task_that_is_added_starts(bench: Opener, start: str, expected: list[str]) -> None:
    b = bench(one("a"))
    b.send("a", "1", "2")
    b.work_off()
    assert b.wire(one("a") + f"(a) late (x)\n    start = {start}\n") == [("late", "new")]
    b.send("a", "3")
    b.work_off()
    assert b.texts("late") == expected
    assert b.wrong() == []


def test_in_the_first_deploy_links_start_at_the_beginning(bench: Opener) -> None:
    b = bench(one("a", "start = now"))
    b.send("a", "1")
    b.work_off()
    assert b.texts("t") == ["1"]


def test_an_input_that_is_removed_and_comes_back_goes_on_where_it_was(bench: Opener) -> None:
    b = bench(one("a, b"))
    b.send("a", "1")
    b.send("b", "x", "y")
    b.work_off()
    b.wire(one("a") + "(b) other (x)\n")
    b.send("a", "2")
    b.send("b", "z")
    b.work_off()
    b.wire(one("a, b"))
    b.send("a", "3", "4")
    b.work_off()
    assert b.texts("t") == ["1|x", "2", "3|y", "4|z"]
    assert b.wrong() == []


def test_a_changed_policy_uses_what_waits(bench: Opener) -> None:
    b = bench(one("a, b"))
    b.send("a", "1", "2", "3")
    b.form()
    b.wire(one("a, b", "policy = swap"))
    b.send("b", "x")
    b.work_off()
    assert b.texts("t") == ["3|x"] or b.texts("t") == ["1|x", "2|x", "3|x"]
    assert b.waiting("t") == {"a": 0, "b": 0} or b.texts("t") == ["3|x"]
    b.wire(one("a, b"))
    b.send("a", "4")
    b.send("b", "y")
    b.work_off()
    assert b.texts("t")[-1] == "4|y"
    assert b.wrong() == []


def test_a_merged_input_that_changes_loses_none_of_its_values(bench: Opener) -> None:
    b = bench(one("(a + b)[3] as m"))
    b.send("a", "1")
    b.send("b", "2")
    b.send("a", "3", "4")
    b.send("b", "5")
    b.form()
    assert b.texts("t") == ["123"]
    b.wire(one("(a + b + c)[2] as m"))
    b.send("c", "6", "7")
    b.work_off()
    assert b.texts("t") == ["123", "45", "67"]
    b.wire(one("a, b"))
    b.send("a", "8")
    b.send("b", "9")
    b.work_off()
    assert b.texts("t")[-1] == "8|9"
    assert b.wrong() == []


def test_a_task_that_is_removed_and_brought_back_has_all_that_came_meanwhile(bench: Opener) -> None:
    b = bench(one("a[2]") + "(a) other (x)\n")
    b.send("a", "1", "2", "3")
    b.form()
    assert b.wire("[rewired]\n(a) other (x)\n") == [("t", "retired")]
    assert "3 values wait" in b.changes[0].text
    b.send("a", "4", "5", "6")
    b.work_off()
    assert b.wire(one("a[2]") + "(a) other (x)\n") == [("t", "resumed")]
    b.work_off()
    assert b.texts("t") == ["12", "34", "56"]
    assert b.texts("other") == list("123456")
    assert b.wrong() == []


def test_a_removed_task_may_come_back_with_another_wiring(bench: Opener) -> None:
    b = bench(one("a[2]") + "(a) other (x)\n")
    b.send("a", "1", "2", "3")
    b.form()
    b.wire("[rewired]\n(a) other (x)\n")
    assert b.wire(one("a") + "(a) other (x)\n") == [("t", "resumed"), ("t", "rewired")]
    b.work_off()
    assert b.texts("t") == ["12", "3"]
    assert b.wrong() == []


def test_discarding_drops_what_waits_on_record_and_the_task_comes_back_empty(bench: Opener) -> None:
    b = bench(one("a[2], (b + c) as m") + "(a, b, c) other (x)\n")
    b.send("a", *"12345")
    b.send("b", "x")
    b.send("c", "y", "z")
    b.form("t")
    assert b.texts("t") == ["12|x", "34|y"]
    b.wire("[rewired]\n(a, b, c) other (x)\n", discards=["t"])
    change = b.changes[-1]
    assert (change.task, change.what, change.text) == ("t", "discarded", "2 values and 2 snapshots")
    assert set(b.passed("t")) == {("a", 4, 4, "discarded"), ("m", 2, 2, "discarded")}
    b.wire(one("a[2], (b + c) as m") + "(a, b, c) other (x)\n")
    assert b.waiting("t") == {"a": 0, "m": 0}
    b.send("a", "6", "7")
    b.send("c", "w")
    b.work_off()
    assert b.texts("t") == ["12|x", "34|y", "67|w"]
    assert b.states("t") == {"skipped": 2, "done": 1}
    assert b.wrong() == []


def test_discarding_drops_what_a_killed_run_had_claimed(bench: Opener) -> None:
    b = bench(one("a") + "(a) other (x)\n")
    b.send("a", "1")
    b.form()
    assert len(b.claim("t")) == 1
    b.wire("[rewired]\n(a) other (x)\n", discards=["t"])
    b.wire(one("a") + "(a) other (x)\n")
    b.tick(100)
    b.lose_expired()
    b.tick(100)
    b.work_off()
    assert b.states("t") == {"skipped": 1}
    assert b.wrong() == []


def test_only_a_removed_task_can_be_discarded(bench: Opener) -> None:
    b = bench(one("a"))
    for name in ("t", "nobody"):
        with pytest.raises(NotFound, match="no removed task"):
            b.wire(one("a"), discards=[name])


def test_align_that_goes_leaves_what_it_can_not_read_again_on_record(bench: Opener) -> None:
    b = bench(one("a, b", "policy = align", "align = k", "within = 60s"))
    for wire, key in (("a", "1"), ("a", "2"), ("a", "3"), ("b", "2")):
        b.send(wire, f"{wire}{key}", attributes={"k": key})
    b.form()
    assert b.texts("t") == ["a2|b2"]
    b.wire(one("a, b"))
    b.send("b", "x", attributes={"k": "x"})
    b.work_off()
    assert b.texts("t") == ["a2|b2", "a3|x"]
    assert b.passed("t") == [("a", 0, 0, "rewired")]
    assert b.wrong() == []


def test_counting_over_many_rewirings(bench: Opener) -> None:
    """Each value of `a` is in a snapshot once, whatever the windows without overlap were meanwhile."""
    b = bench(one("a"))
    sent = []
    windows = ["a[3]", "a", "a[2-4]", "a[2]", "(a + c) as m", "a[5]", "a ordered", "a"]
    for n in range(48):
        b.send("a", f"{n} ")
        sent.append(f"{n} ")
        if n % 3 == 0:
            b.form()
        if n % 5 == 0:
            b.wire(one(windows[n // 5 % len(windows)]))
            b.remembered.clear()
        if n % 7 == 0:
            b.reopen()
    b.wire(one("a"))
    b.remembered.clear()
    b.work_off()
    assert "".join(b.texts("t")) == "".join(sent)
    assert b.waiting("t") == {"a": 0}
    assert b.wrong() == []


def test_discarding_drops_what_was_held_back_for_its_turn_or_its_partner(bench: Opener) -> None:
    pairs = "(a, b) pairs (y)\n    policy = align\n    align = k\n    within = 60s\n"
    text = f"[held]\n(a ordered) gate (x)\n{pairs}"
    b = bench(text + "(a, b) other (z)\n")
    for sequence, key in (("1", "p"), ("3", "q"), ("4", "r")):
        b.send("a", sequence, event_source="/s", event_id=sequence, sequence=sequence, attributes={"k": key})
    b.send("b", "Q", attributes={"k": "q"})
    b.work_off()
    assert (b.texts("gate"), b.texts("pairs")) == (["1"], ["3|Q"])
    b.wire("[held]\n(a, b) other (z)\n", discards=["gate", "pairs"])
    assert [change.text for change in b.changes[-2:]] == ["2 values and 0 snapshots"] * 2
    b.wire(text + "(a, b) other (z)\n")
    assert b.waiting("gate") == {"a": 0}
    assert b.waiting("pairs") == {"a": 0, "b": 0}
    b.send("a", "5", event_source="/s", event_id="5", sequence="5", attributes={"k": "t"})
    b.send("b", "T", attributes={"k": "t"})
    b.work_off()
    assert (b.texts("gate"), b.texts("pairs")) == (["1", "5"], ["3|Q", "5|T"])
    assert b.waiting("gate") == {"a": 0}
    assert b.waiting("pairs") == {"a": 0, "b": 0}
    assert b.wrong() == []
