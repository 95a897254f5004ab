"""The engine at work: real time, real programs, real threads."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from koalja_fn.engine import claiming
from koalja_fn.engine.arriving import Offer
from koalja_fn.engine.auditing import audit
from koalja_fn.engine.executing import Executed
from koalja_fn.errors import Full
from koalja_fn.local.session import Session, Talk
from koalja_fn.local.workplace import open_workplace
from koalja_fn.registry import values


class Run:
    """A session on a folder, and what it told."""

    def __init__(self, folder: Path, jobs: int = 8) -> None:
        self.folder = folder
        self.ended: list[Executed] = []
        self.troubles: list[BaseException] = []
        self.jobs = jobs

    @contextmanager
    def going(self) -> Iterator[Run]:
        with open_workplace(self.folder) as self.place:
            self.session = Session(self.place, Talk(self.ended.append, self.troubles.append), jobs=self.jobs)
            self.session.start()
            try:
                yield self
            finally:
                self.session.stop()

    def send(self, wire: str, *texts: str) -> None:
        self.session.intake.accept([Offer(wire, text.encode()) for text in texts])

    def idle(self) -> None:
        over = time.monotonic() + 40
        assert self.session.engine.wait_until_idle(lambda: time.monotonic() > over), "never idle"

    def said(self, wire: str) -> list[str]:
        row = self.place.plan.wires[wire]
        found = self.place.registry.read(lambda tx: values.between(tx, row, 0, 1 << 40))
        return [self.place.store.read(value.digest).decode() for value in found]

    def wrong(self) -> list[str]:
        plan = self.place.plan.id
        return self.place.registry.read(lambda tx: list(audit(tx, plan, self.place.store.verify)))

    def ask(self, sql: str) -> list[tuple]:
        return self.place.registry.read(lambda tx: tx.all(sql))


Opener = Callable[..., Run]


@pytest.fixture
def circuit(tmp_path: Path) -> Opener:
    def make(wiring: str, jobs: int = 8, **programs: str) -> Run:
        (tmp_path / "c.koalja").write_text("[c]\n" + wiring)
        for name, text in programs.items():
            (tmp_path / f"{name}.sh").write_text("#!/bin/sh\n" + text)
            (tmp_path / f"{name}.sh").chmod(0o755)
        return Run(tmp_path, jobs)

    return make


def test_a_chain_runs_to_its_end_and_is_idle(circuit: Opener) -> None:
    run = circuit("(a) one (b)\n    run = cat {a}\n(b[2]) two (c)\n    run = cat {b}\n")
    with run.going():
        run.send("a", *"123456")
        run.idle()
        assert run.said("c") == ["12", "34", "56"]
        assert run.wrong() == run.troubles == []


def test_rate_holds_in_real_time(circuit: Opener) -> None:
    run = circuit("(a) t (b)\n    run = cat {a}\n    rate = 5/s\n")
    with run.going():
        run.send("a", *"1234")
        run.idle()  # what waits for the rate is worth waiting for
        assert run.said("b") == list("1234")
        formed = [row[0] for row in run.ask("SELECT formed FROM snapshot ORDER BY number")]
        pauses = [b - a for a, b in itertools.pairwise(formed)]
        assert min(pauses) >= 200_000
        assert max(pauses) < 5_000_000
        assert run.wrong() == []


def test_within_closes_a_window_in_real_time(circuit: Opener) -> None:
    blocked = 'echo "$1" | grep -q first && sleep 0.5; cat "$1"'
    run = circuit("(a[2-9]) t (b)\n    run = cat {a}\n    within = 300ms\n", t=blocked)
    with run.going():
        run.send("a", "1", "2", "3")
        run.idle()
        assert run.said("b") == ["123"]
        run.send("a", "4")
        run.idle()  # one value is too few for ever, and no reason to wait
        assert run.said("b") == ["123"]


def test_every_fires_in_real_time(circuit: Opener) -> None:
    run = circuit("() tick (t)\n    every = 200ms\n    run = echo tick\n")
    with run.going():
        until = time.monotonic() + 20
        while len(run.ended) < 3:
            assert time.monotonic() < until
            time.sleep(0.02)
    starts = [executed.claim.formed for executed in run.ended[:3]]
    assert starts[2] - starts[0] >= 350_000


def test_retries_wait_for_their_backoff(circuit: Opener) -> None:
    run = circuit("(a) t (b)\n    run = false\n    retries = 2\n    backoff = 100ms\n")
    with run.going():
        run.send("a", "1")
        run.idle()
    assert [executed.outcome for executed in run.ended] == ["failed", "failed", "dead"]
    starts = [executed.claim.claimed for executed in run.ended]
    assert starts[1] - starts[0] >= 100_000
    assert starts[2] - starts[1] >= 200_000


def test_concurrency_is_used_and_never_exceeded(circuit: Opener) -> None:
    program = (
        'd="$KOALJA_CODE/now"; mkdir -p "$d"; : > "$d/$$"; ls "$d" | wc -l >> "$KOALJA_CODE/seen";'
        ' sleep 0.15; rm "$d/$$"\n'
    )
    run = circuit("(a) t (b)\n    run = ./t.sh {a}\n    concurrency = 3\n", t=program)
    with run.going():
        run.send("a", *"123456789")
        run.idle()
    seen = [int(line) for line in (run.folder / "seen").read_text().split()]
    assert len(seen) == 9
    assert max(seen) == 3


def test_jobs_bound_what_runs_at_once_over_all_tasks(circuit: Opener) -> None:
    program = (
        'd="$KOALJA_CODE/now"; mkdir -p "$d"; : > "$d/$$"; ls "$d" | wc -l >> "$KOALJA_CODE/seen";'
        ' sleep 0.1; rm "$d/$$"\n'
    )
    wiring = "".join(f"(a) t{n} (b{n})\n    run = ./t.sh {{a}}\n    concurrency = 4\n" for n in range(3))
    run = circuit(wiring, jobs=2, t=program)
    with run.going():
        run.send("a", *"123")
        run.idle()
    assert max(int(line) for line in (run.folder / "seen").read_text().split()) <= 2


def test_max_hops_ends_a_loop_as_a_dead_letter(circuit: Opener) -> None:
    run = circuit("(x) round (x)\n    run = cat {x}\n    max-hops = 5\n")
    with run.going():
        run.send("x", "1")
        run.idle()
        assert run.said("x") == ["1"] * 6
        assert [executed.outcome for executed in run.ended] == ["done"] * 5 + ["dead"]
        assert run.ended[-1].ending.reason == "max-hops"
        assert "max-hops is 5" in run.ended[-1].ending.message
        assert run.wrong() == []


def test_a_loop_with_a_backlog_does_not_stand_still(circuit: Opener) -> None:
    run = circuit(
        "    backlog = 1\n    max-hops = 4\n    retries = 0\n"
        "(x) there (y)\n    run = cat {x}\n(y) back (x)\n    run = cat {y}\n"
    )
    with run.going():
        run.send("x", "1", "2", "3")
        run.idle()
        assert len(run.said("y")) == 6
        assert run.wrong() == []


def test_a_backlog_throttles_the_sender_and_everything_comes_through(circuit: Opener) -> None:
    run = circuit("    backlog = 3\n(a) one (b)\n    run = cat {a}\n(b) two (c)\n    run = cat {b}\n")
    with run.going():
        refused = 0
        for n in range(25):
            while True:
                try:
                    run.send("a", f"{n} ")
                    break
                except Full:
                    refused += 1
                    time.sleep(0.01)
        run.idle()
        assert run.said("c") == [f"{n} " for n in range(25)]
        assert refused > 0
        assert run.wrong() == []


def test_a_failing_snapshot_does_not_hold_up_the_others(circuit: Opener) -> None:
    run = circuit("(a) t (b)\n    run = grep -v 2 {a}\n    retries = 0\n")
    with run.going():
        run.send("a", *"123")
        run.idle()
        assert run.said("b") == ["1\n", "3\n"]


def test_stopping_gives_back_what_runs_and_the_next_run_takes_it_up_at_once(circuit: Opener) -> None:
    run = circuit("(a) t (b)\n    run = ./t.sh {a}\n", t='echo $$ > "$KOALJA_CODE/pid"; sleep 300\n')
    with run.going():
        run.send("a", "1")
        until = time.monotonic() + 20
        while not (run.folder / "pid").exists():
            assert time.monotonic() < until
            time.sleep(0.01)
    assert [executed.outcome for executed in run.ended] == ["cancelled"]
    (run.folder / "t.sh").write_text("#!/bin/sh\necho now\n")
    with run.going():
        run.idle()
        assert run.said("b") == ["now\n"]
        assert run.ask("SELECT attempts FROM snapshot") == [(1,)]


def test_what_a_dead_runner_had_claimed_is_taken_up_at_the_start(circuit: Opener) -> None:
    run = circuit("(a) t (b)\n    run = cat {a}\n    backoff = 1ms\n")
    with open_workplace(run.folder) as place:
        place.intake().accept([Offer("a", b"1")])
        from koalja_fn.engine import forming

        plan = place.plan.tasks["t"]
        clock = place.registry.clock
        place.registry.transact(lambda tx: forming.form(tx, clock, plan))
        place.registry.transact(
            lambda tx: claiming.claim(tx, clock(), place.plan, plan, "somebody who died", 9, 3600.0)
        )
    with run.going():
        run.idle()
        assert run.said("b") == ["1"]
        assert run.ask("SELECT attempt, outcome FROM execution ORDER BY id") == [(1, "lost"), (2, "done")]


def test_what_an_earlier_run_left_to_be_tried_again_is_waited_for(circuit: Opener) -> None:
    """Also where the pause before the retry is longer than anything else takes."""
    run = circuit("(a) t (b)\n    run = cat {a}\n    backoff = 1500ms\n")
    with open_workplace(run.folder) as place:
        from koalja_fn.engine import forming

        place.intake().accept([Offer("a", b"1"), Offer("a", b"2")])
        plan = place.plan.tasks["t"]
        clock = place.registry.clock
        place.registry.transact(lambda tx: forming.form(tx, clock, plan))
        place.registry.transact(
            lambda tx: claiming.claim(tx, clock(), place.plan, plan, "somebody who died", 1, 3600.0)
        )
    with run.going():
        run.idle()
        assert sorted(run.said("b")) == ["1", "2"]


def test_waiting_for_idleness_can_be_interrupted(circuit: Opener) -> None:
    run = circuit("(a) t (b)\n    run = sleep 300\n")
    with run.going():
        run.send("a", "1")
        stop = threading.Event()
        timer = threading.Timer(0.3, stop.set)
        timer.start()
        assert run.session.engine.wait_until_idle(stop.is_set) is False
        timer.join()


def test_a_payload_that_is_damaged_makes_a_dead_letter_and_no_result(circuit: Opener) -> None:
    run = circuit("(a) t (b)\n    run = cat {a}\n    retries = 0\n")
    with open_workplace(run.folder) as place:
        (receipt,) = place.intake().accept([Offer("a", b"x" * 300_000)])
        path = place.store.path(receipt.digest)
        path.chmod(0o600)
        path.unlink()
    with run.going():
        run.idle()
        assert [executed.outcome for executed in run.ended] == ["dead"]
        assert run.said("b") == []


def test_trouble_in_the_engine_is_told_and_the_engine_goes_on(circuit: Opener) -> None:
    run = circuit("(a) t (b)\n    run = cat {a}\n")
    with run.going():
        real = run.session.engine._form_and_claim
        broken = [RuntimeError("once")]

        def fails_once(*args: object) -> object:
            if broken:
                raise broken.pop()
            return real(*args)  # type: ignore[arg-type]

        run.session.engine._form_and_claim = fails_once  # type: ignore[method-assign,assignment]
        run.send("a", "1")
        until = time.monotonic() + 20
        while not run.ended:
            assert time.monotonic() < until
            time.sleep(0.02)
        assert run.said("b") == ["1"]
    assert [str(trouble) for trouble in run.troubles] == ["once"]


def test_an_attempt_that_the_engine_itself_can_not_end_is_a_failed_one(circuit: Opener) -> None:
    run = circuit("(a) t (b)\n    run = cat {a}\n    backoff = 1ms\n")
    with run.going():
        executor = run.session.engine._executor
        real = executor._complete
        broken = [UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")]

        def fails_once(*args: object) -> object:
            if broken:
                raise broken.pop()
            return real(*args)  # type: ignore[arg-type]

        executor._complete = fails_once  # type: ignore[method-assign,assignment]
        run.send("a", "1")
        run.idle()
        assert run.said("b") == ["1"]
        assert run.ask("SELECT outcome, reason FROM execution ORDER BY id") == [
            ("failed", "trouble"),
            ("done", ""),
        ]
    assert len(run.troubles) == 1


def test_no_thread_and_no_file_is_left_open(circuit: Opener) -> None:
    run = circuit("(a) t (b)\n    run = cat {a}\n")
    with run.going():
        run.send("a", "1")
        run.idle()
    before = (threading.active_count(), len(os.listdir("/proc/self/fd")))  # noqa: PTH208
    for _ in range(3):
        with run.going():
            run.send("a", "1")
            run.idle()
    assert threading.active_count() <= before[0]
    assert len(os.listdir("/proc/self/fd")) <= before[1]  # noqa: PTH208
