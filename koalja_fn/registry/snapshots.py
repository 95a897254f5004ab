"""Statements about snapshots: forming, claiming and finishing them, and what is in them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from koalja_fn.model import AnnotatedValue
from koalja_fn.model import Members as Members
from koalja_fn.registry import values
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.tasks import TaskRow


@dataclass(frozen=True, slots=True)
class Stored:
    """A snapshot's row."""

    rid: int
    id: str
    task: int
    number: int
    generation: int
    state: str
    formed: int
    cause: str
    due: int
    attempts: int
    fence: int
    owner: str
    claimed: int
    finished: int
    version: str
    lease: int


_COLUMNS = (
    "rid, id, task, number, generation, state, formed, coalesce(cause, ''), due, attempts, fence, "
    "coalesce(owner, ''), coalesce(claimed, 0), coalesce(finished, 0), coalesce(version, ''), "
    "coalesce(lease, 0)"
)
_RUNNING = "SELECT count(*) FROM snapshot WHERE task = ? AND state = 'running'"
_FIRST_READY = (
    f"SELECT {_COLUMNS} FROM snapshot WHERE task = ? AND state = 'ready' ORDER BY due, number LIMIT ?"
)
_FIRST_OPEN = (
    f"SELECT {_COLUMNS} FROM snapshot WHERE task = ? AND state IN ('ready', 'running', 'dead')"
    " ORDER BY number LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class InputRow:
    """An input's window in a snapshot: indexes first to last; `wire` where they are its positions."""

    input: str
    wire: int | None
    first: int
    last: int
    fresh: int


@dataclass(frozen=True, slots=True)
class New:
    """A snapshot that has formed: `cause` tells which event did it."""

    id: str
    number: int
    cause: Mapping[str, object]
    inputs: Sequence[InputRow]


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring indexes of an input that counts admissions, and the positions behind them."""

    first: int
    count: int
    wire: int
    position: int


def by_rid(tx: Transaction, rid: int) -> Stored | None:
    """The snapshot of that row."""
    row = tx.one(f"SELECT {_COLUMNS} FROM snapshot WHERE rid = ?", rid)
    return Stored(*row) if row else None


def by_id(tx: Transaction, id: str) -> Stored | None:
    """The snapshot of that id."""
    row = tx.one(f"SELECT {_COLUMNS} FROM snapshot WHERE id = ?", id)
    return Stored(*row) if row else None


def insert(tx: Transaction, task: TaskRow, now: int, formed: Sequence[New]) -> None:
    """Add snapshots, ready to be claimed."""
    tx.many(
        "INSERT INTO snapshot (id, task, number, generation, epoch, state, formed, cause, due)"
        " VALUES (?, ?, ?, ?, ?, 'ready', ?, ?, ?)",
        [
            (new.id, task.id, new.number, task.generation, task.epoch, now, json.dumps(new.cause), now)
            for new in formed
        ],
    )
    tx.many(
        "INSERT INTO snapshot_input (snapshot, ord, task, input, wire, first, last, fresh)"
        " SELECT rid, ?, task, ?, ?, ?, ?, ? FROM snapshot WHERE task = ? AND number = ?",
        [
            (n, i.input, i.wire, i.first, i.last, i.fresh, task.id, new.number)
            for new in formed
            for n, i in enumerate(new.inputs)
        ],
    )


def feed(tx: Transaction, task: int, name: str, runs: Iterable[Run]) -> None:
    """Record which values an input has admitted."""
    tx.many(
        "INSERT INTO feed (task, input, first, count, wire, position) VALUES (?, ?, ?, ?, ?, ?)",
        [(task, name, run.first, run.count, run.wire, run.position) for run in runs],
    )


@dataclass(frozen=True, slots=True)
class AtHand:
    """What a claim is made of: the wiring generation in force, the time of the log's last record, how many
    snapshots are claimed, and those next in turn, whether their time has come or not. Until `held` none is
    claimed.
    """

    generation: int
    latest: int
    held: int
    running: int
    following: list[Stored]


def at_hand(tx: Transaction, task: int, most: int, *, strict: bool) -> AtHand:
    """Take the task's lock, and look; `strict` looks at the earliest snapshot that is not finished only."""
    held = tx.later("SELECT generation, latest, held FROM task WHERE id = ? /* lock */", task)
    # Counted by a statement of its own: one that has waited for a lock sees what was there before.
    count = tx.later(_RUNNING, task)
    following = tx.later(_FIRST_OPEN, task) if strict else tx.later(_FIRST_READY, task, most)
    ((generation, latest, until),) = held()
    ((running,),) = count()
    return AtHand(generation, latest, until, running, [Stored(*row) for row in following()])


def first_open(tx: Transaction, task: int) -> Stored | None:
    """The earliest snapshot that is not finished: ready, running or a dead letter."""
    row = tx.one(_FIRST_OPEN, task)
    return Stored(*row) if row else None


def running(tx: Transaction, task: int) -> int:
    """How many of the task's snapshots are claimed."""
    row = tx.one(_RUNNING, task)
    return int(row[0]) if row else 0


def next_due(tx: Transaction, task: int) -> int | None:
    """When the earliest ready snapshot of the task may start."""
    row = tx.one("SELECT min(due) FROM snapshot WHERE task = ? AND state = 'ready'", task)
    return row[0] if row else None


def dues(tx: Transaction, task: int, now: int) -> list[int]:
    """When the task's ready snapshots may start that have to wait until after `now`."""
    rows = tx.all("SELECT due FROM snapshot WHERE task = ? AND state = 'ready' AND due > ?", task, now)
    return [due for (due,) in rows]


def expired(tx: Transaction, task: int, now: int) -> list[Stored]:
    """Claims whose lease is over."""
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM snapshot WHERE task = ? AND state = 'running' AND lease <= ?", task, now
    )
    return [Stored(*row) for row in rows]


def members(tx: Transaction, rid: int) -> list[Members]:
    """What is in a snapshot, inputs in the order of the wiring."""
    inputs = tx.later(
        "SELECT ord, task, input, wire, first, last, fresh FROM snapshot_input"
        " WHERE snapshot = ? ORDER BY ord",
        rid,
    )
    rows = tx.later(
        f"SELECT {values.COLUMNS}, i.ord {values.FROM}"
        " JOIN snapshot_input i ON i.wire = v.wire AND v.position BETWEEN i.first AND i.last"
        " WHERE i.snapshot = ? ORDER BY i.ord, v.position",
        rid,
    )
    windows = inputs()
    found: dict[int, list[AnnotatedValue]] = {window[0]: [] for window in windows}
    for row in rows():
        found[row[-1]].append(values.from_row(row))
    for place, task, name, wire, first, last, _ in windows:
        if wire is None:
            found[place] = _admitted(tx, task, name, first, last)
    return [Members(name, tuple(found[place]), fresh) for place, _, name, _, _, _, fresh in windows]


def _admitted(tx: Transaction, task: int, name: str, first: int, last: int) -> list[AnnotatedValue]:
    """The values that an input which counts admissions counts as first to last."""
    return [
        value
        for run_wire, begin, end in feed_runs(tx, task, name, first, last)
        for value in values.between(tx, run_wire, begin, end)
    ]


def feed_runs(tx: Transaction, task: int, name: str, first: int, last: int) -> Iterator[tuple[int, int, int]]:
    """Runs (wire, first position, last position) behind indexes first to last of an input, in order."""
    rows = tx.all(
        "SELECT first, count, wire, position FROM feed WHERE task = ? AND input = ? AND first <= ?"
        " AND first >= coalesce((SELECT max(first) FROM feed WHERE task = ? AND input = ? AND first <= ?), 0)"
        " ORDER BY first",
        task,
        name,
        last,
        task,
        name,
        first,
    )
    for index, count, wire, position in rows:
        begin = max(first, index)
        end = min(last, index + count - 1)
        if begin <= end:
            yield wire, position + begin - index, position + end - index


def claim(tx: Transaction, rid: int, owner: str, version: str, now: int, lease: int) -> None:
    """Hand a ready snapshot to `owner` until `lease`; its attempts and its fence grow."""
    tx.do(
        "UPDATE snapshot SET state = 'running', attempts = attempts + 1, fence = fence + 1, owner = ?,"
        " version = ?, claimed = ?, lease = ? WHERE rid = ?",
        owner,
        version,
        now,
        lease,
        rid,
    )


def is_lost(tx: Transaction, rid: int, fence: int, lease: int) -> bool:
    """Whether a claim is as it was when its lease ended there; then it stays so."""
    row = tx.one(
        "SELECT rid FROM snapshot WHERE rid = ? AND fence = ? AND lease = ? AND state = 'running' /* lock */",
        rid,
        fence,
        lease,
    )
    return row is not None


def renew(tx: Transaction, rid: int, fence: int, lease: int) -> bool:
    """Extend a claim; False where it is somebody else's by now."""
    return (
        tx.run(
            "UPDATE snapshot SET lease = ? WHERE rid = ? AND fence = ? AND state = 'running'",
            lease,
            rid,
            fence,
        )
        > 0
    )


def finish(tx: Transaction, rid: int, fence: int, state: str, now: int) -> bool:
    """End a claim as `done` or `dead`; False where it is somebody else's by now."""
    return (
        tx.run(
            "UPDATE snapshot SET state = ?, finished = ?, owner = NULL, version = NULL, lease = NULL"
            " WHERE rid = ? AND fence = ? AND state = 'running'",
            state,
            now,
            rid,
            fence,
        )
        > 0
    )


def put_back(tx: Transaction, rid: int, fence: int, due: int, *, counted: bool) -> bool:
    """Make a claimed snapshot ready again from `due` on; its attempt counts or not."""
    return (
        tx.run(
            "UPDATE snapshot SET state = 'ready', due = ?, owner = NULL, version = NULL, lease = NULL,"
            " attempts = attempts - ? WHERE rid = ? AND fence = ? AND state = 'running'",
            due,
            0 if counted else 1,
            rid,
            fence,
        )
        > 0
    )


def inputs_of(tx: Transaction, rid: int) -> list[InputRow]:
    """The windows of a snapshot, inputs in the order of the wiring."""
    rows = tx.all(
        "SELECT input, wire, first, last, fresh FROM snapshot_input WHERE snapshot = ? ORDER BY ord", rid
    )
    return [InputRow(*row) for row in rows]


def orphans(tx: Transaction, task: int, owner: str) -> list[Stored]:
    """Claims of a task that somebody else than `owner` has."""
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM snapshot WHERE task = ? AND state = 'running' AND owner <> ?", task, owner
    )
    return [Stored(*row) for row in rows]


def next_feed_index(tx: Transaction, task: int, name: str) -> int:
    """The first index of an input that counts admissions which was not given yet."""
    row = tx.one(
        "SELECT first + count FROM feed WHERE task = ? AND input = ? ORDER BY first DESC LIMIT 1", task, name
    )
    return int(row[0]) if row else 0


def first_fed_position(tx: Transaction, task: int, name: str, first: int, wire: int) -> int | None:
    """The lowest position of a wire among the values that an input counts as `first` or more."""
    row = tx.one(
        "SELECT min(position + CASE WHEN first < ? THEN ? - first ELSE 0 END) FROM feed"
        " WHERE task = ? AND input = ? AND first + count > ? AND wire = ?",
        first,
        first,
        task,
        name,
        first,
        wire,
    )
    return row[0] if row else None


def unfinished_fresh(tx: Transaction, task: int, name: str) -> int:
    """How many values of an input are new in snapshots that are ready or running."""
    row = tx.one(
        "SELECT coalesce(sum(i.fresh), 0) FROM snapshot s JOIN snapshot_input i ON i.snapshot = s.rid"
        " WHERE s.task = ? AND s.state IN ('ready', 'running') AND i.input = ?",
        task,
        name,
    )
    return int(row[0]) if row else 0


def skip_open(tx: Transaction, task: int, now: int) -> int:
    """Give up all snapshots of a task that are ready, or that somebody claimed; return how many."""
    return tx.run(
        "UPDATE snapshot SET state = 'skipped', finished = ?, owner = NULL, version = NULL, lease = NULL"
        " WHERE task = ? AND state IN ('ready', 'running')",
        now,
        task,
    )


def dead(tx: Transaction, task: int) -> list[Stored]:
    """The task's dead letters, oldest first."""
    rows = tx.all(f"SELECT {_COLUMNS} FROM snapshot WHERE task = ? AND state = 'dead' ORDER BY number", task)
    return [Stored(*row) for row in rows]
