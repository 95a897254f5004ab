"""Statements of recompute: lanes, what they have come to, and what took the place of what."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from koalja_fn.registry import snapshots
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.snapshots import Stored
from koalja_fn.registry.tasks import LogRecord

WORLD = "~"
"""In the name of a circuit row: what is behind it is a lane, or what a lane took the place of."""


@dataclass(frozen=True, slots=True)
class Recompute:
    """A recompute: `state` is open, done or given up; `world` the circuit row of its lane."""

    id: int
    circuit: int
    epoch: int
    world: int
    begun: int
    ended: int | None
    state: str
    cut: int
    options: Mapping[str, Any]
    told: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LaneTask:
    """A task of a lane and the one whose log it replays, up to `seq` so far, and up to `until` for now."""

    name: str
    old: int
    new: int
    seq: int
    until: int


@dataclass(frozen=True, slots=True)
class LaneWire:
    """A wire of a lane and the one whose values it takes the places of."""

    name: str
    old: int
    new: int
    looked: int
    until: int


@dataclass(frozen=True, slots=True)
class LaneRun:
    """Neighbouring values of a lane's wire that share a place (migration 0012)."""

    first: int
    count: int
    slot: int
    between: bool
    at: int


@dataclass(frozen=True, slots=True)
class Pair:
    """A snapshot of a lane and its counterpart: rows, states, and when the old one was finished.

    `old` is None where it has none.
    """

    rid: int
    id: str
    number: int
    state: str
    formed: int
    due: int
    old: int | None
    old_id: str
    old_state: str
    old_formed: int
    old_finished: int


@dataclass(frozen=True, slots=True)
class Superseded:
    """One thing took the place of another; `how` as in migration 0012, `epoch` says by which recompute."""

    epoch: int
    at: int
    kind: str
    how: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Replaced:
    """What a snapshot took the place of: how, by a recompute with which options, the old one's row if any."""

    how: str
    options: Mapping[str, Any]
    old: int | None


@dataclass(frozen=True, slots=True)
class Charge:
    """A claimed snapshot of an open lane that another process is to execute: of which task, and its wires."""

    snapshot: Stored
    task: str
    recompute: Recompute
    wires: Mapping[str, int]


_RECOMPUTE = "id, circuit, epoch, world, begun, ended, state, cut, options, told"


def insert(tx: Transaction, circuit: int, now: int, options: Mapping[str, Any]) -> Recompute:
    """Begin one: its epoch is the next of its circuit, its world is made."""
    row = tx.one("SELECT max(epoch) FROM recompute WHERE circuit = ?", circuit)
    epoch = 1 + int((row[0] if row else 0) or 0)
    world = tx.one(
        "INSERT INTO circuit (name, created, wiring, model) SELECT name || ?, ?, wiring, model FROM circuit"
        " WHERE id = ? RETURNING id",
        f"{WORLD}{epoch}",
        now,
        circuit,
    )
    assert world is not None
    made = tx.one(
        "INSERT INTO recompute (circuit, epoch, world, begun, state, cut, options)"
        f" VALUES (?, ?, ?, ?, 'open', ?, ?) RETURNING {_RECOMPUTE}",
        circuit,
        epoch,
        world[0],
        now,
        now,
        json.dumps(dict(options), sort_keys=True),
    )
    assert made is not None
    return _recompute(made)


def unfinished(tx: Transaction, circuit: int) -> Recompute | None:
    """The circuit's recompute that is not at its end."""
    row = tx.one(f"SELECT {_RECOMPUTE} FROM recompute WHERE circuit = ? AND state = 'open'", circuit)
    return _recompute(row) if row else None


def all_of(tx: Transaction, circuit: int) -> list[Recompute]:
    """All recomputes of a circuit, in order."""
    rows = tx.all(f"SELECT {_RECOMPUTE} FROM recompute WHERE circuit = ? ORDER BY epoch", circuit)
    return [_recompute(row) for row in rows]


def _recompute(row: Sequence[Any]) -> Recompute:
    named, circuit, epoch, world, begun, ended, state, cut, options, told = row
    return Recompute(
        named, circuit, epoch, world, begun, ended, state, cut, json.loads(options), json.loads(told)
    )


def end(tx: Transaction, recompute: int, state: str, now: int, told: Mapping[str, Any]) -> None:
    """Bring a recompute to an end."""
    tx.do(
        "UPDATE recompute SET state = ?, ended = ?, told = ? WHERE id = ?",
        state,
        now,
        json.dumps(dict(told)),
        recompute,
    )


@dataclass(frozen=True, slots=True)
class Tenure:
    """Who drives a recompute, until when (µs), and by which fence; `owner` is empty where nobody does."""

    state: str
    owner: str
    lease: int
    fence: int


def hold(tx: Transaction, recompute: int) -> Tenure:
    """Take a recompute's lock, before those of any task: until the transaction ends nobody else drives it."""
    row = tx.one("SELECT state, owner, lease, fence FROM recompute WHERE id = ? /* lock */", recompute)
    assert row is not None
    return Tenure(*row)


def drive(tx: Transaction, recompute: int, owner: str, lease: int, fence: int) -> None:
    """Record who drives a recompute until when; nobody, where `owner` is empty."""
    tx.do("UPDATE recompute SET owner = ?, lease = ?, fence = ? WHERE id = ?", owner, lease, fence, recompute)


def hold_back(tx: Transaction, tasks: Sequence[LaneTask], until: int) -> None:
    """Have no snapshot of the live tasks claimed before a time; their locks are held."""
    for task in tasks:
        tx.do("UPDATE task SET held = ? WHERE id = ?", until, task.old)


def under_way(tx: Transaction, recompute: int) -> bool:
    """Whether a live task has a snapshot that is being executed, or was since the lane's was looked at."""
    row = tx.one(
        "SELECT 1 FROM lane_task l JOIN snapshot o ON o.task = l.old AND o.state = 'running'"
        " WHERE l.recompute = ? LIMIT 1",
        recompute,
    )
    return row is not None


def unread(tx: Transaction, recompute: int) -> int:
    """How many records of live logs, and values from outside on the lane's wires, the lane has not read."""
    records = tx.one(
        "SELECT coalesce(sum(t.log_head - l.seq), 0) FROM lane_task l JOIN task t ON t.id = l.old"
        " WHERE l.recompute = ?",
        recompute,
    )
    values = tx.one(
        "SELECT coalesce(sum(w.head - l.looked), 0) FROM lane_wire l JOIN wire w ON w.id = l.old"
        " WHERE l.recompute = ?",
        recompute,
    )
    assert records is not None
    assert values is not None
    return int(records[0]) + int(values[0])


def unsettled(tx: Transaction, recompute: int) -> int:
    """How many open snapshots of the lane have counterparts that are finished or running, or have none."""
    row = tx.one(
        "SELECT count(*) FROM lane_task l"
        " JOIN snapshot s ON s.task = l.new AND s.state IN ('ready', 'running')"
        " LEFT JOIN supersession p ON p.new = s.id AND p.new <> '' AND p.recompute = l.recompute"
        " LEFT JOIN snapshot o ON o.id = p.old"
        " WHERE l.recompute = ? AND (o.rid IS NULL OR o.state <> 'ready')",
        recompute,
    )
    assert row is not None
    return int(row[0])


def add_task(tx: Transaction, recompute: int, place: int, old: int, world: int, epoch: int) -> int:
    """A task for the lane: it has nothing yet but its name, and what usually happens in it."""
    row = tx.one(
        "INSERT INTO task (circuit, name, generation, epoch, spec, state, state_at, log_head, usual, retired)"
        " SELECT ?, name, 1, ?, spec, '', 0, 0, usual, 0 FROM task WHERE id = ? RETURNING id",
        world,
        epoch,
        old,
    )
    assert row is not None
    tx.do(
        "INSERT INTO lane_task (recompute, place, old, new) VALUES (?, ?, ?, ?)",
        recompute,
        place,
        old,
        row[0],
    )
    tx.do(
        "INSERT INTO version (task, digest, run, seen)"
        " SELECT ?, digest, run, seen FROM version WHERE task = ? ORDER BY id",
        row[0],
        old,
    )
    return int(row[0])


def add_wire(tx: Transaction, recompute: int, old: int, world: int) -> int:
    """A wire for the lane, of the old one's name."""
    row = tx.one(
        "INSERT INTO wire (circuit, name) SELECT ?, name FROM wire WHERE id = ? RETURNING id", world, old
    )
    assert row is not None
    tx.do("INSERT INTO lane_wire (recompute, old, new) VALUES (?, ?, ?)", recompute, old, row[0])
    return int(row[0])


def lane_tasks(tx: Transaction, recompute: int) -> list[LaneTask]:
    """The lane's tasks, producers before readers."""
    rows = tx.all(
        "SELECT t.name, l.old, l.new, l.seq, l.until FROM lane_task l JOIN task t ON t.id = l.new"
        " WHERE l.recompute = ? ORDER BY l.place",
        recompute,
    )
    return [LaneTask(*row) for row in rows]


def lane_wires(tx: Transaction, recompute: int) -> list[LaneWire]:
    """The lane's wires, by name."""
    rows = tx.all(
        "SELECT w.name, l.old, l.new, l.looked, l.until FROM lane_wire l JOIN wire w ON w.id = l.new"
        " WHERE l.recompute = ? ORDER BY w.name",
        recompute,
    )
    return [LaneWire(*row) for row in rows]


def cut(tx: Transaction, recompute: int, now: int) -> None:
    """Record how far the lane is to come for now: up to where the live tasks and wires are."""
    tx.do("UPDATE recompute SET cut = ? WHERE id = ?", now, recompute)
    tx.do(
        "UPDATE lane_task SET until = (SELECT log_head FROM task WHERE task.id = lane_task.old)"
        " WHERE recompute = ?",
        recompute,
    )
    tx.do(
        "UPDATE lane_wire SET until = (SELECT head FROM wire WHERE wire.id = lane_wire.old)"
        " WHERE recompute = ?",
        recompute,
    )


def replayed(tx: Transaction, recompute: int, new: int, seq: int) -> None:
    """Record how far a task's log was replayed."""
    tx.do("UPDATE lane_task SET seq = ? WHERE recompute = ? AND new = ?", seq, recompute, new)


def looked(tx: Transaction, recompute: int, new: int, position: int) -> None:
    """Record up to where values from outside have come to a wire."""
    tx.do("UPDATE lane_wire SET looked = ? WHERE recompute = ? AND new = ?", position, recompute, new)


def log_between(tx: Transaction, task: int, after: int, until: int, most: int) -> list[LogRecord]:
    """At most `most` records of a log behind record `after`, up to record `until`."""
    rows = tx.all(
        "SELECT l.seq, l.kind, l.at, w.name, l.first, l.last, l.body, l.wire FROM log l"
        " LEFT JOIN wire w ON w.id = l.wire WHERE l.task = ? AND l.seq > ? AND l.seq <= ?"
        " ORDER BY l.seq LIMIT ?",
        task,
        after,
        until,
        most,
    )
    return [LogRecord(*row) for row in rows]


def add_run(tx: Transaction, wire: int, run: LaneRun) -> None:
    """Record the place of values that were put on a lane's wire."""
    tx.do(
        "INSERT INTO lane_run (wire, first, count, slot, gap, at) VALUES (?, ?, ?, ?, ?, ?)",
        wire,
        run.first,
        run.count,
        run.slot,
        int(run.between),
        run.at,
    )


def runs_after(tx: Transaction, wire: int, position: int, most: int) -> list[LaneRun]:
    """The places of the values of a lane's wire from a position on, at most `most` of them."""
    rows = tx.all(
        "SELECT first, count, slot, gap, at FROM lane_run WHERE wire = ? AND first >= coalesce("
        "(SELECT max(first) FROM lane_run WHERE wire = ? AND first <= ?), 0) ORDER BY first LIMIT ?",
        wire,
        wire,
        position,
        most + 1,
    )
    found = [LaneRun(row[0], row[1], row[2], bool(row[3]), row[4]) for row in rows]
    return [run for run in found if run.first + run.count > position][:most]


def count_before(tx: Transaction, wire: int, slot: int, at: int) -> int:
    """How many values of a lane's wire take places before a position of the old one, empty at `at`."""
    low, high = 0, 0
    last = last_run(tx, wire)
    if last is None:
        return 0
    high = last.first + last.count
    while low < high:  # places grow with positions
        middle = (low + high) // 2
        (run,) = runs_after(tx, wire, middle, 1)
        if run.slot < slot or (run.slot == slot and run.between and run.at <= at):
            low = run.first + run.count
        else:
            high = max(low, run.first)
    return low


def last_run(tx: Transaction, wire: int) -> LaneRun | None:
    """The last place on a lane's wire."""
    row = tx.one(
        "SELECT first, count, slot, gap, at FROM lane_run WHERE wire = ? ORDER BY first DESC LIMIT 1",
        wire,
    )
    return LaneRun(row[0], row[1], row[2], bool(row[3]), row[4]) if row else None


def position_at(tx: Transaction, wire: int, at: int) -> int:
    """How many values had arrived on a wire before a time."""
    row = tx.one("SELECT head FROM wire WHERE id = ?", wire)
    low, high = 0, int(row[0]) if row else 0
    while low < high:  # values of a wire stand in the order of their times
        middle = (low + high) // 2
        there = tx.one("SELECT arrived FROM value WHERE wire = ? AND position = ?", wire, middle)
        if there is not None and there[0] < at:
            low = middle + 1
        else:
            high = middle
    return low


def first_output(tx: Transaction, wire: int, snapshot: int) -> tuple[int, int] | None:
    """Position and time of the first value that a snapshot put on a wire."""
    row = tx.one(
        "SELECT position, arrived FROM value WHERE snapshot = ? AND wire = ? ORDER BY position LIMIT 1",
        snapshot,
        wire,
    )
    return (int(row[0]), int(row[1])) if row else None


def outsiders(tx: Transaction, wire: int, task: int, first: int, until: int) -> list[int]:
    """Positions from `first` below `until` of a wire whose values another than the task has put there."""
    rows = tx.all(
        "SELECT v.position FROM value v LEFT JOIN snapshot s ON s.rid = v.snapshot WHERE v.wire = ?"
        " AND v.position >= ? AND v.position < ? AND (s.task IS NULL OR s.task <> ?) ORDER BY v.position",
        wire,
        first,
        until,
        task,
    )
    return [row[0] for row in rows]


def pairs(tx: Transaction, recompute: int, task: int) -> list[Pair]:
    """The lane's snapshots of a task that are ready or claimed, in order, with their counterparts."""
    rows = tx.all(
        "SELECT s.rid, s.id, s.number, s.state, s.formed, s.due, o.rid, coalesce(o.id, ''),"
        " coalesce(o.state, ''), coalesce(o.formed, 0), coalesce(o.finished, 0)"
        " FROM snapshot s LEFT JOIN supersession p ON p.new = s.id AND p.new <> '' AND p.recompute = ?"
        " LEFT JOIN snapshot o ON o.id = p.old"
        " WHERE s.task = ? AND s.state IN ('ready', 'running') ORDER BY s.number",
        recompute,
        task,
    )
    return [Pair(*row) for row in rows]


def supersede(tx: Transaction, recompute: int, kind: str, rows: Iterable[tuple[str, str, str]]) -> None:
    """Record what takes the place of what: how, old id, new id."""
    tx.many(
        "INSERT INTO supersession (recompute, kind, how, old, new) VALUES (?, ?, ?, ?, ?)",
        [(recompute, kind, how, old, new) for how, old, new in rows],
    )


def resolve(tx: Transaction, recompute: int, new: str, how: str) -> None:
    """Say how a snapshot of the lane came about."""
    tx.do(
        "UPDATE supersession SET how = ? WHERE new = ? AND new <> '' AND recompute = ?", how, new, recompute
    )


def id_of_number(tx: Transaction, task: int, number: int) -> str:
    """Id of a task's snapshot of that number."""
    row = tx.one("SELECT id FROM snapshot WHERE task = ? AND number = ?", task, number)
    assert row is not None
    return str(row[0])


def copy_attempts(tx: Transaction, old: int, new: int, task: int) -> None:
    """What was done with an old snapshot is what was done with the new one: attempts, look-ups, remarks."""
    tx.do(
        "INSERT INTO execution (task, snapshot, attempt, version, started, ended, outcome, reason, status,"
        " message, stderr, size_in, size_out) SELECT ?, ?, attempt, version, started, ended, outcome, reason,"
        " status, message, stderr, size_in, size_out FROM execution WHERE snapshot = ? ORDER BY id",
        task,
        new,
        old,
    )
    tx.do(
        "INSERT INTO lookup (task, snapshot, attempt, seq, wire, answered, version, place, at, took, method,"
        " path, status, asked, asked_size, asked_kept, told, told_size, told_kept, headers, problem,"
        " replayed)"
        " SELECT ?, ?, attempt, seq, wire, answered, version, place, at, took, method, path, status, asked,"
        " asked_size, asked_kept, told, told_size, told_kept, headers, problem, replayed FROM lookup"
        " WHERE snapshot = ? ORDER BY id",
        task,
        new,
        old,
    )
    tx.do(
        "INSERT INTO remark (task, snapshot, at, kind, text, body) SELECT ?, ?, at, kind, text, body"
        " FROM remark WHERE snapshot = ? ORDER BY id",
        task,
        new,
        old,
    )


def replaced_by(tx: Transaction, rid: int) -> Replaced | None:
    """What a snapshot took the place of; None where it is of no recompute."""
    row = tx.one(
        "SELECT p.how, r.options, o.rid FROM snapshot s"
        " JOIN supersession p ON p.new = s.id AND p.new <> '' AND p.kind = 'snapshot'"
        " JOIN recompute r ON r.id = p.recompute LEFT JOIN snapshot o ON o.id = p.old WHERE s.rid = ?",
        rid,
    )
    return Replaced(row[0], json.loads(row[1]), row[2]) if row else None


def settle_as(tx: Transaction, rid: int, state: str, finished: int, attempts: int) -> None:
    """End a lane's snapshot that is not executed."""
    tx.do(
        "UPDATE snapshot SET state = ?, finished = ?, attempts = ?, owner = NULL, version = NULL,"
        " lease = NULL WHERE rid = ?",
        state,
        finished,
        attempts,
        rid,
    )


def date(tx: Transaction, rid: int, finished: int) -> None:
    """Have a finished snapshot count as finished at a time."""
    tx.do("UPDATE snapshot SET finished = ? WHERE rid = ?", finished, rid)


def free(tx: Transaction, task: int) -> int:
    """Make the claims of a lane's task ready again that somebody had who is gone."""
    return tx.run(
        "UPDATE snapshot SET state = 'ready', owner = NULL, version = NULL, lease = NULL,"
        " attempts = attempts - 1 WHERE task = ? AND state = 'running'",
        task,
    )


def version_of(tx: Transaction, snapshot: int) -> str:
    """The version of the code of a snapshot's last attempt; empty where there was none."""
    row = tx.one("SELECT version FROM execution WHERE snapshot = ? ORDER BY id DESC LIMIT 1", snapshot)
    return str(row[0]) if row else ""


def outdated(tx: Transaction, task: int, version: str, since: int, *, failed: bool) -> tuple[int, list[str]]:
    """How many finished snapshots of a task are not this version's results, and which versions made them.

    With `failed` only dead letters count, whichever code failed. `since` is when they formed at the earliest.
    """
    if failed:
        row = tx.one(
            "SELECT count(*) FROM snapshot WHERE task = ? AND state = 'dead' AND formed >= ?", task, since
        )
        return (int(row[0]) if row else 0), []
    rows = tx.all(
        "SELECT e.version, count(*) FROM execution e JOIN snapshot s ON s.rid = e.snapshot"
        " WHERE e.task = ? AND s.formed >= ? AND s.state IN ('done', 'dead') AND e.version <> ?"
        " AND e.id = (SELECT max(x.id) FROM execution x WHERE x.snapshot = s.rid) GROUP BY e.version"
        " ORDER BY max(e.id) DESC",
        task,
        since,
        version,
    )
    return sum(row[1] for row in rows), [str(row[0]) for row in rows]


def newest_of_service(tx: Transaction, task: int) -> int | None:
    """Row of the snapshot that a service runs on, or will once it is started."""
    row = tx.one(
        "SELECT rid FROM snapshot WHERE task = ? AND state IN ('ready', 'running', 'done')"
        " ORDER BY number DESC LIMIT 1",
        task,
    )
    return int(row[0]) if row else None


def answered_by_older(tx: Transaction, task: int, service: int, newest: int) -> int:
    """How many finished snapshots of a task were told something by an older snapshot of a service."""
    row = tx.one(
        "SELECT count(DISTINCT l.snapshot) FROM snapshot a JOIN lookup l ON l.answered = a.rid"
        " JOIN snapshot s ON s.rid = l.snapshot WHERE a.task = ? AND a.rid <> ? AND s.task = ?"
        " AND s.state IN ('done', 'dead')",
        service,
        newest,
        task,
    )
    return int(row[0]) if row else 0


def was_told_by_older(tx: Transaction, snapshot: int, services: Mapping[str, int]) -> bool:
    """Whether what a snapshot was told came from another snapshot of a service than the one it has now.

    `services`: the snapshots that they run on, by the services' names.
    """
    rows = tx.all(
        "SELECT t.name, l.answered FROM lookup l JOIN snapshot a ON a.rid = l.answered"
        " JOIN task t ON t.id = a.task WHERE l.snapshot = ?",
        snapshot,
    )
    return any(name in services and services[name] != answered for name, answered in rows)


def finished(tx: Transaction, task: int, since: int) -> int:
    """How many snapshots of a task are done or dead letters, of those that formed since then."""
    row = tx.one(
        "SELECT count(*) FROM snapshot WHERE task = ? AND state IN ('done', 'dead') AND formed >= ?",
        task,
        since,
    )
    return int(row[0]) if row else 0


def charge(tx: Transaction, circuit: int, rid: int, fence: int) -> Charge | None:
    """A claim of an open lane of a circuit; None where it is no such, or not any more."""
    row = tx.one(
        "SELECT t.name FROM snapshot s JOIN lane_task l ON l.new = s.task JOIN task t ON t.id = s.task"
        " JOIN recompute r ON r.id = l.recompute AND r.circuit = ? AND r.state = 'open'"
        " WHERE s.rid = ? AND s.fence = ? AND s.state = 'running'",
        circuit,
        rid,
        fence,
    )
    found, snapshot = unfinished(tx, circuit), snapshots.by_rid(tx, rid)
    if row is None or found is None or snapshot is None:
        return None
    return Charge(snapshot, row[0], found, {wire.name: wire.new for wire in lane_wires(tx, found.id)})


def is_discarded(tx: Transaction, task: int) -> bool:
    """Whether values that waited for a task were ever dropped on record."""
    return tx.one("SELECT id FROM passed WHERE task = ? AND reason = 'discarded' LIMIT 1", task) is not None


def retired_readers(tx: Transaction, wire: int) -> list[str]:
    """Removed tasks for which values of a wire wait."""
    rows = tx.all(
        "SELECT t.name FROM link l JOIN task t ON t.id = l.task JOIN wire w ON w.id = l.wire"
        " WHERE l.wire = ? AND t.circuit = w.circuit AND (t.retired = 1 OR l.retired = 1)"
        " AND l.position < w.head ORDER BY t.name",
        wire,
    )
    return [row[0] for row in rows]


def behind(tx: Transaction, recompute: int) -> int:
    """How much the lane lacks: what it has not read, and snapshots that are not settled."""
    return unread(tx, recompute) + unsettled(tx, recompute)


def swap(tx: Transaction, recompute: Recompute, tasks: Sequence[LaneTask], wires: Sequence[LaneWire]) -> None:
    """Put the lane's tasks and wires in the place of the old ones, which go to the lane's world."""
    for table, rows in (("task", [(t.old, t.new) for t in tasks]), ("wire", [(w.old, w.new) for w in wires])):
        for old, new in rows:
            # A name is in a circuit once: the new row steps aside before the old one comes.
            tx.do(f"UPDATE {table} SET name = name || ? WHERE id = ?", WORLD, new)
            tx.do(f"UPDATE {table} SET circuit = ? WHERE id = ?", recompute.world, old)
            tx.do(
                f"UPDATE {table} SET circuit = ?, name = (SELECT o.name FROM {table} o WHERE o.id = ?)"
                " WHERE id = ?",
                recompute.circuit,
                old,
                new,
            )
    for task in tasks:
        tx.do(  # what has no inputs is due as it was
            "UPDATE task SET due = (SELECT o.due FROM task o WHERE o.id = ?) WHERE id = ? AND due IS NULL"
            " AND NOT EXISTS (SELECT 1 FROM link k WHERE k.task = task.id)",
            task.old,
            task.new,
        )
        tx.do("UPDATE task SET retired = 1, due = NULL WHERE id = ?", task.old)
        tx.do("UPDATE link SET retired = 1 WHERE task = ?", task.old)
        tx.do("UPDATE snapshot SET state = 'skipped' WHERE task = ? AND state = 'ready'", task.old)
    for wire in wires:
        tx.do("UPDATE seen SET wire = ? WHERE wire = ?", wire.new, wire.old)
    tx.do("UPDATE circuit SET installs = installs + 1 WHERE id = ?", recompute.circuit)


def any_done(tx: Transaction) -> bool:
    """Whether there ever was a recompute, begun or done."""
    return tx.one("SELECT id FROM recompute WHERE id >= 1 LIMIT 1") is not None


def of_values(tx: Transaction, id: str) -> list[Superseded]:
    """What took the place of a value or snapshot, and what it took the place of, the latest first."""
    columns = "SELECT r.epoch, coalesce(r.ended, 0), p.kind, p.how, p.old, p.new FROM supersession p"
    join = " JOIN recompute r ON r.id = p.recompute WHERE r.state = 'done'"
    rows = tx.all(
        f"{columns}{join} AND p.old = ? AND p.old <> ''"
        f" UNION ALL {columns}{join} AND p.new = ? AND p.new <> ''",
        id,
        id,
    )
    return sorted((Superseded(*row) for row in rows), key=lambda one: -one.epoch)


def sink_behind(tx: Transaction, wire: LaneWire, *, effects: bool) -> None:
    """Set how much of a lane's wire counts as written out: as much as of the old one.

    With `effects` all that was made again is written out again.
    """
    row = tx.one("SELECT head, sunk FROM wire WHERE id = ?", wire.old)
    end = tx.one("SELECT head FROM wire WHERE id = ?", wire.new)
    assert row is not None
    assert end is not None
    head, sunk = row
    place = end[0]
    if sunk < head:
        found = tx.one("SELECT min(first) FROM lane_run WHERE wire = ? AND slot >= ?", wire.new, sunk)
        place = found[0] if found and found[0] is not None else place
    if effects:
        again = tx.one(
            "SELECT min(v.position) FROM value v JOIN supersession p ON p.new = v.id AND p.new <> ''"
            " WHERE v.wire = ? AND p.how <> 'kept'",
            wire.new,
        )
        place = min(place, again[0]) if again and again[0] is not None else place
    tx.do("UPDATE wire SET sunk = ? WHERE id = ?", place, wire.new)


def counts(tx: Transaction, recompute: int) -> dict[str, dict[str, int]]:
    """For each task of a lane, what became of its snapshots: again, kept, extra, gone, skipped, dead."""
    found: dict[str, dict[str, int]] = {}
    rows = tx.all(
        "SELECT t.name, CASE WHEN p.how <> 'kept' AND s.state IN ('skipped', 'dead', 'ready') THEN s.state"
        " ELSE p.how END AS became, count(*) FROM lane_task l JOIN task t ON t.id = l.new"
        " JOIN snapshot s ON s.task = l.new"
        " JOIN supersession p ON p.new = s.id AND p.new <> '' AND p.recompute = l.recompute"
        " WHERE l.recompute = ? GROUP BY t.name, became ORDER BY t.name, became",
        recompute,
    )
    for task, how, count in rows:
        found.setdefault(task, {})[how] = int(count)
    gone = tx.all(
        "SELECT t.name, count(*) FROM supersession p JOIN snapshot s ON s.id = p.old"
        " JOIN task t ON t.id = s.task WHERE p.recompute = ? AND p.kind = 'snapshot' AND p.how = 'gone'"
        " GROUP BY t.name ORDER BY t.name",
        recompute,
    )
    for task, count in gone:
        found.setdefault(task, {})["gone"] = int(count)
    return found
