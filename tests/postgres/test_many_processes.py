"""Eight processes on one circuit, killed at random, their connections cut: nothing lost, nothing twice."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from pathlib import Path

import pytest

from koalja_fn.engine.auditing import audit
from tests.postgres.pounding import Worker, pound
from tests.postgres.schemas import empty_registry
from tests.postgres.server import Server, server, start

PROCESSES = 8
ROUNDS = int(os.environ.get("KOALJA_POUND_ROUNDS", "12"))


class Crowd:
    """Processes that work on one registry; who is killed is followed by somebody else."""

    def __init__(self, where: str, folder: Path, most: int) -> None:
        self.most = most
        self.where = where
        self.folder = folder
        self.seed = 0
        # Children of a process that has imported everything and has no connections yet.
        self.nursery = multiprocessing.get_context("forkserver")
        self.nursery.set_forkserver_preload(["tests.postgres.pounding"])
        self.members = [self.born() for _ in range(PROCESSES)]

    def born(self) -> multiprocessing.process.BaseProcess:
        self.seed += 1
        child = self.nursery.Process(target=pound, args=(self.where, str(self.folder), self.seed, self.most))
        child.start()
        return child

    def kill(self, which: int) -> None:
        self.members[which].kill()
        self.members[which].join()
        self.members[which] = self.born()

    def end(self) -> None:
        for member in self.members:
            member.kill()
            member.join()

    def wait_for(self, more: int) -> None:
        """Wait until so many values more were acknowledged."""
        wanted, until = self.sent() + more, time.monotonic() + 60
        while self.sent() < wanted:
            assert time.monotonic() < until, self.troubles()
            time.sleep(0.02)

    def sent(self) -> int:
        return sum(len(path.read_text().split()) for path in self.folder.glob("*.acknowledged"))

    def troubles(self) -> str:
        return "\n".join(path.read_text() for path in self.folder.glob("*.trouble"))


def cut(on: Server, count: int) -> int:
    """Cut some connections in the middle of whatever they do."""
    with on.connect() as connection:
        rows = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'koalja-fn %%' AND state <> 'idle' ORDER BY random() LIMIT %s",
            (count,),
        ).fetchall()
    return len(rows)


def check(where: str, folder: Path) -> Worker:
    """Bring all to an end and see that every promise was kept."""
    worker = Worker(where, folder, 0)
    worker.work_off()
    registry, plan = worker.registry, worker.plan

    assert registry.read(lambda tx: list(audit(tx, plan.id, worker.store.verify))) == []
    came = contents(worker, "in")
    assert len(came) == len(set(came))
    acknowledged = {line for path in folder.glob("*.acknowledged") for line in path.read_text().split()}
    assert set(came) >= acknowledged
    assert len(came) > PROCESSES
    left, right = contents(worker, "left"), contents(worker, "right")
    assert left == right
    assert sorted(left) == sorted(came)
    assert contents(worker, "same") == left
    whole = len(left) - len(left) % 3
    assert sorted(contents(worker, "threes")) == sorted("".join(left[n : n + 3]) for n in range(0, whole, 3))
    assert sorted(contents(worker, "fives")) == sorted(
        "".join(right[n : n + 5]) for n in range(0, len(right) - 4, 2)
    )
    assert sorted(contents(worker, "pairs")) == sorted(text * 2 for text in left)
    assert sorted(contents(worker, "all")) == sorted(contents(worker, "threes") + contents(worker, "fives"))
    # Clocks of processes differ, but time never goes back on a wire or in a log.
    for table, key, order, at in (("value", "wire", "position", "arrived"), ("log", "task", "seq", "at")):
        rows = registry.read(lambda tx: tx.all(f"SELECT {key}, {at} FROM {table} ORDER BY {key}, {order}"))  # noqa: B023
        assert rows == sorted(rows)
    return worker


def contents(worker: Worker, wire: str) -> list[str]:
    """The payloads of a wire, in order."""
    rows = worker.registry.read(
        lambda tx: tx.all(
            "SELECT digest FROM value WHERE wire = ? ORDER BY position", worker.plan.wires[wire]
        )
    )
    return [worker.store.read(digest).decode() for (digest,) in rows]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_processes_and_cut_connections_lose_nothing_and_do_nothing_twice(tmp_path: Path) -> None:
    chance = random.Random(20261123)
    with empty_registry() as where:
        crowd = Crowd(where, tmp_path, most=25)
        try:
            crowd.wait_for(20)
            for _ in range(ROUNDS):
                time.sleep(chance.uniform(0.02, 0.3))
                if chance.random() < 0.6:
                    crowd.kill(chance.randrange(PROCESSES))
                cut(server(), chance.randint(0, 3))
        finally:
            crowd.end()
        assert crowd.troubles() == ""
        worker = check(where, tmp_path)
        worker.registry.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_crash_of_the_server_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(5)
    own = start(synchronous_commit="on")
    try:
        crowd = Crowd(own.with_schema("crash"), tmp_path, most=10_000)
        try:
            for _ in range(3):
                crowd.wait_for(20)
                time.sleep(chance.uniform(0.0, 0.2))
                own.crash()
            crowd.wait_for(10)
        finally:
            crowd.end()
        assert crowd.troubles() == ""
        worker = check(own.with_schema("crash"), tmp_path)
        worker.registry.close()
    finally:
        own.stop()
