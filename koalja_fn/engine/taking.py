"""Taking up: the values that a task's links have not read yet, as arrivals for the snapshot core."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.tasks import LinkRow
from koalja_fn.snapshots import Arrival, Spec


@dataclass(frozen=True, slots=True)
class Taken:
    """A value about to enter the core: when it arrived, its id, and what the core sees of it."""

    arrived: int
    id: str
    arrival: Arrival


def take(tx: Transaction, spec: Spec, links: list[LinkRow], most: int) -> tuple[list[Taken], bool]:
    """What stands on the links unread, in order of arrival, at most `most`; and whether there is more."""
    waiting = [link for link in links if link.position < link.head]
    if not waiting:
        return [], False
    asked = [_ask(tx, spec, link.wire, link.name, link.position, most) for link in waiting]
    queues = [taken() for taken in asked]
    # Each queue has `most` values or all there are, so the first `most` of the merge are in true order.
    merged = queues[0] if len(queues) == 1 else list(heapq.merge(*queues, key=attrgetter("arrived")))
    total = sum(link.head - link.position for link in waiting)
    return merged[:most], total > most


def read(tx: Transaction, spec: Spec, wire: int, name: str, first: int, most: int) -> list[Taken]:
    """At most `most` values of one wire from position `first`; keys and sequences only where they matter."""
    return _ask(tx, spec, wire, name, first, most)()


def _ask(
    tx: Transaction, spec: Spec, wire: int, name: str, first: int, most: int
) -> Callable[[], list[Taken]]:
    if spec.policy != "align" and not any(i.ordered for i in spec.inputs):
        plain = tx.later(
            "SELECT arrived, id, position FROM value WHERE wire = ? AND position >= ?"
            " ORDER BY position LIMIT ?",
            wire,
            first,
            most,
        )
        return lambda: [
            Taken(arrived, value, Arrival(name, position)) for arrived, value, position in plain()
        ]
    rows = tx.later(
        "SELECT arrived, id, position, lineage, idx, event_source, sequence, attributes FROM value"
        " WHERE wire = ? AND position >= ? ORDER BY position LIMIT ?",
        wire,
        first,
        most,
    )
    return lambda: [_taken(spec, name, row) for row in rows()]


def _taken(spec: Spec, name: str, row: tuple[Any, ...]) -> Taken:
    arrived, value, position, lineage, index, source, sequence, attributes = row
    key = str(json.loads(attributes).get(spec.align, "")) if spec.align else lineage
    return Taken(arrived, value, Arrival(name, position, key, 0 if spec.align else index, source, sequence))
