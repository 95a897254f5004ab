"""Claims: who executes what, until when, and whose result counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from workbench import SECOND, Workbench, fence

from koalja_fn.engine.claiming import Fenced
from koalja_fn.registry import snapshots

Opener = Callable[[str], Workbench]


def one(*attributes: str) -> str:
    return "[claiming]\n(in) t (out)\n" + "".join(f"    {line}\n" for line in attributes)


def ready(b: Workbench, count: int) -> None:
    b.send("in", *(f"{n} " for n in range(count)))
    b.form()


def attempts(b: Workbench) -> list[tuple[int, str]]:
    return b.ask("SELECT attempt, outcome FROM execution ORDER BY id")


def everything(b: Workbench) -> list[list[tuple]]:
    """All that a refused commit could have touched."""
    return [
        b.ask(f"SELECT * FROM {table}")
        for table in ("value", "wire", "snapshot", "execution", "remark", "link")
    ]


def test_concurrency_is_never_exceeded_whoever_claims(bench: Opener) -> None:
    b = bench(one("concurrency = 2"))
    ready(b, 5)
    first = b.claim("t", "one", 1)
    second = b.claim("t", "two", 9)
    assert [c.number for c in first + second] == [0, 1]
    assert b.claim("t", "three") == []
    b.complete(first[0])
    assert [c.number for c in b.claim("t", "three")] == [2]
    assert b.states("t") == {"running": 2, "done": 1, "ready": 2}


def test_the_default_is_one_at_a_time_in_order(bench: Opener) -> None:
    b = bench(one())
    ready(b, 3)
    for number in range(3):
        (claim,) = b.claim("t")
        assert claim.number == number
        b.complete(claim)
    assert b.said("out") == ["0 ", "1 ", "2 "]
    assert b.claim("t") == []


def test_a_claimer_gets_no_more_than_it_asks_for(bench: Opener) -> None:
    b = bench(one("concurrency = 8"))
    ready(b, 5)
    assert len(b.claim("t", most=3)) == 3


def test_what_waits_for_its_retry_is_overtaken(bench: Opener) -> None:
    b = bench(one("backoff = 10s"))
    ready(b, 2)
    (first,) = b.claim("t")
    b.fail(first)
    (second,) = b.claim("t")
    assert second.number == 1
    b.complete(second)
    b.tick(10)
    (again,) = b.claim("t")
    b.complete(again)
    assert b.said("out") == ["1 ", "0 "]


def test_the_attempt_is_counted_at_the_claim(bench: Opener) -> None:
    b = bench(one())
    ready(b, 1)
    b.claim("t")
    row = b.snapshot("t")
    assert (row.state, row.attempts, row.fence, row.owner) == ("running", 1, 1, "me")


def test_retries_come_with_a_doubling_pause_and_then_the_letter_is_dead(bench: Opener) -> None:
    b = bench(one("retries = 3", "backoff = 2s"))
    ready(b, 1)
    pauses = []
    while claims := b.claim("t"):
        due = b.fail(claims[0])
        if due is None:
            break
        pauses.append((due - b.now) / SECOND)
        assert b.claim("t") == []
        b.tick(pauses[-1] - 0.01)
        assert b.claim("t") == []
        b.tick(0.02)
    assert pauses == pytest.approx([2, 4, 8], abs=0.001)
    assert b.states("t") == {"dead": 1}
    assert attempts(b) == [(n, "failed") for n in (1, 2, 3, 4)]
    b.tick(10_000)
    assert b.claim("t") == []
    assert b.wrong() == []


def test_a_pause_never_exceeds_an_hour(bench: Opener) -> None:
    b = bench(one("retries = 60", "backoff = 30m"))
    ready(b, 1)
    for _ in range(40):
        (claim,) = b.claim("t")
        due = b.fail(claim)
        assert due is not None
        assert due - b.now <= 3600 * SECOND
        b.tick(3600)


def test_no_retries_means_one_attempt(bench: Opener) -> None:
    b = bench(one("retries = 0"))
    ready(b, 1)
    assert b.fail(b.claim("t")[0]) is None
    assert b.states("t") == {"dead": 1}


def test_a_permanent_failure_is_not_tried_again(bench: Opener) -> None:
    b = bench(one("retries = 9"))
    ready(b, 1)
    assert b.fail(b.claim("t")[0], permanent=True) is None
    assert b.states("t") == {"dead": 1}
    assert attempts(b) == [(1, "failed")]


def test_a_dead_letter_does_not_hold_up_what_comes_after_it(bench: Opener) -> None:
    b = bench(one("retries = 0"))
    ready(b, 2)
    b.fail(b.claim("t")[0])
    b.work_off()
    assert b.states("t") == {"dead": 1, "done": 1}


def test_order_strict_stops_at_a_dead_letter_until_it_is_retried(bench: Opener) -> None:
    b = bench(one("order = strict", "retries = 0"))
    ready(b, 3)
    (claim,) = b.claim("t")
    assert b.claim("t") == []
    b.fail(claim)
    assert b.claim("t") == []
    assert b.retry(claim.rid) == [claim.rid]
    b.work_off()
    assert b.said("out") == ["0 ", "1 ", "2 "]


def test_order_strict_goes_on_when_the_dead_letter_is_skipped(bench: Opener) -> None:
    b = bench(one("order = strict", "retries = 0"))
    ready(b, 2)
    (claim,) = b.claim("t")
    b.fail(claim)
    assert b.skip(claim.rid) == [claim.rid]
    b.work_off()
    assert b.said("out") == ["1 "]
    assert b.states("t") == {"skipped": 1, "done": 1}
    assert b.wrong() == []


def test_order_strict_keeps_the_order_while_one_waits_for_its_retry(bench: Opener) -> None:
    b = bench(one("order = strict", "backoff = 5s"))
    ready(b, 2)
    b.fail(b.claim("t")[0])
    assert b.claim("t") == []
    b.tick(5)
    b.work_off()
    assert b.said("out") == ["0 ", "1 "]


def test_a_retried_letter_has_all_its_attempts_again(bench: Opener) -> None:
    b = bench(one("retries = 1", "backoff = 1s"))
    ready(b, 1)
    for _ in range(2):
        (claim,) = b.claim("t")
        b.fail(claim)
        b.tick(2)
    assert b.waiting("t") == {"in": 0}
    b.retry(claim.rid)
    assert b.waiting("t") == {"in": 1}
    assert b.fail(b.claim("t")[0]) is not None
    b.tick(2)
    b.work_off()
    assert b.states("t") == {"done": 1}
    assert b.waiting("t") == {"in": 0}
    assert b.wrong() == []


# Leases and fences


def test_an_expired_lease_is_taken_up_by_somebody_else(bench: Opener) -> None:
    b = bench(one("backoff = 1s"))
    ready(b, 1)
    (old,) = b.claim("t", "one", lease=30)
    b.tick(29)
    assert b.lose_expired() == []
    b.tick(2)
    assert b.lose_expired() == [old.id]
    b.tick(1)
    (new,) = b.claim("t", "two")
    assert (new.id, new.attempt, new.fence) == (old.id, 2, old.fence + 1)
    assert attempts(b) == [(1, "lost")]


def test_a_lost_attempt_is_that_of_the_code_it_was_claimed_with(bench: Opener) -> None:
    """The passport must not blame newer code, which never ran."""
    b = bench(one("backoff = 1s"))
    ready(b, 1)
    (old,) = b.claim("t", lease=10)
    newer = replace(old.plan, code=replace(old.plan.code, version="sha256:newer"))
    b.plan = replace(b.plan, tasks={"t": newer})
    b.tick(11)
    b.lose_expired()
    b.tick(2)
    b.complete(*b.claim("t"))
    versions = b.ask("SELECT outcome, version FROM execution ORDER BY id")
    assert versions == [("lost", old.plan.code.version), ("done", "sha256:newer")]
    assert b.ask("SELECT version FROM snapshot") == [(None,)]


def test_a_lease_that_is_renewed_does_not_expire(bench: Opener) -> None:
    b = bench(one())
    ready(b, 1)
    (claim,) = b.claim("t", lease=30)
    b.tick(20)
    until = b.now + 30 * SECOND
    assert b.transact(lambda tx: snapshots.renew(tx, claim.rid, claim.fence, until))
    b.tick(20)
    assert b.lose_expired() == []
    assert not b.transact(lambda tx: snapshots.renew(tx, claim.rid, claim.fence - 1, until))


@pytest.mark.parametrize("late", ["complete", "fail"])
@pytest.mark.parametrize("meanwhile", ["ready", "running", "done", "dead"])
def test_whoever_lost_a_claim_writes_nothing(bench: Opener, late: str, meanwhile: str) -> None:
    b = bench(one("backoff = 1s", "retries = 5"))
    ready(b, 1)
    (old,) = b.claim("t", "one", lease=10)
    b.tick(11)
    b.lose_expired()
    b.tick(2)
    if meanwhile != "ready":
        (new,) = b.claim("t", "two")
    if meanwhile == "done":
        b.complete(new)
    elif meanwhile == "dead":
        b.fail(new, permanent=True)
    before = everything(b)
    with pytest.raises(Fenced):
        b.fail(old) if late == "fail" else b.complete(old, {"out": ["late"]})
    assert everything(b) == before
    assert b.wrong() == []


def test_giving_back_what_somebody_else_has_does_nothing(bench: Opener) -> None:
    b = bench(one("backoff = 1s"))
    ready(b, 1)
    (old,) = b.claim("t", "one", lease=10)
    b.tick(11)
    b.lose_expired()
    b.tick(2)
    b.claim("t", "two")
    before = everything(b)
    b.release(old)
    assert everything(b) == before


def test_a_fence_that_was_never_given_lets_nothing_in(bench: Opener) -> None:
    b = bench(one())
    ready(b, 1)
    (claim,) = b.claim("t")
    for by in (-1, 1):
        with pytest.raises(Fenced):
            b.complete(fence(claim, by))
    b.complete(claim)
    with pytest.raises(Fenced):
        b.complete(claim)
    assert b.said("out") == ["0 "]


def test_what_kills_its_runner_runs_out_of_retries_too(bench: Opener) -> None:
    b = bench(one("retries = 2", "backoff = 1s"))
    ready(b, 1)
    for _ in range(3):
        assert len(b.claim("t", lease=5)) == 1
        b.tick(6)
        b.lose_expired()
        b.tick(10)
    assert b.claim("t") == []
    assert b.states("t") == {"dead": 1}
    assert attempts(b) == [(1, "lost"), (2, "lost"), (3, "lost")]


def test_a_claim_that_is_given_back_keeps_its_place_and_its_attempts(bench: Opener) -> None:
    b = bench(one("retries = 0"))
    ready(b, 2)
    (claim,) = b.claim("t")
    b.release(claim)
    (again,) = b.claim("t")
    assert (again.number, again.attempt) == (0, 1)
    assert again.fence == claim.fence + 1
    b.complete(again)
    b.work_off()
    assert b.said("out") == ["0 ", "1 "]


# What is committed


def test_outputs_are_numbered_and_placed_by_name_within_an_execution(bench: Opener) -> None:
    b = bench("[claiming]\n(in) t (x, y)\n")
    ready(b, 2)
    for _ in range(2):
        (claim,) = b.claim("t")
        b.complete(claim, {"y": [f"y{claim.number}"], "x": [f"x{claim.number}a", f"x{claim.number}b"]})
    assert b.said("x") == ["x0a", "x0b", "x1a", "x1b"]
    assert [value.index for value in b.on("x")] == [0, 1, 0, 1]
    assert b.said("y") == ["y0", "y1"]
    assert len({value.id for wire in "xy" for value in b.on(wire)}) == 6
    assert b.wrong() == []


def test_a_second_run_of_the_same_snapshot_would_have_the_same_ids(bench: Opener) -> None:
    one_, two = bench(one("backoff = 1s")), bench(one("backoff = 1s"))
    for b, failures in ((one_, 0), (two, 2)):
        b.send("in", "x", event_source="/s", event_id="1")
        b.form()
        for _ in range(failures):
            b.fail(b.claim("t")[0])
            b.tick(5)
        b.complete(b.claim("t")[0])
    assert one_.on("out")[0].id == two.on("out")[0].id


def test_an_execution_without_outputs_is_done(bench: Opener) -> None:
    b = bench(one())
    ready(b, 1)
    assert b.complete(b.claim("t")[0], {"out": []}) == set()
    assert b.states("t") == {"done": 1}
    assert b.wrong() == []


# Lineage


def test_outputs_inherit_hops_key_and_the_attributes_that_all_inputs_share(bench: Opener) -> None:
    b = bench("[lineage]\n(a, b) t (out)\n(out) u (end)\n")
    b.send("a", "1", attributes={"plant": "north", "line": "7"})
    b.send("b", "2", attributes={"plant": "north", "line": "8"})
    b.work_off()
    (out,) = b.on("out")
    (end,) = b.on("end")
    assert (out.hops, end.hops) == (1, 2)
    assert out.attributes == end.attributes == {"plant": "north"}
    assert out.key == out.id  # its sources do not agree on one
    assert end.key == out.id
    assert out.version.startswith("sha256:t")


def test_a_key_is_handed_on_while_all_new_inputs_agree(bench: Opener) -> None:
    b = bench("[lineage]\n(in) l (x)\n(in) r (y)\n(x, y) join (out)\n")
    (receipt,) = b.send("in", "1")
    b.work_off()
    assert {value.key for wire in ("x", "y", "out") for value in b.on(wire)} == {receipt.id}
    assert b.on("out")[0].hops == 2


def test_a_passive_value_decides_neither_key_nor_hops(bench: Opener) -> None:
    b = bench(
        "[lineage]\n(in) first (x)\n(other) far (far1)\n(far1) farther (far2)\n(x, far2 passive) t (out)\n"
    )
    b.send("other", "1")
    b.work_off()
    (receipt,) = b.send("in", "2")
    b.work_off()
    (out,) = b.on("out")
    assert (out.key, out.hops) == (receipt.id, 2)


def test_a_service_is_not_started_and_its_snapshots_wait(bench: Opener) -> None:
    b = bench("[claiming]\n(model) server (lookup implicit)\n    run = cat {model}\n")
    b.send("model", "one")
    b.form()
    assert b.claim("server") == []
    assert b.states("server") == {"ready": 1}
