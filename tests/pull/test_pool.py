"""The pool: whoever decides hears of what ended, also where something long was begun right after it."""

from __future__ import annotations

import threading

from koalja_fn.model import Task
from koalja_fn.pull.pool import Answer, Pool
from koalja_fn.pull.runs import Done, Execution


def test_what_ended_is_heard_of_while_what_was_begun_after_it_goes_on() -> None:
    gates = {"first": threading.Event(), "second": threading.Event(), "slow": threading.Event()}
    in_time: list[bool] = []

    def execute(execution: Execution, answer: Answer) -> None:
        in_time.append(gates[execution.key].wait(30))
        answer(Done(execution))

    heard: list[str] = []
    with Pool(execute, 1) as pool:
        for name in gates:
            pool.put(Execution(Task(name, (), ()), 0, name, (), {}))
        gates["first"].set()  # now there is work behind it, so that it need not ring for long
        while len(heard) < 2:
            heard += [done.execution.key for done in pool.some()]
            gates["second"].set()
        gates["slow"].set()
        while pool.under_way:
            heard += [done.execution.key for done in pool.some()]
    assert heard == ["first", "second", "slow"]
    assert all(in_time)


def test_a_wait_for_nothing_ends_after_its_time() -> None:
    go = threading.Event()

    def execute(execution: Execution, answer: Answer) -> None:
        go.wait(30)
        answer(Done(execution))

    with Pool(execute, 1) as pool:
        pool.put(Execution(Task("slow", (), ()), 0, "slow", (), {}))
        assert list(pool.some(0.05)) == []
        go.set()
        assert [done.execution.key for done in pool.some()] == ["slow"]
