"""Overviews: what there is in a registry, and how far it has come; one line for each thing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from koalja_fn.engine.usual import Usual
from koalja_fn.model import AnnotatedValue, Circuit
from koalja_fn.registry import overview, purging, stories, tasks
from koalja_fn.registry.overview import CircuitRow, TaskCounts, WireRow
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.rows import FormedRow
from koalja_fn.registry.snapshots import next_feed_index
from koalja_fn.snapshots import InputSpec, Spec
from koalja_fn.story.words import iso

# The circuit that a row's text says, if it can be understood.
Design = Callable[[CircuitRow], Circuit | None]


@dataclass(frozen=True, slots=True)
class TaskLine:
    """A task, and how many values are in no snapshot yet, for each input."""

    circuit: str
    counts: TaskCounts
    waiting: tuple[tuple[str, int], ...]

    @property
    def total_waiting(self) -> int:
        """Values that are in no snapshot yet."""
        return sum(count for _, count in self.waiting)

    def to_json(self) -> dict[str, Any]:
        """Numbers of values and of snapshots."""
        c = self.counts
        return {
            "circuit": self.circuit,
            "task": c.name,
            "retired": bool(c.retired),
            "waiting": dict(self.waiting),
            "formed": c.formed,
            "ready": c.ready,
            "running": c.running,
            "done": c.done,
            "dead": c.dead,
            "skipped": c.skipped,
            "last": iso(Usual.from_json(c.usual).last),
        }


@dataclass(frozen=True, slots=True)
class WireLine:
    """A wire with the number of its values and the latest of them."""

    circuit: str
    row: WireRow
    readers: tuple[str, ...]
    latest: AnnotatedValue | None
    feeder: str = ""

    @property
    def writer(self) -> str:
        """Who fed it last, or will: a task's name, or empty for the outside."""
        return maker(self.latest) if self.latest else self.feeder

    def to_json(self) -> dict[str, Any]:
        """As it is; `written` is how many values its `to` has written."""
        return {
            "circuit": self.circuit,
            "wire": self.row.name,
            "values": self.row.head,
            "written": self.row.sunk,
            "from": self.writer or None,
            "to": list(self.readers),
            "latest": self.latest.id if self.latest else None,
            "last": iso(self.latest.arrived) if self.latest else None,
        }


@dataclass(frozen=True, slots=True)
class CircuitLine:
    """A circuit with the numbers of its tasks, wires and values."""

    row: CircuitRow
    tasks: int
    wires: int
    values: int

    def to_json(self) -> dict[str, Any]:
        """As it is."""
        return {
            "circuit": self.row.name,
            "created": iso(self.row.created),
            "tasks": self.tasks,
            "wires": self.wires,
            "values": self.values,
        }


def maker(value: AnnotatedValue) -> str:
    """The task that made a value; empty for one from outside."""
    return value.source.rpartition("/")[2] if value.snapshot else ""


def circuits(tx: Transaction) -> list[CircuitLine]:
    """All circuits."""
    found = []
    for row in overview.circuits(tx):
        wires = overview.wires(tx, row.id)
        found.append(
            CircuitLine(row, len(overview.log_heads(tx, row.id)), len(wires), sum(w.head for w in wires))
        )
    return found


def task_lines(tx: Transaction) -> list[TaskLine]:
    """All tasks of all circuits."""
    return [
        TaskLine(circuit.name, counts, waiting(tx, counts))
        for circuit in overview.circuits(tx)
        for counts in overview.tasks(tx, circuit.id)
    ]


def wire_lines(tx: Transaction, design: Design) -> list[WireLine]:
    """All wires of all circuits; the wiring is read only where a wire without values needs it."""
    found = []
    for circuit in overview.circuits(tx):
        rows = overview.wires(tx, circuit.id)
        drawn = None if all(row.head for row in rows) else design(circuit)
        found += [_wire_line(tx, circuit, row, drawn) for row in rows]
    return found


def _wire_line(tx: Transaction, circuit: CircuitRow, row: WireRow, drawn: Circuit | None) -> WireLine:
    latest = overview.latest_values(tx, row.id, 1)
    readers = tuple(reader.name for reader in stories.readers(tx, row.id) if not reader.retired)
    feeder = drawn.writer(row.name) if drawn is not None and row.name in drawn.wires else None
    return WireLine(circuit.name, row, readers, latest[0] if latest else None, feeder.name if feeder else "")


def latest_values(tx: Transaction, wire: str | None, last: int) -> list[AnnotatedValue]:
    """The last values of all wires, or of those of that name, in order of arrival."""
    found = [
        value
        for circuit in overview.circuits(tx)
        for row in overview.wires(tx, circuit.id)
        if wire in (None, row.name)
        for value in overview.latest_values(tx, row.id, last)
    ]
    return sorted(found, key=lambda value: value.arrived)[-last:]


def purged(tx: Transaction, found: Iterable[AnnotatedValue]) -> frozenset[str]:
    """The digests of those values whose payloads are purged."""
    digests = {value.digest for value in found}
    return frozenset(d for d in digests if purging.state_of(tx, d) in (purging.GOING, purging.GONE))


def latest_snapshots(tx: Transaction, task: str | None, last: int) -> list[FormedRow]:
    """The last snapshots of all tasks, or of those of that name, in order."""
    if task is None:
        end = overview.cursors(tx).snapshot
        return overview.formed_after(tx, max(0, end - last), last)
    found = [
        formed for row, _ in overview.task_wires(tx, task) for formed in overview.latest_formed(tx, row, last)
    ]
    return sorted(found, key=lambda formed: formed.rid)[-last:]


def waiting(tx: Transaction, counts: TaskCounts) -> tuple[tuple[str, int], ...]:
    """For each input, how many values that have arrived for it are in no snapshot yet."""
    spec = Spec.from_json(counts.spec)
    links = {link.name: link for link in tasks.links(tx, counts.id)}
    return tuple((item.name, max(0, _waiting(tx, counts.id, spec, item, links))) for item in spec.inputs)


def _waiting(tx: Transaction, task: int, spec: Spec, item: InputSpec, links: dict[str, tasks.LinkRow]) -> int:
    mine = [links[wire] for wire in item.wires if wire in links]
    if not mine:
        return 0
    used = mine[0].used
    if spec.policy == "align":
        return sum(link.head - link.start for link in mine) - used
    if item.indexed:
        unread = sum(link.head - link.position for link in mine)
        return unread + next_feed_index(tx, task, item.name) - used
    return mine[0].head - max(used, mine[0].start)
