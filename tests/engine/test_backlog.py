"""Backlog: full means full, for senders and for producers; nothing is dropped and nothing stands still."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from workbench import Workbench

from koalja_fn.engine.arriving import Offer
from koalja_fn.errors import Full

Opener = Callable[[str], Workbench]


def one(inputs: str = "in", backlog: int = 3, *attributes: str) -> str:
    lines = "".join(f"    {line}\n" for line in (f"backlog = {backlog}", *attributes))
    return f"[backlog]\n({inputs}) t (out)\n{lines}"


def test_past_the_backlog_a_sender_is_refused_and_may_send_the_same_again(bench: Opener) -> None:
    b = bench(one())
    b.send("in", *"123")
    with pytest.raises(Full, match="3 values waiting") as full:
        b.send("in", "4")
    assert (full.value.http_status, full.value.exit_status) == (429, 5)
    assert full.value.retry_after > 0
    b.form()
    with pytest.raises(Full):
        b.send("in", "4")  # a snapshot that has formed is not finished
    (claim,) = b.claim("t")
    with pytest.raises(Full):
        b.send("in", "4")
    b.complete(claim)
    b.send("in", "4")
    b.work_off()
    assert b.said("out") == ["1", "2", "3", "4"]
    assert b.waiting("t") == {"in": 0}
    assert b.wrong() == []


def test_a_batch_is_refused_whole(bench: Opener) -> None:
    b = bench("[backlog]\n(a) t (x)\n    backlog = 1\n(b) u (y)\n")
    b.send("a", "1")
    with pytest.raises(Full):
        b.intake.accept([Offer("b", b"1"), Offer("a", b"2")])
    assert b.said("b") == []


def test_dead_letters_and_skipped_ones_make_room(bench: Opener) -> None:
    b = bench(one("in", 2, "retries = 0"))
    b.send("in", "1", "2")
    b.form()
    claim = b.claim("t")[0]
    b.fail(claim)
    b.send("in", "3")
    with pytest.raises(Full):
        b.send("in", "4")
    b.skip(claim.rid)
    assert b.waiting("t") == {"in": 2}
    b.work_off()
    assert b.waiting("t") == {"in": 0}


def test_a_window_counts_each_value_once(bench: Opener) -> None:
    b = bench(one("in[3/1]", 4))
    b.send("in", *"1234")
    b.work_off()
    assert b.waiting("t") == {"in": 0}
    b.send("in", *"5678")
    with pytest.raises(Full):
        b.send("in", "9")
    b.work_off()
    assert b.texts("t") == ["123", "234", "345", "456", "567", "678"]
    assert b.waiting("t") == {"in": 0}


def test_the_full_input_alone_refuses(bench: Opener) -> None:
    """Else a join would stand still: the other input has to come in."""
    b = bench(one("a, b", 2))
    b.send("a", "1", "2")
    with pytest.raises(Full):
        b.send("a", "3")
    b.send("b", "x", "y")
    b.work_off()
    assert b.texts("t") == ["1|x", "2|y"]
    assert b.waiting("t") == {"a": 0, "b": 0}


def test_what_a_policy_passes_over_makes_room(bench: Opener) -> None:
    b = bench(one("a, b", 2, "policy = swap"))
    for n in range(10):
        b.send("a", str(n))
        b.form()
    assert b.waiting("t") == {"a": 1, "b": 0}
    b.send("b", "x")
    b.work_off()
    assert b.texts("t") == ["9|x"]


def test_values_of_a_passive_input_never_fill_the_backlog(bench: Opener) -> None:
    b = bench(one("a, p passive", 3))
    for n in range(20):
        b.send("p", str(n))
    b.form()
    b.send("a", "x")
    b.work_off()
    assert b.texts("t") == ["x|19"]


def test_a_producer_pauses_while_its_reader_is_full(bench: Opener) -> None:
    b = bench("[backlog]\n(in) fast (mid)\n    concurrency = 9\n(mid) slow (out)\n    backlog = 2\n")
    b.send("in", *"12345")
    b.form()
    claims = b.claim("fast", most=2)
    for claim in claims:
        b.complete(claim)
    assert b.claim("fast") == []
    b.form()
    (busy,) = b.claim("slow")
    assert b.claim("fast") == []
    b.complete(busy)
    assert len(b.claim("fast", most=1)) == 1
    assert b.states("fast") == {"done": 2, "running": 1, "ready": 2}


def test_pausing_goes_on_to_the_sender_and_in_the_end_nothing_is_missing(bench: Opener) -> None:
    b = bench("[backlog]\n    backlog = 2\n(in) one (a)\n(a) two (b)\n(b) three (out)\n")
    sent = 0
    for _ in range(300):
        try:
            b.send("in", f"{sent} ")
            sent += 1
        except Full:
            b.form()
            for name in ("one", "two", "three"):
                for claim in b.claim(name):
                    b.complete(claim)
    assert 50 < sent < 300
    b.work_off()
    assert b.said("out") == [f"{n} " for n in range(sent)]
    assert b.wrong() == []


def test_on_a_cycle_the_backlog_only_warns_and_the_loop_goes_on(bench: Opener) -> None:
    b = bench("[loop]\n    backlog = 1\n    max-hops = 6\n(x) there (y)\n(y) back (x)\n")
    assert b.plan.cyclic == {"x", "y"}
    b.send("x", "1", "2", "3")
    b.send("x", "4")
    for _ in range(20):
        b.form()
        for name in ("there", "back"):
            for claim in b.claim(name):
                if lineage(b, claim.rid) < 6:
                    b.complete(claim)
                else:
                    b.complete(claim, {})
    assert b.states("there").get("ready", 0) == b.states("back").get("ready", 0) == 0
    assert len(b.on("y")) == 4 * 3
    assert b.wrong() == []


def lineage(b: Workbench, rid: int) -> int:
    from koalja_fn.engine.lineage import lineage_of
    from koalja_fn.registry import snapshots

    return lineage_of(b.registry.read(lambda tx: snapshots.members(tx, rid))).hops


def test_a_wire_beside_a_cycle_counts(bench: Opener) -> None:
    b = bench("[loop]\n(x, seed) there (y, out)\n(y) back (x)\n(out) end ()\n    backlog = 1\n")
    assert b.plan.cyclic == {"x", "y"}
    b.send("x", "1")
    b.send("seed", "s", "t")
    b.form()
    b.complete(b.claim("there")[0])
    b.form()
    b.complete(b.claim("back")[0])
    b.form()
    assert b.claim("there") == []  # `end` has one waiting
    b.complete(b.claim("end")[0])
    assert len(b.claim("there")) == 1


def test_counts_survive_a_restart_and_a_rewiring(bench: Opener) -> None:
    b = bench(one("in", 3))
    b.send("in", *"123")
    b.form()
    b.reopen()
    with pytest.raises(Full):
        b.send("in", "4")
    b.wire(one("in[2]", 3))
    with pytest.raises(Full):
        b.send("in", "4")
    b.wire(one("in", 4))
    b.send("in", "4")
    b.work_off()
    assert b.waiting("t") == {"in": 0}
    assert b.wrong() == []
