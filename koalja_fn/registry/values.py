"""Statements about values and the wires they stand on."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from koalja_fn.model import AnnotatedValue
from koalja_fn.registry.registry import Transaction

COLUMNS = (
    "v.id, v.position, v.arrived, v.created, v.source, v.digest, v.size, v.type, v.name, "
    "v.version, v.region, v.lineage, v.idx, v.hops, v.ghost, v.event_source, v.event_id, v.sequence, "
    "v.attributes, w.name, c.name, s.id"
)
FROM = (
    "FROM value v JOIN wire w ON w.id = v.wire JOIN circuit c ON c.id = w.circuit "
    "LEFT JOIN snapshot s ON s.rid = v.snapshot"
)


# As many parameters as a statement gets at once.
_MANY = 500


@dataclass(frozen=True, slots=True)
class End:
    """A wire's end: how many values it has, when the last one arrived, and the circuit that it is in now."""

    head: int
    latest: int
    circuit: int


def from_row(row: tuple[Any, ...]) -> AnnotatedValue:
    """Make a value of a row of `COLUMNS`."""
    return AnnotatedValue(
        id=row[0],
        position=row[1],
        arrived=row[2],
        created=row[3],
        source=row[4],
        digest=row[5],
        size=row[6],
        type=row[7],
        name=row[8],
        version=row[9],
        region=row[10],
        key=row[11],
        index=row[12],
        hops=row[13],
        ghost=bool(row[14]),
        event_source=row[15],
        event_id=row[16],
        sequence=row[17],
        attributes=json.loads(row[18]),
        wire=row[19],
        circuit=row[20],
        snapshot=row[21] or "",
    )


def hold(tx: Transaction, wires: Collection[int]) -> dict[int, End]:
    """The ends of wires; nobody else places a value on them until the transaction ends.

    Locks of wires are taken in the order of their names, and after those of tasks.
    """
    return hold_and_look(tx, wires, ())[0]


def hold_and_look(
    tx: Transaction, wires: Collection[int], ids: Sequence[str]
) -> tuple[dict[int, End], dict[str, tuple[str, int]]]:
    """The ends of wires, as `hold`; and which values are there already: digest and position by id."""
    if not wires:
        return {}, {}
    ends = tx.later(
        f"SELECT id, head, latest, circuit FROM wire WHERE id IN ({_places(wires)})"
        " ORDER BY name, id /* lock */",
        *wires,
    )
    some = [ids[begin : begin + _MANY] for begin in range(0, len(ids), _MANY)]
    known = [
        tx.later(f"SELECT id, digest, position FROM value WHERE id IN ({_places(few)})", *few) for few in some
    ]
    return (
        {row[0]: End(row[1], row[2], row[3]) for row in ends()},
        {row[0]: (row[1], row[2]) for rows in known for row in rows()},
    )


def move_head(tx: Transaction, wire: int, head: int, latest: int) -> None:
    """Record that the wire now has `head` values, of which the last arrived at `latest`."""
    tx.do("UPDATE wire SET head = ?, latest = ? WHERE id = ?", head, latest, wire)


def _places(some: Collection[object]) -> str:
    return ", ".join("?" * len(some))


def place(tx: Transaction, wire: int, values: Iterable[AnnotatedValue], snapshot: int | None = None) -> None:
    """Put values on the wire, at the positions that they carry; `snapshot` made them."""
    tx.many(
        "INSERT INTO value (id, wire, position, arrived, created, source, digest, size, type, name, snapshot,"
        " version, region, lineage, idx, hops, ghost, event_source, event_id, sequence, attributes)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                v.id,
                wire,
                v.position,
                v.arrived,
                v.created,
                v.source,
                v.digest,
                v.size,
                v.type,
                v.name,
                snapshot,
                v.version,
                v.region,
                v.key,
                v.index,
                v.hops,
                int(v.ghost),
                v.event_source,
                v.event_id,
                v.sequence,
                json.dumps(dict(v.attributes), ensure_ascii=False, sort_keys=True) if v.attributes else "{}",
            )
            for v in values
        ],
    )


def id_at(tx: Transaction, wire: int, position: int) -> str:
    """Id of the value at a position."""
    row = tx.one("SELECT id FROM value WHERE wire = ? AND position = ?", wire, position)
    assert row is not None
    return str(row[0])


def between(tx: Transaction, wire: int, first: int, last: int) -> list[AnnotatedValue]:
    """The values at positions first to last of a wire, in order."""
    rows = tx.all(
        f"SELECT {COLUMNS} {FROM} WHERE v.wire = ? AND v.position BETWEEN ? AND ? ORDER BY v.position",
        wire,
        first,
        last,
    )
    return [from_row(row) for row in rows]


def by_id(tx: Transaction, id: str) -> AnnotatedValue | None:
    """The value of that id."""
    row = tx.one(f"SELECT {COLUMNS} {FROM} WHERE v.id = ?", id)
    return from_row(row) if row else None


def made_by(tx: Transaction, snapshot: int) -> list[AnnotatedValue]:
    """What an execution put on wires, by wire and position."""
    rows = tx.all(f"SELECT {COLUMNS} {FROM} WHERE v.snapshot = ? ORDER BY w.name, v.position", snapshot)
    return [from_row(row) for row in rows]
