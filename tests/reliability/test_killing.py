from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from koalja_fn.engine.auditing import audit
from koalja_fn.local.opening import open_payloads, open_registry
from koalja_fn.registry import Registry, snapshots, tasks, values
from koalja_fn.registry.registry import Transaction
from koalja_fn.store import Store
from tests.reliability.crashing import Sender, kill_round, run_once, write_circuit

ROUNDS = int(os.environ.get("KOALJA_KILL_ROUNDS", "60"))


def contents(registry: Registry, store: Store, wire: str) -> list[str]:
    def look(tx: Transaction) -> list[str]:
        row = tx.one("SELECT id, head FROM wire WHERE name = ?", wire)
        assert row is not None
        return [value.digest for value in values.between(tx, row[0], 0, row[1])]

    return [store.read(digest).decode() for digest in registry.read(look)]


def findings(registry: Registry, store: Store) -> list[str]:
    return registry.read(lambda tx: list(audit(tx, tasks.circuit_id(tx, "crash") or 0, store.verify)))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_is_lost_and_nothing_done_twice_over_rounds_of_sigkill(tmp_path: Path) -> None:
    folder = tmp_path / "crash"
    write_circuit(folder)
    chance = random.Random(20261122)
    sender = Sender(folder, 7)
    for _ in range(ROUNDS):
        kill_round(folder, sender, chance)
    run_once(folder)

    registry = open_registry(folder)
    store = open_payloads(folder, registry)
    assert findings(registry, store) == []
    came = contents(registry, store, "in")
    assert len(came) == len(set(came))
    assert {int(text) for text in came} >= sender.acknowledged
    count = len(came)
    assert count > ROUNDS
    left, right = contents(registry, store, "left"), contents(registry, store, "right")
    assert sorted(left) == sorted(came)
    assert left == right
    assert contents(registry, store, "threes") == [
        "".join(left[n : n + 3]) for n in range(0, count - count % 3, 3)
    ] or sorted(contents(registry, store, "threes")) == sorted(
        "".join(left[n : n + 3]) for n in range(0, count - count % 3, 3)
    )
    assert sorted(contents(registry, store, "fives")) == sorted(
        "".join(right[n : n + 5]) for n in range(0, count - 4, 2)
    )
    assert sorted(contents(registry, store, "pairs")) == sorted(
        a + b for a, b in zip(left, right, strict=True)
    )
    dead = [
        (left[int(position)], outcomes)
        for position, outcomes in registry.read(lambda tx: dead_letters(tx, "doomed"))
    ]
    failed = [text for text, outcomes in dead if "failed" in outcomes]
    assert all("7" in text for text in failed)
    # Those whose every runner was killed are dead, too.
    lost = [text for text, outcomes in dead if set(outcomes) == {"lost"}]
    assert sorted(failed + lost) == sorted(
        [text for text in left if "7" in text] + [text for text in lost if "7" not in text]
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_rewiring_between_kills_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "crash"
    write_circuit(folder)
    chance = random.Random(11)
    sender = Sender(folder, 9)
    for _ in range(max(10, ROUNDS // 5)):
        kill_round(folder, sender, chance)
        write_circuit(folder, window=chance.choice(["[5/2]", "[4/1]", "[3]", ""]), join=chance.random() < 0.6)
    write_circuit(folder)
    run_once(folder)

    registry = open_registry(folder)
    store = open_payloads(folder, registry)
    assert findings(registry, store) == []
    left = contents(registry, store, "left")
    assert sorted(contents(registry, store, "pairs")) == sorted(text * 2 for text in left)
    assert {int(text) for text in contents(registry, store, "in")} >= sender.acknowledged


def dead_letters(tx: Transaction, task: str) -> list[tuple[str, list[str]]]:
    """For each dead letter, the number in its value and the outcomes of its attempts."""
    row = tx.one("SELECT id FROM task WHERE name = ?", task)
    assert row is not None
    found = []
    for snapshot in snapshots.dead(tx, row[0]):
        (pair,) = snapshots.members(tx, snapshot.rid)[0].values
        source = tx.one(
            "SELECT i.first FROM value v JOIN snapshot_input i ON i.snapshot = v.snapshot"
            " WHERE v.id = ? AND i.input = 'left'",
            pair.id,
        )
        assert source is not None
        attempts = tx.all("SELECT outcome FROM execution WHERE snapshot = ?", snapshot.rid)
        found.append((str(source[0]), [outcome for (outcome,) in attempts]))
    return found
