"""What overviews, maps and the circuit's log are told from: counts, the latest, and what is new.

Read-only. Counts come from the rows of tasks, wires and links, and from small partial indexes; the
latest things are found from the end of an index.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from koalja_fn.model import AnnotatedValue
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.rows import (
    ATTEMPT,
    FORMED,
    PASSED,
    REMARK,
    AttemptRow,
    FormedRow,
    PassedRow,
    RemarkRow,
)
from koalja_fn.registry.values import COLUMNS, FROM, from_row
from koalja_fn.snapshots import Spec


@dataclass(frozen=True, slots=True)
class CircuitRow:
    """A circuit, and its wiring as text."""

    id: int
    name: str
    created: int
    wiring: str


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """A task's row with the numbers of its snapshots by state."""

    id: int
    name: str
    generation: int
    spec: str
    retired: int
    usual: str
    log_head: int
    formed: int
    ready: int
    running: int
    dead: int
    skipped: int

    @property
    def done(self) -> int:
        """Snapshots that were executed."""
        return self.formed - self.ready - self.running - self.dead - self.skipped


@dataclass(frozen=True, slots=True)
class WireRow:
    """A wire with the number of its values."""

    id: int
    name: str
    head: int
    sunk: int


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A version of a task's code."""

    digest: str
    run: str
    seen: int


@dataclass(frozen=True, slots=True)
class RefusalRow:
    """An event that was refused for good."""

    id: int
    circuit: str
    wire: str
    at: int
    value: str
    event_source: str
    event_id: str
    digest: str
    kept: str
    reason: str


@dataclass(frozen=True, slots=True)
class Cursors:
    """How far each table has been read: the last row of each."""

    snapshot: int = 0
    execution: int = 0
    remark: int = 0
    passed: int = 0
    refusal: int = 0


def circuits(tx: Transaction) -> list[CircuitRow]:
    """All circuits of the registry, by name; the worlds of recomputes (`lanes.WORLD`) are none."""
    rows = tx.all("SELECT id, name, created, wiring FROM circuit WHERE name NOT LIKE '%~%' ORDER BY name")
    return [CircuitRow(*row) for row in rows]


def tasks(tx: Transaction, circuit: int) -> list[TaskCounts]:
    """A circuit's tasks with their counts, by name."""
    rows = tx.all(
        "SELECT t.id, t.name, t.generation, t.spec, t.retired, t.usual, t.log_head, t.formed,"
        " (SELECT count(*) FROM snapshot s WHERE s.task = t.id AND s.state = 'ready'),"
        " (SELECT count(*) FROM snapshot s WHERE s.task = t.id AND s.state = 'running'),"
        " (SELECT count(*) FROM snapshot s WHERE s.task = t.id AND s.state = 'dead'),"
        " (SELECT count(*) FROM snapshot s WHERE s.task = t.id AND s.state = 'skipped')"
        " FROM task t WHERE t.circuit = ? ORDER BY t.name",
        circuit,
    )
    return [TaskCounts(*row) for row in rows]


def wires(tx: Transaction, circuit: int) -> list[WireRow]:
    """A circuit's wires, by name."""
    rows = tx.all("SELECT id, name, head, sunk FROM wire WHERE circuit = ? ORDER BY name", circuit)
    return [WireRow(*row) for row in rows]


def versions(tx: Transaction, task: int) -> list[VersionRow]:
    """The versions of a task's code, in the order in which they were first seen."""
    rows = tx.all("SELECT digest, run, seen FROM version WHERE task = ?", task)
    return sorted((VersionRow(*row) for row in rows), key=lambda version: version.seen)


def latest_values(tx: Transaction, wire: int, most: int) -> list[AnnotatedValue]:
    """A wire's last values, the latest first."""
    rows = tx.all(f"SELECT {COLUMNS} {FROM} WHERE v.wire = ? ORDER BY v.position DESC LIMIT ?", wire, most)
    return [from_row(row) for row in rows]


def values_from(tx: Transaction, wire: int, position: int, most: int) -> list[AnnotatedValue]:
    """A wire's values from a position on, in order."""
    rows = tx.all(
        f"SELECT {COLUMNS} {FROM} WHERE v.wire = ? AND v.position >= ? ORDER BY v.position LIMIT ?",
        wire,
        position,
        most,
    )
    return [from_row(row) for row in rows]


def sample(tx: Transaction, wire: int, head: int, most: int) -> list[tuple[str, int, int, str]]:
    """Type, size, arrival and name of a wire's last values, in order."""
    rows = tx.all(
        "SELECT type, size, arrived, name FROM value WHERE wire = ? AND position >= ? ORDER BY position",
        wire,
        head - most,
    )
    return [(row[0], row[1], row[2], row[3]) for row in rows]


def latest_formed(tx: Transaction, task: int, most: int) -> list[FormedRow]:
    """A task's last snapshots, the latest first."""
    rows = tx.all(f"SELECT {FORMED} WHERE s.task = ? ORDER BY s.number DESC LIMIT ?", task, most)
    return [FormedRow(*row) for row in rows]


def cursors(tx: Transaction) -> Cursors:
    """The last row of each table that only grows."""
    last = {}
    for table, key in (
        ("snapshot", "rid"),
        ("execution", "id"),
        ("remark", "id"),
        ("passed", "id"),
        ("refusal", "id"),
    ):
        row = tx.one(f"SELECT coalesce(max({key}), 0) FROM {table}")
        assert row is not None
        last[table] = int(row[0])
    return Cursors(**last)


def formed_after(tx: Transaction, rid: int, most: int) -> list[FormedRow]:
    """Snapshots that formed after this one, in order."""
    rows = tx.all(f"SELECT {FORMED} WHERE s.rid > ? /* settled s */ ORDER BY s.rid LIMIT ?", rid, most)
    return [FormedRow(*row) for row in rows]


def attempts_after(tx: Transaction, id: int, most: int) -> list[AttemptRow]:
    """Attempts that ended after this one, in order."""
    rows = tx.all(f"SELECT {ATTEMPT} WHERE e.id > ? /* settled e */ ORDER BY e.id LIMIT ?", id, most)
    return [AttemptRow(*row) for row in rows]


def remarks_after(tx: Transaction, id: int, most: int) -> list[RemarkRow]:
    """Remarks that came after this one, in order."""
    rows = tx.all(f"SELECT {REMARK} WHERE r.id > ? /* settled r */ ORDER BY r.id LIMIT ?", id, most)
    return [RemarkRow(*row) for row in rows]


def passed_after(tx: Transaction, id: int, most: int) -> list[PassedRow]:
    """What was passed over after this, in order."""
    rows = tx.all(f"SELECT {PASSED} WHERE p.id > ? /* settled p */ ORDER BY p.id LIMIT ?", id, most)
    return [PassedRow(*row) for row in rows]


def refusals_after(tx: Transaction, id: int, most: int) -> list[RefusalRow]:
    """Events that were refused after this one, in order."""
    rows = tx.all(
        "SELECT r.id, c.name, r.wire, r.at, r.value, r.event_source, r.event_id, r.digest, r.kept, r.reason"
        " FROM refusal r JOIN circuit c ON c.id = r.circuit"
        " WHERE r.id > ? /* settled r */ ORDER BY r.id LIMIT ?",
        id,
        most,
    )
    return [RefusalRow(*row) for row in rows]


def wired_after(tx: Transaction, task: int, seq: int) -> list[tuple[str, int, int, str]]:
    """Task, time, generation and policy of `wired` records after record `seq` of a task's log."""
    rows = tx.all(
        "SELECT t.name, l.at, l.body FROM log l JOIN task t ON t.id = l.task"
        " WHERE l.task = ? AND l.seq > ? AND l.kind = 'wired' ORDER BY l.seq",
        task,
        seq,
    )
    found = []
    for name, at, body in rows:
        wiring = json.loads(body)
        found.append((name, at, wiring["generation"], Spec.from_json(wiring["spec"]).policy))
    return found


def log_heads(tx: Transaction, circuit: int) -> dict[int, int]:
    """For each task of a circuit the last record of its log."""
    rows = tx.all("SELECT id, log_head FROM task WHERE circuit = ?", circuit)
    return {row[0]: row[1] for row in rows}


def log_head(tx: Transaction, task: int) -> int:
    """The last record of a task's log."""
    row = tx.one("SELECT log_head FROM task WHERE id = ?", task)
    return int(row[0]) if row else 0


def task_wires(tx: Transaction, name: str) -> list[tuple[int, list[int]]]:
    """Tasks of that name, of whatever circuit, and the wires that each reads or read."""
    found = []
    for circuit in circuits(tx):
        row = tx.one("SELECT id FROM task WHERE circuit = ? AND name = ?", circuit.id, name)
        if row:
            wires = tx.all("SELECT wire FROM link WHERE task = ? ORDER BY wire", row[0])
            found.append((row[0], [wire for (wire,) in wires]))
    return found
