"""Who purges is killed again and again while others commit the same bytes: what is needed is there."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from koalja_fn.engine.arriving import Intake, Offer
from koalja_fn.engine.auditing import audit
from koalja_fn.engine.installing import install
from koalja_fn.errors import StoreError
from koalja_fn.model import AnnotatedValue
from koalja_fn.program.locating import Located
from koalja_fn.registry import Registry, connect, purging, tasks, values
from koalja_fn.registry.registry import Transaction
from koalja_fn.store import Store, open_store
from koalja_fn.wiring import read
from tests.aws.localstack import shared
from tests.postgres.schemas import empty_registry

KILLS = int(os.environ.get("KOALJA_PURGE_KILLS", "2"))
WIRING = "[c]\n(a) t (b)\nwire b\n    keep = 1s\n"
KEEP = 1_000_000
TEXTS = [f"{n:03}".encode() * size for n in range(75) for size in (1, 10_000)]


@contextmanager
def places(kind: str, folder: Path) -> Iterator[tuple[str, str]]:
    """The addresses of a registry and a store."""
    with ExitStack() as stack:
        if kind == "sqlite and files":
            yield f"sqlite:{folder}/registry.db", str(folder / "objects")
            return
        where = stack.enter_context(empty_registry())
        server = shared()
        yield where, f"s3://{server.bucket()}?endpoint={server.url}"


@pytest.mark.parametrize("kind", ["sqlite and files", "postgresql and s3"])
def test_commits_race_with_a_purge_that_is_killed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with places(kind, tmp_path) as (where, place):
        registry, store = connect(where), open_store(place, cache=tmp_path / "cache")
        circuit = read(WIRING, file="c.koalja").circuit
        assert circuit is not None
        codes = {"t": Located("t", ("cat",), tmp_path, None, (), f"sha256:{'0' * 64}", False)}
        plan = registry.transact(lambda tx: install(tx, registry.clock(), circuit, tmp_path, codes, "")).plan
        intake = Intake(registry, store, plan, lambda _: None)
        over, refused, sent, freed = threading.Event(), [0], [0], [0]

        def commit(seed: int) -> None:
            chance = random.Random(seed)
            while not over.is_set():
                try:
                    intake.accept([Offer("b", chance.choice(TEXTS)) for _ in range(2)])
                    sent[0] += 1
                except StoreError:
                    refused[0] += 1  # the sender is told, and has it still
                over.wait(chance.choice([0.0, 0.01, 0.1]))

        lost: list[str] = []

        def look() -> None:
            while not over.is_set():
                lost.extend(missing(registry, store, plan.wires["b"]))

        threads = [threading.Thread(target=commit, args=(seed,)) for seed in range(3)]
        threads.append(threading.Thread(target=look))
        for thread in threads:
            thread.start()
        try:
            for number in range(KILLS):
                freed[0] += purge_and_kill(where, place, tmp_path / f"other{number}")
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert lost == []
        assert sent[0] > 20
        assert freed[0] > 0, "nothing was purged: the test shows nothing"
        intake.accept([Offer("b", text) for text in TEXTS])
        assert missing(registry, store, plan.wires["b"]) == []
        assert registry.read(lambda tx: list(audit(tx, plan.id, store.verify))) == []
        store.close()
        registry.close()


def missing(registry: Registry, store: Store, wire: int) -> list[str]:
    """The latest values that are not there, though their time is not over even after one has looked."""

    def latest(tx: Transaction) -> list[AnnotatedValue]:
        head = tasks.head(tx, wire)
        return values.between(tx, wire, max(0, head - 30), head - 1)

    found = []
    for value in registry.read(latest):
        there = store.has(value.digest)
        state = registry.read(lambda tx, value=value: purging.state_of(tx, value.digest))  # type: ignore[misc]
        if registry.clock() - value.arrived < KEEP:
            if not there:
                found.append(f"{value.position}: the payload is not there ({state})")
            if state in ("going", "gone"):
                found.append(f"{value.position}: it is {state}")
    return found


def purge_and_kill(where: str, place: str, cache: Path) -> int:
    """Purge until something was freed a few times, then SIGKILL at some moment; return how much was freed."""
    script = str(Path(__file__).with_name("purging_forever.py"))
    purging = subprocess.Popen(
        [sys.executable, script, where, place, str(cache)], stdout=subprocess.PIPE, text=True
    )
    freed, until = 0, time.monotonic() + 20
    try:
        assert purging.stdout is not None
        while freed < 4 and time.monotonic() < until:
            line = purging.stdout.readline()
            assert line, "it has ended"
            freed += int(line)
        time.sleep(random.random() * 0.05)  # a moment anywhere in a round
    finally:
        purging.send_signal(signal.SIGKILL)
        purging.wait()
        purging.stdout.close()
    return freed
