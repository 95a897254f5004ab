"""Dead letters: running them again, or giving them up, on record. Each function is one step."""

from __future__ import annotations

from collections.abc import Iterable

from koalja_fn.registry import letters, records, snapshots, tasks
from koalja_fn.registry.registry import Transaction
from koalja_fn.snapshots import Spec


def retry(tx: Transaction, now: int, rids: Iterable[int]) -> list[int]:
    """Make dead letters ready again; what was tried stays on record. Return those that were dead."""
    rids = _held(tx, rids)
    revived = [rid for rid in rids if letters.revive(tx, rid, now)]
    for rid in revived:
        _count_as_waiting(tx, rid)
    return revived


def skip(tx: Transaction, now: int, rids: Iterable[int], why: str) -> list[int]:
    """Give dead letters up, with a remark that says why. Return those that were dead."""
    rids = _held(tx, rids)
    skipped = [rid for rid in rids if letters.give_up(tx, rid, now)]
    for rid in skipped:
        task, _ = letters.place(tx, rid)
        records.remark(tx, task, rid, now, "skipped", why)
    return skipped


def _held(tx: Transaction, rids: Iterable[int]) -> list[int]:
    """The same letters, with their tasks' locks."""
    found = list(rids)
    tasks.hold_all(tx, (letters.place(tx, rid)[0] for rid in found))
    return found


def _count_as_waiting(tx: Transaction, rid: int) -> None:
    """A dead letter's new values counted as settled; now they wait again, and fill the backlog."""
    task, spec = letters.place(tx, rid)
    firsts = {item.name: item.wires[0] for item in Spec.from_json(spec).inputs}
    for item in snapshots.inputs_of(tx, rid):
        wire = item.wire
        if wire is None and item.input in firsts:
            wire = tasks.wire_row(tx, task, firsts[item.input])
        if item.fresh and wire is not None:
            tasks.settle(tx, task, wire, -item.fresh)
