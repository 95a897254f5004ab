"""Statements about circuits, tasks, their links and their logs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from koalja_fn.registry.registry import Transaction


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task as the registry knows it; `state` is the core's after record `state_at` of the log.

    `latest` is the time of the log's last record.
    """

    id: int
    name: str
    generation: int
    epoch: int
    spec: str
    state: str
    state_at: int
    log_head: int
    formed: int
    due: int | None
    retired: bool
    latest: int


@dataclass(frozen=True, slots=True)
class LinkRow:
    """A reader of a wire: `position` is the next value to read, `head` how many there are."""

    wire: int
    name: str
    input: str
    start: int
    position: int
    head: int
    used: int
    settled: int
    retired: bool


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record of a task's log; `wire` is the wire's name where there is one, `row` its row when read."""

    seq: int
    kind: str
    at: int
    wire: str | None = None
    first: int | None = None
    last: int | None = None
    body: str | None = None
    row: int | None = None


_TASK = "id, name, generation, epoch, spec, state, state_at, log_head, formed, due, retired, latest"
_LINKS = (
    "SELECT l.wire, w.name, l.input, l.start, l.position, w.head, l.used, l.settled, l.retired"
    " FROM link l JOIN wire w ON w.id = l.wire WHERE l.task = ? AND l.retired <= ? ORDER BY w.name"
)


def circuit_id(tx: Transaction, name: str) -> int | None:
    """Row of the circuit of that name."""
    row = tx.one("SELECT id FROM circuit WHERE name = ?", name)
    return row[0] if row else None


def keep_circuit(tx: Transaction, name: str, wiring: str, now: int) -> int:
    """Row of the circuit, made if need be; `wiring` is its text."""
    tx.do(
        "INSERT INTO circuit (name, created, wiring) VALUES (?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET wiring = excluded.wiring",
        name,
        now,
        wiring,
    )
    found = circuit_id(tx, name)
    assert found is not None
    return found


def keep_model(tx: Transaction, circuit: int, model: str) -> None:
    """Keep the circuit as it was installed, as JSON; what differs from before counts as an install."""
    tx.do(
        "UPDATE circuit SET model = ?, installs = installs + 1 WHERE id = ? AND model <> ?",
        model,
        circuit,
        model,
    )


def model(tx: Transaction, circuit: int) -> str:
    """The circuit as it was installed last, as JSON; empty for one of an older version."""
    row = tx.one("SELECT model FROM circuit WHERE id = ?", circuit)
    return str(row[0]) if row else ""


def wires(tx: Transaction, circuit: int) -> dict[str, int]:
    """Rows of all wires of a circuit, by name."""
    rows = tx.all("SELECT name, id FROM wire WHERE circuit = ?", circuit)
    return {str(name): int(row) for name, row in rows}


def keep_wire(tx: Transaction, circuit: int, name: str) -> int:
    """Row of the wire, made if need be."""
    tx.do("INSERT INTO wire (circuit, name) VALUES (?, ?) ON CONFLICT DO NOTHING", circuit, name)
    row = tx.one("SELECT id FROM wire WHERE circuit = ? AND name = ?", circuit, name)
    assert row is not None
    return int(row[0])


def by_name(tx: Transaction, circuit: int, name: str) -> TaskRow | None:
    """The task of that name, retired or not."""
    row = tx.one(f"SELECT {_TASK} FROM task WHERE circuit = ? AND name = ?", circuit, name)
    return TaskRow(*row) if row else None


def lock(tx: Transaction, task: int) -> TaskRow:
    """The task's row, and its lock, as `hold`."""
    return lock_with_links(tx, task)[0]


def lock_with_links(tx: Transaction, task: int) -> tuple[TaskRow, list[LinkRow]]:
    """The task's row, its links that are in use, and its lock, as `hold`."""
    rows = tx.later(f"SELECT {_TASK} FROM task WHERE id = ? /* lock */", task)
    links = tx.later(_LINKS, task, 0)
    (row,) = rows()
    return TaskRow(*row), [LinkRow(*link) for link in links()]


def hold(tx: Transaction, task: int) -> None:
    """Take a task's lock: until the transaction ends nobody else changes its log, links or snapshots.

    Whoever takes several does so in the order of the tasks' rows, before any lock of a wire. What was read
    before may have changed meanwhile.
    """
    tx.do("SELECT id FROM task WHERE id = ? /* lock */", task)


def hold_all(tx: Transaction, tasks: Iterable[int]) -> None:
    """Take the locks of several tasks, in the order of their rows."""
    wanted = sorted(set(tasks))
    if wanted:
        places = ", ".join("?" * len(wanted))
        tx.all(f"SELECT id FROM task WHERE id IN ({places}) ORDER BY id /* lock */", *wanted)


def of_circuit(tx: Transaction, circuit: int) -> list[TaskRow]:
    """All tasks of a circuit, retired ones too, by name."""
    return [
        TaskRow(*row) for row in tx.all(f"SELECT {_TASK} FROM task WHERE circuit = ? ORDER BY name", circuit)
    ]


def hold_circuit(tx: Transaction, circuit: int) -> int:
    """Take the locks of all tasks of a circuit, retired ones too; return how many there are."""
    rows = tx.all("SELECT id FROM task WHERE circuit = ? ORDER BY id /* lock */", circuit)
    return len(rows)


def links(tx: Transaction, task: int, *, retired: bool = False) -> list[LinkRow]:
    """The task's links; with `retired` those too that are kept for its return."""
    return [LinkRow(*row) for row in tx.all(_LINKS, task, int(retired))]


def append(tx: Transaction, task: int, records: Iterable[LogRecord], wires: Mapping[str, int]) -> None:
    """Add records to the task's log; `wires` maps names to rows."""
    tx.many(
        "INSERT INTO log (task, seq, kind, at, wire, first, last, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (task, r.seq, r.kind, r.at, wires[r.wire] if r.wire else None, r.first, r.last, r.body)
            for r in records
        ],
    )


def log_after(tx: Transaction, task: int, seq: int) -> list[LogRecord]:
    """Records of the log after record `seq`, in order."""
    rows = tx.all(
        "SELECT l.seq, l.kind, l.at, w.name, l.first, l.last, l.body, l.wire FROM log l"
        " LEFT JOIN wire w ON w.id = l.wire WHERE l.task = ? AND l.seq > ? ORDER BY l.seq",
        task,
        seq,
    )
    return [LogRecord(*row) for row in rows]


def soonest(tx: Transaction, circuit: int) -> int | None:
    """The earliest time at which time alone may do something to a task of the circuit."""
    row = tx.one("SELECT min(due) FROM task WHERE circuit = ? AND retired = 0", circuit)
    return row[0] if row else None


def wire_row(tx: Transaction, task: int, name: str) -> int:
    """Row of a wire of the task's circuit; a lane has the wires of its own, and else its circuit's."""
    row = tx.one(
        "SELECT w.id FROM wire w JOIN task t ON t.circuit = w.circuit WHERE t.id = ? AND w.name = ?",
        task,
        name,
    ) or tx.one(
        "SELECT w.id FROM wire w JOIN recompute r ON r.circuit = w.circuit JOIN task t ON t.circuit = r.world"
        " WHERE t.id = ? AND w.name = ?",
        task,
        name,
    )
    assert row is not None
    return int(row[0])


def advance(
    tx: Transaction, task: int, head: int, formed: int, due: int | None, state: str | None, latest: int
) -> None:
    """Record how far the log and the snapshots have come; `state` where it is to be kept."""
    if state is None:
        tx.do(
            "UPDATE task SET log_head = ?, formed = ?, due = ?, latest = ? WHERE id = ?",
            head,
            formed,
            due,
            latest,
            task,
        )
    else:
        tx.do(
            "UPDATE task SET log_head = ?, formed = ?, due = ?, latest = ?, state = ?, state_at = ?"
            " WHERE id = ?",
            head,
            formed,
            due,
            latest,
            state,
            head,
            task,
        )


def move_link(tx: Transaction, task: int, wire: int, position: int, used: int, settled: int) -> None:
    """Move a link's position and its input's counts."""
    tx.do(
        "UPDATE link SET position = ?, used = ?, settled = ? WHERE task = ? AND wire = ?",
        position,
        used,
        settled,
        task,
        wire,
    )


def settle(tx: Transaction, task: int, wire: int, count: int) -> None:
    """Count values of an input that are in a finished snapshot now (or, below 0, no longer)."""
    tx.do("UPDATE link SET settled = settled + ? WHERE task = ? AND wire = ?", count, task, wire)


def settle_windows(tx: Transaction, task: int, snapshot: int, sign: int) -> None:
    """Count the new values of a snapshot's windows that are ranges of a wire."""
    tx.do(
        "UPDATE link SET settled = settled + ? * (SELECT sum(i.fresh) FROM snapshot_input i"
        " WHERE i.snapshot = ? AND i.wire = link.wire) WHERE task = ? AND wire IN"
        " (SELECT i.wire FROM snapshot_input i WHERE i.snapshot = ? AND i.fresh > 0)",
        sign,
        snapshot,
        task,
        snapshot,
    )


def settle_admissions(tx: Transaction, task: int, wire: int, snapshot: int, name: str, sign: int) -> None:
    """Count the new values of a snapshot's input that counts admissions, at the input's first wire."""
    tx.do(
        "UPDATE link SET settled = settled + ? * (SELECT sum(i.fresh) FROM snapshot_input i"
        " WHERE i.snapshot = ? AND i.input = ? AND i.wire IS NULL) WHERE task = ? AND wire = ? AND EXISTS"
        " (SELECT 1 FROM snapshot_input i WHERE i.snapshot = ? AND i.input = ? AND i.wire IS NULL"
        " AND i.fresh > 0)",
        sign,
        snapshot,
        name,
        task,
        wire,
        snapshot,
        name,
    )


def pass_over(
    tx: Transaction,
    task: int,
    at: int,
    name: str,
    wire: int | None,
    first: int,
    last: int,
    reason: str,
    text: str = "",
) -> None:
    """Record that no snapshot will have these values of an input."""
    tx.do(
        "INSERT INTO passed (task, at, input, wire, first, last, reason, text)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        task,
        at,
        name,
        wire,
        first,
        last,
        reason,
        text,
    )


def insert(
    tx: Transaction, circuit: int, name: str, spec: str, state: str, due: int | None, latest: int = 0
) -> int:
    """Add a task in its first generation, whose log has one record, of time `latest`, still to be written."""
    row = tx.one(
        "INSERT INTO task (circuit, name, generation, spec, state, state_at, log_head, due, latest)"
        " VALUES (?, ?, 1, ?, ?, 1, 1, ?, ?) RETURNING id",
        circuit,
        name,
        spec,
        state,
        due,
        latest,
    )
    assert row is not None
    return int(row[0])


def rewire(
    tx: Transaction,
    task: int,
    generation: int,
    spec: str,
    state: str,
    head: int,
    due: int | None,
    latest: int,
) -> None:
    """Put a new specification in force, from record `head` of the log on, which is of time `latest`."""
    tx.do(
        "UPDATE task SET generation = ?, spec = ?, state = ?, state_at = ?, log_head = ?, due = ?, latest = ?"
        " WHERE id = ?",
        generation,
        spec,
        state,
        head,
        head,
        due,
        latest,
        task,
    )


def retire(tx: Transaction, task: int, *, retired: bool) -> None:
    """Take a task out of the circuit, or put it back; all that it has is kept."""
    tx.do("UPDATE task SET retired = ? WHERE id = ?", int(retired), task)


def schedule(tx: Transaction, task: int, due: int | None) -> None:
    """Say when time alone may do something to the task."""
    tx.do("UPDATE task SET due = ? WHERE id = ?", due, task)


def keep_link(tx: Transaction, task: int, wire: int, name: str, start: int, used: int) -> None:
    """Make a link that begins at position `start`."""
    tx.do(
        "INSERT INTO link (task, wire, input, start, position, used) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (task, wire) DO UPDATE SET input = excluded.input, position = excluded.position,"
        " used = excluded.used, retired = 0",
        task,
        wire,
        name,
        start,
        start,
        used,
    )


def retire_link(tx: Transaction, task: int, wire: int, position: int) -> None:
    """Keep a link for the day the task reads the wire again, from `position` on."""
    tx.do("UPDATE link SET retired = 1, position = ? WHERE task = ? AND wire = ?", position, task, wire)


def recount(tx: Transaction, task: int, wire: int, settled: int) -> None:
    """Set how many values of the input are settled."""
    tx.do("UPDATE link SET settled = ? WHERE task = ? AND wire = ?", settled, task, wire)


def head(tx: Transaction, wire: int) -> int:
    """How many values the wire has."""
    row = tx.one("SELECT head FROM wire WHERE id = ?", wire)
    assert row is not None
    return int(row[0])


def sunk(tx: Transaction, wire: int) -> int:
    """How many of the wire's values its sink has written."""
    row = tx.one("SELECT sunk FROM wire WHERE id = ?", wire)
    assert row is not None
    return int(row[0])


def move_sink(tx: Transaction, wire: int, sunk: int) -> None:
    """Record that the wire's sink has written so many values, unless another one has written more."""
    tx.do("UPDATE wire SET sunk = ? WHERE id = ? AND sunk < ?", sunk, wire, sunk)
