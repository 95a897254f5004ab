"""What passports and visitor logs are told from: read-only statements, each finding its rows by an index.

Nothing here scans a table that grows with the data (a test asks the query planner).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

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
    ReaderRow,
    RemarkRow,
    RunRow,
    Span,
    WindowRow,
)
from koalja_fn.registry.snapshots import feed_runs
from koalja_fn.registry.values import COLUMNS, FROM, from_row

# Behind every prefix: no character of an id is above it.
_AFTER = "\U0010ffff"


def value_ids(tx: Transaction, prefix: str, most: int) -> list[str]:
    """Ids of values that begin so."""
    rows = tx.all(
        "SELECT id FROM value WHERE id >= ? AND id < ? ORDER BY id LIMIT ?", prefix, prefix + _AFTER, most
    )
    return [row[0] for row in rows]


def snapshot_ids(tx: Transaction, prefix: str, most: int) -> list[str]:
    """Ids of snapshots that begin so."""
    rows = tx.all(
        "SELECT id FROM snapshot WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        prefix,
        prefix + _AFTER,
        most,
    )
    return [row[0] for row in rows]


def with_digest(tx: Transaction, digest: str, most: int) -> list[AnnotatedValue]:
    """Values with this payload, the latest first."""
    # The index has twelve digits; a comparison of all of them as well would keep SQLite from using it.
    rows = tx.all(
        f"SELECT {COLUMNS} {FROM} WHERE substr(v.digest, 8, 12) = ? ORDER BY v.arrived DESC LIMIT ?",
        digest[7:19],
        most,
    )
    return [value for value in map(from_row, rows) if value.digest == digest]


def formed(tx: Transaction, rid: int) -> FormedRow | None:
    """The snapshot of that row."""
    return _formed(tx.one(f"SELECT {FORMED} WHERE s.rid = ?", rid))


def formed_by_id(tx: Transaction, id: str) -> FormedRow | None:
    """The snapshot of that id."""
    return _formed(tx.one(f"SELECT {FORMED} WHERE s.id = ?", id))


def formed_as(tx: Transaction, task: int, number: int) -> FormedRow | None:
    """A task's snapshot of that number, from 0."""
    return _formed(tx.one(f"SELECT {FORMED} WHERE s.task = ? AND s.number = ?", task, number))


def dead(tx: Transaction, task: int, most: int) -> list[FormedRow]:
    """A task's dead letters, the oldest first."""
    rows = tx.all(
        f"SELECT {FORMED} WHERE s.task = ? AND s.state = 'dead' ORDER BY s.number LIMIT ?", task, most
    )
    return [FormedRow(*row) for row in rows]


def running(tx: Transaction, task: int, most: int) -> list[FormedRow]:
    """A task's snapshots that are being executed, by the end of their lease."""
    rows = tx.all(
        f"SELECT {FORMED} WHERE s.task = ? AND s.state = 'running' ORDER BY s.lease LIMIT ?", task, most
    )
    return [FormedRow(*row) for row in rows]


def windows(tx: Transaction, rid: int) -> list[WindowRow]:
    """A snapshot's inputs, in the order of the wiring."""
    rows = tx.all(
        "SELECT task, input, wire, first, last, fresh FROM snapshot_input WHERE snapshot = ? ORDER BY ord",
        rid,
    )
    return [WindowRow(*row) for row in rows]


def runs(tx: Transaction, window: WindowRow) -> list[RunRow]:
    """The positions behind a window, in order: one run where it is a range of one wire."""
    if window.wire is not None:
        found: Sequence[tuple[int, int, int]] = [(window.wire, window.first, window.last)]
    else:
        found = list(feed_runs(tx, window.task, window.input, window.first, window.last))
    names = {wire: wire_name(tx, wire) for wire, _, _ in found}
    return [RunRow(wire, names[wire], first, last) for wire, first, last in found]


def wire_name(tx: Transaction, wire: int) -> str:
    """The wire's name."""
    row = tx.one("SELECT name FROM wire WHERE id = ?", wire)
    assert row is not None
    return str(row[0])


def wire_row(tx: Transaction, circuit: str, name: str) -> int | None:
    """Row of a circuit's wire."""
    row = tx.one(
        "SELECT w.id FROM circuit c JOIN wire w ON w.circuit = c.id WHERE c.name = ? AND w.name = ?",
        circuit,
        name,
    )
    return row[0] if row else None


def attempts(tx: Transaction, rid: int) -> list[AttemptRow]:
    """What was tried with a snapshot, in order."""
    return [AttemptRow(*row) for row in tx.all(f"SELECT {ATTEMPT} WHERE e.snapshot = ? ORDER BY e.id", rid)]


def latest_attempts(tx: Transaction, task: int, most: int) -> list[AttemptRow]:
    """A task's last attempts, the latest first."""
    rows = tx.all(f"SELECT {ATTEMPT} WHERE e.task = ? ORDER BY e.ended DESC, e.id DESC LIMIT ?", task, most)
    return [AttemptRow(*row) for row in rows]


def remarks(tx: Transaction, rid: int) -> list[RemarkRow]:
    """What was remarked during a snapshot, in order."""
    return [RemarkRow(*row) for row in tx.all(f"SELECT {REMARK} WHERE r.snapshot = ? ORDER BY r.id", rid)]


def latest_remarks(tx: Transaction, task: int, most: int) -> list[RemarkRow]:
    """A task's last remarks, the latest first."""
    rows = tx.all(f"SELECT {REMARK} WHERE r.task = ? ORDER BY r.at DESC, r.id DESC LIMIT ?", task, most)
    return [RemarkRow(*row) for row in rows]


def latest_anomalies(tx: Transaction, task: int, most: int) -> list[RemarkRow]:
    """A task's last anomalies, the latest first."""
    rows = tx.all(
        f"SELECT {REMARK} WHERE r.task = ? AND r.kind = 'anomaly' ORDER BY r.at DESC, r.id DESC LIMIT ?",
        task,
        most,
    )
    return [RemarkRow(*row) for row in rows]


def passed(tx: Transaction, task: int, input: str, first: int, last: int, most: int) -> list[PassedRow]:
    """Ranges that were passed over and end among indexes first to last of an input."""
    rows = tx.all(
        f"SELECT {PASSED} WHERE p.task = ? AND p.input = ? AND p.last BETWEEN ? AND ?"
        " ORDER BY p.last LIMIT ?",
        task,
        input,
        first,
        last,
        most,
    )
    return [PassedRow(*row) for row in rows]


def latest_passed(tx: Transaction, task: int, input: str, most: int) -> list[PassedRow]:
    """What was passed over last at an input, the latest first."""
    rows = tx.all(
        f"SELECT {PASSED} WHERE p.task = ? AND p.input = ? ORDER BY p.last DESC LIMIT ?", task, input, most
    )
    return [PassedRow(*row) for row in rows]


def run_line(tx: Transaction, task: int, digest: str) -> str:
    """The run line of a version of a task's code; empty where it is not on record."""
    row = tx.one("SELECT run FROM version WHERE task = ? AND digest = ?", task, digest)
    return str(row[0]) if row else ""


def readers(tx: Transaction, wire: int) -> list[ReaderRow]:
    """Tasks that read a wire, retired ones too, by name."""
    rows = tx.all(
        "SELECT t.id, t.name, l.input, l.start, l.position, l.retired, t.generation, t.spec"
        " FROM link l JOIN task t ON t.id = l.task WHERE l.wire = ? ORDER BY t.name",
        wire,
    )
    return [ReaderRow(*row) for row in rows]


def specs(tx: Transaction, task: int) -> list[str]:
    """All specifications that a task ever had. Reads its whole log: for rewired tasks only."""
    rows = tx.all("SELECT body FROM log WHERE task = ? AND kind = 'wired' ORDER BY seq", task)
    return [json.loads(row[0])["spec"] for row in rows if row[0]]


def containing(
    tx: Transaction, task: int, wire: int, position: int, widest: int, most: int
) -> list[FormedRow]:
    """A task's snapshots with the value at a position; no window is wider than `widest`."""
    rows = tx.all(
        "SELECT snapshot FROM snapshot_input WHERE task = ? AND wire = ?"
        " AND last BETWEEN ? AND ? AND first <= ? GROUP BY snapshot ORDER BY min(last), snapshot LIMIT ?",
        task,
        wire,
        position,
        position + widest - 1,
        position,
        most,
    )
    return _formed_rows(tx, rows)


def containing_index(
    tx: Transaction, task: int, input: str, index: int, widest: int, most: int
) -> list[FormedRow]:
    """A task's snapshots with the value that an input counts as `index`."""
    rows = tx.all(
        "SELECT snapshot FROM snapshot_input WHERE task = ? AND input = ? AND wire IS NULL"
        " AND last BETWEEN ? AND ? AND first <= ? GROUP BY snapshot ORDER BY min(last), snapshot LIMIT ?",
        task,
        input,
        index,
        index + widest - 1,
        index,
        most,
    )
    return _formed_rows(tx, rows)


def indexes(tx: Transaction, task: int, wire: int, position: int) -> list[tuple[str, int]]:
    """As what the task's inputs counted the value at a position, where they count admissions."""
    # Runs don't overlap but after a rewiring, when what had not left a window is admitted once more.
    rows = tx.all(
        "SELECT input, first, count, position FROM feed WHERE wire = ? AND position <= ? AND task = ?"
        " ORDER BY position DESC LIMIT 16",
        wire,
        position,
        task,
    )
    return [
        (name, first + position - begin) for name, first, count, begin in rows if position < begin + count
    ]


def ids_between(tx: Transaction, wire: int, first: int, last: int) -> list[str]:
    """Ids of the values at positions first to last of a wire, in order."""
    rows = tx.all(
        "SELECT id FROM value WHERE wire = ? AND position BETWEEN ? AND ? ORDER BY position",
        wire,
        first,
        last,
    )
    return [row[0] for row in rows]


def span(tx: Transaction, wire: int, first: int, last: int) -> Span:
    """Count, bytes, times and makers of the values at positions first to last."""
    row = tx.one(
        "SELECT count(*), coalesce(sum(size), 0), coalesce(min(arrived), 0), coalesce(max(arrived), 0),"
        " count(DISTINCT snapshot) FROM value WHERE wire = ? AND position BETWEEN ? AND ?",
        wire,
        first,
        last,
    )
    assert row is not None
    return Span(*row)


def made(tx: Transaction, rid: int, most: int) -> list[AnnotatedValue]:
    """What a snapshot put on wires, in the order in which it was placed; at most `most`."""
    rows = tx.all(
        f"SELECT {COLUMNS} {FROM} WHERE v.snapshot = ? ORDER BY w.name, v.position LIMIT ?", rid, most
    )
    return [from_row(row) for row in rows]


def _formed(row: tuple[Any, ...] | None) -> FormedRow | None:
    return FormedRow(*row) if row else None


def _formed_rows(tx: Transaction, rows: Sequence[tuple[Any, ...]]) -> list[FormedRow]:
    return [row for (rid, *_) in rows if (row := formed(tx, rid)) is not None]
