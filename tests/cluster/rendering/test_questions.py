"""What KEDA asks: over the registry's real schema in PostgreSQL, with snapshots that the engine made."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest

from koalja_fn.cluster import questions
from koalja_fn.engine.backlog import full_reader
from tests.engine.workbench import SECOND, Workbench, workbench
from tests.postgres.server import server

Opener = Callable[[str], Workbench]
AGO = 60
"""Seconds that the test's clock is behind the server's: what is due by the one has been for a while."""


@pytest.fixture
def bench() -> Iterator[Opener]:
    with ExitStack() as opened:

        def open_(wiring: str) -> Workbench:
            found = opened.enter_context(workbench(wiring, "postgres"))
            found.now = time.time_ns() // 1000 - AGO * SECOND
            return found

        yield open_


def asked(b: Workbench, query: str) -> int:
    """The answer as KEDA gets it: by a connection of its own, one number."""
    schema = re.search(r"schema=(\w+)", b.where)
    assert schema
    with psycopg.connect(server().url, options=f"-csearch_path={schema[1]}") as connection:
        row = connection.execute(query).fetchone()  # type: ignore[call-overload]
    assert row is not None
    return int(row[0])


def jobs(b: Workbench, name: str = "t", most: int = 10) -> int:
    """How many jobs KEDA would have for a task."""
    circuit = b.plan.circuit
    task = circuit.task(name)
    assert task
    return asked(b, questions.ready_or_running(circuit, task, most))


def forgotten(b: Workbench) -> int:
    """How many tasks the sweep would be started for."""
    return asked(b, questions.left_alone(b.plan.circuit, b.plan.circuit.tasks))


def one(*attributes: str, inputs: str = "in") -> str:
    return f"[asked]\n({inputs}) t (out)\n    run = cat {{in}}\n" + "".join(f"    {a}\n" for a in attributes)


def ready(b: Workbench, count: int) -> None:
    b.send("in", *(f"{n} " for n in range(count)))
    b.form()


def hurry(b: Workbench) -> None:
    """The test's clock is the server's from now on."""
    b.now = time.time_ns() // 1000


def test_a_job_is_wanted_for_each_snapshot_that_is_due_and_for_each_that_runs(bench: Opener) -> None:
    b = bench(one("mode = job", "concurrency = 3"))
    assert jobs(b) == 0
    ready(b, 5)
    assert jobs(b) == 5
    claims = b.claim("t", most=2, lease=3600)
    assert jobs(b) == 5
    b.complete(claims[0])
    assert jobs(b) == 4


def test_ready_snapshots_are_counted_no_further_than_there_may_be_pods(bench: Opener) -> None:
    b = bench(one("mode = job", "concurrency = 3"))
    ready(b, 20)
    b.claim("t", most=1, lease=3600)
    assert jobs(b, most=3) == 3 + 1


def test_a_retry_that_is_not_due_wants_no_job(bench: Opener) -> None:
    b = bench(one("mode = job", "backoff = 1h"))
    ready(b, 1)
    b.fail(b.claim("t")[0])
    assert jobs(b) == 0


def test_dead_letters_and_lost_claims_want_no_job(bench: Opener) -> None:
    """A claim whose lease is over would start a job for nothing at each look; the sweep takes it up."""
    b = bench(one("mode = job", "retries = 0", "concurrency = 2"))
    ready(b, 2)
    first, _second = b.claim("t", lease=1)
    b.fail(first)
    assert b.states("t") == {"dead": 1, "running": 1}
    assert jobs(b) == 0
    assert forgotten(b) == 1


def test_under_strict_order_nothing_overtakes(bench: Opener) -> None:
    b = bench(one("mode = job", "order = strict", "retries = 1", "backoff = 1h"))
    ready(b, 3)
    assert jobs(b) == 1
    claim = b.claim("t", lease=3600)[0]
    assert jobs(b) == 1
    b.fail(claim)
    assert jobs(b) == 0  # the first waits for its retry, and the others for it


def test_a_dead_letter_stops_a_strict_task_until_somebody_decides(bench: Opener) -> None:
    b = bench(one("order = strict", "retries = 0"))
    ready(b, 2)
    b.fail(b.claim("t")[0])
    assert jobs(b) == 0
    assert forgotten(b) == 0
    b.skip(b.snapshot("t").rid)
    assert jobs(b) == 1
    assert forgotten(b) == 1


HELD = """\
[asked]
(in) t (mid)
    run = cat {in}
    mode = job
(mid) slow (out)
    run = cat {mid}
    backlog = 2
"""


def test_who_feeds_a_full_backlog_is_not_started_for_nothing(bench: Opener) -> None:
    b = bench(HELD)
    ready(b, 3)
    for _ in range(2):
        b.complete(b.claim("t")[0])
    assert b.registry.read(lambda tx: full_reader(tx, b.plan, ["mid"])) is not None
    assert b.claim("t") == []
    assert jobs(b) == 0
    b.form("slow")
    b.complete(b.claim("slow")[0])
    assert jobs(b) == 1


LOOP = """\
[asked]
(in + back) t (mid)
    run = cat {in}
(mid) u (back)
    run = cat {mid}
    backlog = 1
"""


def test_a_backlog_on_a_loop_holds_nobody_up(bench: Opener) -> None:
    b = bench(LOOP)
    task = b.plan.circuit.task("t")
    assert task
    assert questions.holders(b.plan.circuit, task) == []
    ready(b, 1)
    assert jobs(b) == 1


def test_two_circuits_in_one_registry_are_told_apart(bench: Opener) -> None:
    b = bench(one("mode = job"))
    ready(b, 1)
    b.wire(one("mode = job").replace("[asked]", "[other]"))
    assert jobs(b) == 0


# The sweep


def test_where_nothing_waits_nobody_is_woken(bench: Opener) -> None:
    b = bench(one())
    assert forgotten(b) == 0
    ready(b, 2)
    b.work_off()
    assert forgotten(b) == 0


def test_a_value_that_nobody_read_is_found_when_its_ring_was_lost(bench: Opener) -> None:
    b = bench(one())
    b.send("in", "a")
    assert forgotten(b) == 1


def test_a_value_that_nobody_wrote_to_its_bucket_is_found(bench: Opener) -> None:
    b = bench("[c]\n(in) t (out)\nwire out\n    to = s3://bucket/{id}\n")
    ready(b, 1)
    b.work_off()
    assert forgotten(b) == 1
    b.change("UPDATE wire SET sunk = head")
    assert forgotten(b) == 0


def test_what_has_just_come_is_left_to_its_ring(bench: Opener) -> None:
    b = bench(one())
    hurry(b)
    b.send("in", "a")
    assert forgotten(b) == 0
    b.form()
    assert forgotten(b) == 0


def test_a_ready_snapshot_is_found_but_not_where_somebody_is_at_work(bench: Opener) -> None:
    b = bench(one("concurrency = 2"))
    ready(b, 3)
    assert forgotten(b) == 1
    b.claim("t", most=1, lease=3600)
    assert forgotten(b) == 0


def test_ready_snapshots_of_jobs_are_keda_s_and_not_the_sweep_s(bench: Opener) -> None:
    b = bench(one("mode = job"))
    ready(b, 3)
    assert forgotten(b) == 0
    b.send("in", "unread")
    assert forgotten(b) == 1


def test_an_instant_of_every_is_found_when_it_has_come(bench: Opener) -> None:
    b = bench("[asked]\n() t (out)\n    run = date\n    every = 1h\n")
    b.form()
    b.work_off()
    assert forgotten(b) == 0
    b.change("UPDATE task SET due = ?", b.now)
    assert forgotten(b) == 1


@pytest.mark.parametrize("inputs", ["in[2-4]", "(in + more)[2-4]", "in[2-4] ordered"])
def test_a_window_that_nobody_came_back_to_close_early_is_found(bench: Opener, inputs: str) -> None:
    """What came while the task was busy was read, but its window could not close then."""
    b = bench(one(inputs=inputs))
    b.send("in", *"abcd")
    b.form()
    (claim,) = b.claim("t", lease=3600)
    b.send("in", "e")
    b.form()
    b.complete(claim)
    assert forgotten(b) == 0  # one value is not enough
    b.send("in", *"fgh")
    b.form()
    (claim,) = b.claim("t", lease=3600)
    b.send("in", *"ij")
    b.form()
    assert forgotten(b) == 0  # it is busy
    b.complete(claim)
    assert forgotten(b) == 1
    b.work_off()
    assert forgotten(b) == 0
    assert len(b.snapshots("t")) == 3


def test_names_are_no_sql(bench: Opener) -> None:
    assert questions._text("it's; DROP TABLE task --") == "'it''s; DROP TABLE task --'"


def test_the_questions_look_through_indexes_only(bench: Opener) -> None:
    b = bench(one("mode = job", "concurrency = 3"))
    ready(b, 300)
    schema = re.search(r"schema=(\w+)", b.where)
    assert schema
    task = b.plan.circuit.task("t")
    assert task
    with psycopg.connect(server().url, options=f"-csearch_path={schema[1]}") as connection:
        connection.execute("ANALYZE snapshot")
        connection.execute("SET enable_seqscan = off")
        for query in (
            questions.ready_or_running(b.plan.circuit, task, 3),
            questions.left_alone(b.plan.circuit, [task]),
        ):
            told = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {query}"))
            assert "Seq Scan on snapshot" not in told
            assert "snapshot_ready" in told or "snapshot_running" in told
