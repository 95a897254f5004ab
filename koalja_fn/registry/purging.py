"""Statements about purged payloads: which are marked, going, gone or back, and who names a payload.

Whoever commits a row that names payloads calls `spare` first, in the same transaction. A payload that is
marked is needed from then on; one that is gone has to be brought back before anybody may name it. The rows
are locked, so that whoever deletes and whoever names wait for one another (DESIGN, section 8).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from koalja_fn.registry.registry import Transaction

MARKED, GOING, GONE, BACK = "marked", "going", "gone", "back"
_MANY = 400


class Purged(Exception):
    """Payloads that were to be named are purged: nothing may be written before they are there again."""

    def __init__(self, digests: Collection[str]) -> None:
        super().__init__(f"{len(digests)} payloads are purged")
        self.digests = tuple(digests)


@dataclass(frozen=True, slots=True)
class Row:
    """A payload that is purged or about to be. `wire` is the row of the wire that let it go."""

    digest: str
    size: int
    wire: int | None
    state: str
    at: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A value whose payload might go. `made`: by an execution; `state` as in `Row`, or empty."""

    position: int
    digest: str
    size: int
    arrived: int
    made: bool
    state: str


@dataclass(frozen=True, slots=True)
class Named:
    """How the values of one wire name a payload: the last of them, and whether some came from outside."""

    wire: int
    position: int
    arrived: int
    outside: bool


def watch(tx: Transaction, digests: Iterable[str]) -> Callable[[], None]:
    """Ask for what `spare` needs to know; the answer is to be taken before the transaction ends."""
    wanted = sorted(set(digests))
    asked = [
        tx.later(
            f"SELECT digest, state FROM purge WHERE digest IN ({_places(some)}) ORDER BY digest /* lock */",
            *some,
        )
        for some in _few(wanted)
    ]

    def answer() -> None:
        found = [row for rows in asked for row in rows()]
        gone = [digest for digest, state in found if state in (GOING, GONE)]
        if gone:
            raise Purged(gone)
        tx.many(
            "DELETE FROM purge WHERE digest = ?", [(digest,) for digest, state in found if state == MARKED]
        )

    return answer


def spare(tx: Transaction, digests: Iterable[str]) -> None:
    """Payloads are about to be named: they are not deleted from now on.

    Raises:
        Purged: Some are deleted, or may be.
    """
    watch(tx, digests)()


def hold(tx: Transaction, digests: Collection[str]) -> list[Row]:
    """The rows of payloads, ours until the transaction ends."""
    found: list[Row] = []
    for some in _few(sorted(digests)):
        rows = tx.all(
            "SELECT digest, size, wire, state, at FROM purge"
            f" WHERE digest IN ({_places(some)}) ORDER BY digest /* lock */",
            *some,
        )
        found += [Row(*row) for row in rows]
    return found


def hold_due(tx: Transaction, until: int, most: int) -> list[Row]:
    """Payloads marked at `until` or before, also half-deleted ones, ours until the transaction ends.

    Those that others hold are left out, so the order of locking does not matter, and is the index's.
    """
    found: list[Row] = []
    for state in (GOING, MARKED):
        rows = tx.all(
            "SELECT digest, size, wire, state, at FROM purge WHERE state = ? AND at <= ?"
            " ORDER BY at LIMIT ? /* lock skip */",
            state,
            until,
            most - len(found),
        )
        found += [Row(*row) for row in rows]
    return found


def mark(tx: Transaction, now: int, found: Iterable[tuple[str, int, int | None]]) -> None:
    """Mark payloads (digest, size, wire) that nobody needs now; what is marked already keeps its time."""
    tx.many(
        "INSERT INTO purge (digest, size, wire, state, at) VALUES (?, ?, ?, 'marked', ?)"
        " ON CONFLICT (digest) DO UPDATE SET state = 'marked', at = excluded.at WHERE purge.state = 'back'",
        [(digest, size, wire, now) for digest, size, wire in found],
    )


def move(tx: Transaction, digests: Iterable[str], state: str, now: int) -> None:
    """Put payloads in another state."""
    tx.many("UPDATE purge SET state = ?, at = ? WHERE digest = ?", [(state, now, one) for one in digests])


def forget(tx: Transaction, digests: Iterable[str]) -> None:
    """Payloads are there, and needed: nothing is known against them."""
    tx.many("DELETE FROM purge WHERE digest = ?", [(one,) for one in digests])


def forget_orphans(tx: Transaction, before: int) -> None:
    """What nothing named, and was deleted so long ago that nobody can be about to name it."""
    tx.do("DELETE FROM purge WHERE state = 'gone' AND wire IS NULL AND at < ?", before)


def unmark(tx: Transaction, digests: Iterable[str]) -> None:
    """Payloads are needed if they are there; what is gone is no trouble."""
    for some in _few(sorted(set(digests))):
        tx.do(f"DELETE FROM purge WHERE digest IN ({_places(some)}) AND state = 'marked'", *some)


def state_of(tx: Transaction, digest: str) -> str:
    """A payload's state; empty where it is an ordinary one."""
    row = tx.one("SELECT state FROM purge WHERE digest = ?", digest)
    return str(row[0]) if row else ""


def in_state(tx: Transaction, state: str, until: int, after: str, most: int) -> list[Row]:
    """Payloads that have been in a state since `until` or before, by digest, behind `after`."""
    rows = tx.all(
        "SELECT digest, size, wire, state, at FROM purge WHERE state = ? AND at <= ? AND digest > ?"
        " ORDER BY digest LIMIT ?",
        state,
        until,
        after,
        most,
    )
    return [Row(*row) for row in rows]


def known_among(tx: Transaction, digests: Sequence[str]) -> dict[str, str]:
    """The states of those of these payloads that have a row."""
    found: dict[str, str] = {}
    for some in _few(digests):
        rows = tx.all(f"SELECT digest, state FROM purge WHERE digest IN ({_places(some)})", *some)
        found |= {row[0]: row[1] for row in rows}
    return found


def marked(tx: Transaction) -> int:
    """How many payloads are marked and not deleted yet."""
    row = tx.one("SELECT count(*) FROM purge WHERE state = 'marked'")
    return int(row[0]) if row else 0


# Who names a payload
#
# `digest || ''` and not `digest`: SQLite would put what the digest is equal to into `substr(digest, 8, 12)`,
# too, and then knows no index of that expression any more.


def candidates(tx: Transaction, wire: int, first: int, end: int, before: int, most: int) -> list[Candidate]:
    """Values of a wire from position `first` on, below `end`, that arrived before."""
    rows = tx.all(
        "SELECT v.position, v.digest, v.size, v.arrived, v.snapshot IS NOT NULL, p.state FROM value v"
        " LEFT JOIN purge p ON p.digest = v.digest"
        " WHERE v.wire = ? AND v.position >= ? AND v.position < ? ORDER BY v.position LIMIT ?",
        wire,
        first,
        end,
        most,
    )
    return [
        Candidate(position, digest, size, arrived, bool(made), state or "")
        for position, digest, size, arrived, made, state in rows
        if arrived < before
    ]


def naming_values(tx: Transaction, digest: str) -> list[Named]:
    """The wires whose values name a payload."""
    rows = tx.all(
        "SELECT wire, max(position), max(arrived), max(CASE WHEN snapshot IS NULL THEN 1 ELSE 0 END)"
        " FROM value WHERE substr(digest, 8, 12) = ? AND digest || '' = ? GROUP BY wire",
        digest[7:19],
        digest,
    )
    return [Named(wire, position, arrived, bool(outside)) for wire, position, arrived, outside in rows]


def positions_of(tx: Transaction, digest: str, wire: int) -> list[int]:
    """The positions of a wire whose values name a payload."""
    rows = tx.all(
        "SELECT position FROM value WHERE substr(digest, 8, 12) = ? AND digest || '' = ? AND wire = ?",
        digest[7:19],
        digest,
        wire,
    )
    return [row[0] for row in rows]


def naming_made(tx: Transaction, digest: str) -> list[tuple[str, str, int, bool, bool]]:
    """Values of pull mode that name a payload.

    Circuit, wire, time, whether they stand in the last run, whether they were made (else sampled).
    """
    rows = tx.all(
        "SELECT v.circuit, v.wire, v.at, v.made <> '', EXISTS (SELECT 1 FROM made m JOIN made_last l"
        " ON l.circuit = m.circuit AND l.task = m.task AND l.made = m.id WHERE m.id = v.made)"
        " FROM made_value v WHERE v.digest = ?",
        digest,
    )
    return [(circuit, wire, at, bool(last), bool(made)) for circuit, wire, at, made, last in rows]


def naming_lookups(tx: Transaction, digest: str) -> list[tuple[str, str, int, bool]]:
    """Look-ups whose bodies are a payload: circuit, wire, time, whether their snapshot is unfinished."""
    found = []
    for column in ("asked", "told"):
        found += tx.all(
            "SELECT c.name, l.wire, l.at, s.state IN ('ready', 'running', 'dead') FROM lookup l"
            " JOIN task t ON t.id = l.task JOIN circuit c ON c.id = t.circuit"
            " JOIN snapshot s ON s.rid = l.snapshot"
            f" WHERE substr(l.{column}, 8, 12) = ? AND l.{column} || '' = ? AND l.{column}_kept = 1",
            digest[7:19],
            digest,
        )
    return [(circuit, wire, at, bool(unfinished)) for circuit, wire, at, unfinished in found]


def naming_refusals(tx: Transaction, digest: str) -> list[tuple[str, str, int]]:
    """Refused events that had a payload: circuit, wire, time."""
    return [
        (row[0], row[1], row[2])
        for row in tx.all(
            "SELECT c.name, r.wire, r.at FROM refusal r JOIN circuit c ON c.id = r.circuit"
            " WHERE r.digest = ?",
            digest,
        )
    ]


def made_before(tx: Transaction, circuit: str, wire: str, before: int, most: int) -> list[tuple[str, int]]:
    """Payloads (digest, size) of values that pull mode made or sampled before, and that have no row here."""
    return [
        (row[0], row[1])
        for row in tx.all(
            "SELECT DISTINCT v.digest, v.size FROM made_value v LEFT JOIN purge p ON p.digest = v.digest"
            " WHERE v.circuit = ? AND v.wire = ? AND v.at < ? AND p.digest IS NULL LIMIT ?",
            circuit,
            wire,
            before,
            most,
        )
    ]


def asked_before(tx: Transaction, circuit: str, wire: str, before: int, most: int) -> list[tuple[str, int]]:
    """Bodies (digest, size) of look-ups of before that have no row here."""
    found: list[tuple[str, int]] = []
    for column in ("asked", "told"):
        rows = tx.all(
            f"SELECT DISTINCT l.{column}, l.{column}_size FROM lookup l JOIN task t ON t.id = l.task"
            f" JOIN circuit c ON c.id = t.circuit LEFT JOIN purge p ON p.digest = l.{column}"
            f" WHERE c.name = ? AND l.wire = ? AND l.at < ? AND l.{column}_kept = 1 AND p.digest IS NULL"
            " LIMIT ?",
            circuit,
            wire,
            before,
            most,
        )
        found += [(row[0], row[1]) for row in rows]
    return found


def named_among(tx: Transaction, digests: Sequence[str]) -> set[str]:
    """Which of these payloads anything names, or has a row here."""
    found: set[str] = set()
    for some in _few(digests):
        short = [digest[7:19] for digest in some]
        places = _places(some)
        for sql, params in (
            (f"SELECT digest FROM value WHERE substr(digest, 8, 12) IN ({places})", short),
            (f"SELECT digest FROM made_value WHERE digest IN ({places})", some),
            (f"SELECT digest FROM refusal WHERE digest IN ({places})", some),
            (f"SELECT asked FROM lookup WHERE asked_kept = 1 AND substr(asked, 8, 12) IN ({places})", short),
            (f"SELECT told FROM lookup WHERE told_kept = 1 AND substr(told, 8, 12) IN ({places})", short),
        ):
            found |= {row[0] for row in tx.all(sql, *params)}
    return found.intersection(digests)


# Where a wire stands


def circuits(tx: Transaction) -> list[tuple[int, str, int]]:
    """All circuits, worlds of recomputes as such of their circuit: row, name, and whose model counts."""
    from koalja_fn.registry.lanes import WORLD  # here, since each commit imports this module

    rows = tx.all("SELECT id, name FROM circuit ORDER BY id")
    named = {name: row for row, name in rows}
    found = []
    for row, name in rows:
        of = str(name).partition(WORLD)[0]
        found.append((row, of, named.get(of, row)))
    return found


def purged_to(tx: Transaction, wire: int) -> int:
    """The first position of a wire whose payload may still be there."""
    row = tx.one("SELECT purged FROM wire WHERE id = ?", wire)
    return int(row[0]) if row else 0


def move_purged(tx: Transaction, wire: int, position: int) -> None:
    """Values before a position need not be looked at again."""
    tx.do("UPDATE wire SET purged = ? WHERE id = ? AND purged < ?", position, wire, position)


def begin_round(tx: Transaction, circuit: int, now: int, before: int) -> bool:
    """Begin a round of purging, if the last one was begun before then; False where it was not."""
    return tx.run("UPDATE circuit SET purged = ? WHERE id = ? AND purged <= ?", now, circuit, before) > 0


def open_windows(tx: Transaction, circuit: int) -> list[tuple[int, str, int | None, int, int]]:
    """Windows that pin their values: of snapshots that are unfinished, and the newest of each service.

    Task, input, wire (None for an input that counts admissions), first and last index.
    """
    rows = tx.all(
        "SELECT s.task, i.input, i.wire, i.first, i.last FROM snapshot s"
        " JOIN task t ON t.id = s.task JOIN snapshot_input i ON i.snapshot = s.rid"
        " WHERE t.circuit = ? AND s.state IN ('ready', 'running', 'dead')",
        circuit,
    )
    return [(row[0], row[1], row[2], row[3], row[4]) for row in rows]


def newest_windows(tx: Transaction, task: int) -> list[tuple[int, str, int | None, int, int]]:
    """The windows of a task's newest snapshot."""
    rows = tx.all(
        "SELECT i.task, i.input, i.wire, i.first, i.last FROM snapshot_input i JOIN snapshot s"
        " ON s.rid = i.snapshot WHERE s.task = ? AND s.number ="
        " (SELECT max(number) FROM snapshot WHERE task = ?)",
        task,
        task,
    )
    return [(row[0], row[1], row[2], row[3], row[4]) for row in rows]


def last_use(tx: Transaction, task: int, wire: int, position: int, widest: int) -> int:
    """When the last snapshot of a task that had a value was finished; 0 where none had it."""
    row = tx.one(
        "SELECT max(s.finished) FROM snapshot_input i JOIN snapshot s ON s.rid = i.snapshot"
        " WHERE i.task = ? AND i.wire = ? AND i.last >= ? AND i.last <= ? AND i.first <= ?",
        task,
        wire,
        position,
        position + widest,
        position,
    )
    return int(row[0] or 0) if row else 0


def last_admitted_use(tx: Transaction, task: int, wire: int, position: int, widest: int) -> int:
    """Likewise for inputs that count admissions."""
    run = tx.one(
        "SELECT input, first, count, position FROM feed WHERE wire = ? AND task = ? AND position <= ?"
        " ORDER BY position DESC LIMIT 1",
        wire,
        task,
        position,
    )
    if run is None or position >= run[3] + run[2]:
        return 0
    index = run[1] + position - run[3]
    row = tx.one(
        "SELECT max(s.finished) FROM snapshot_input i JOIN snapshot s ON s.rid = i.snapshot"
        " WHERE i.task = ? AND i.input = ? AND i.wire IS NULL"
        " AND i.last >= ? AND i.last <= ? AND i.first <= ?",
        task,
        run[0],
        index,
        index + widest,
        index,
    )
    return int(row[0] or 0) if row else 0


def _few(some: Sequence[str]) -> Iterable[Sequence[str]]:
    return (some[begin : begin + _MANY] for begin in range(0, len(some), _MANY))


def _places(some: Collection[object]) -> str:
    return ", ".join("?" * len(some))
