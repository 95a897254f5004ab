"""Statements about ghosts: walks, the ghosts on their wires, and the links that were taken."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from koalja_fn.registry.registry import Transaction

_GHOST = "id, walk, circuit, wire, task, via, at, hops, told"


@dataclass(frozen=True, slots=True)
class WalkRow:
    """A walk. `told` has the circuit as plain data, where it was begun, and what the value would be."""

    id: str
    circuit: str
    at: int
    told: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GhostRow:
    """A ghost on a wire. `task`, come to by wire `via`, would have made the value; both empty: outside."""

    id: str
    walk: str
    circuit: str
    wire: str
    task: str
    via: str
    at: int
    hops: int
    told: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LinkRow:
    """A link that a walk took. `told` says what was seen at the task."""

    walk: str
    circuit: str
    wire: str
    task: str
    at: int
    told: Mapping[str, Any]


def begin(tx: Transaction, walk: WalkRow) -> bool:
    """Record a walk; False where it has begun already."""
    return (
        tx.run(
            "INSERT INTO ghost_walk (id, circuit, at, told) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
            walk.id,
            walk.circuit,
            walk.at,
            _text(walk.told),
        )
        == 1
    )


def appear(tx: Transaction, ghost: GhostRow) -> bool:
    """Put a ghost on a wire; False where the walk has one there."""
    return (
        tx.run(
            f"INSERT INTO ghost ({_GHOST}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            ghost.id,
            ghost.walk,
            ghost.circuit,
            ghost.wire,
            ghost.task,
            ghost.via,
            ghost.at,
            ghost.hops,
            _text(ghost.told),
        )
        == 1
    )


def take(tx: Transaction, link: LinkRow) -> bool:
    """Record that a link was taken; False where it was before."""
    return (
        tx.run(
            "INSERT INTO ghost_link (walk, circuit, wire, task, at, told) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            link.walk,
            link.circuit,
            link.wire,
            link.task,
            link.at,
            _text(link.told),
        )
        == 1
    )


def walk(tx: Transaction, id: str) -> WalkRow | None:
    """The walk of that id."""
    row = tx.one("SELECT id, circuit, at, told FROM ghost_walk WHERE id = ?", id)
    return WalkRow(row[0], row[1], row[2], json.loads(row[3])) if row else None


def walks_like(tx: Transaction, start: str, most: int) -> list[str]:
    """Ids of walks that begin so."""
    rows = tx.all(
        "SELECT id FROM ghost_walk WHERE id >= ? AND id < ? ORDER BY id LIMIT ?", start, start + "g", most
    )
    return [str(row[0]) for row in rows]


def ghosts_like(tx: Transaction, start: str, most: int) -> list[GhostRow]:
    """Ghosts whose ids begin so."""
    rows = tx.all(
        f"SELECT {_GHOST} FROM ghost WHERE id >= ? AND id < ? ORDER BY id LIMIT ?", start, start + "g", most
    )
    return [_ghost(row) for row in rows]


def on_wire(tx: Transaction, walk: str, wire: str) -> GhostRow | None:
    """The walk's ghost on a wire."""
    row = tx.one(f"SELECT {_GHOST} FROM ghost WHERE walk = ? AND wire = ?", walk, wire)
    return _ghost(row) if row else None


def of_walk(tx: Transaction, walk: str) -> list[GhostRow]:
    """All ghosts of a walk, in the order in which they appeared."""
    rows = tx.all(f"SELECT {_GHOST} FROM ghost WHERE walk = ? ORDER BY hops, at, wire", walk)
    return [_ghost(row) for row in rows]


def links_of(tx: Transaction, walk: str) -> list[LinkRow]:
    """All links that a walk took."""
    rows = tx.all(
        "SELECT walk, circuit, wire, task, at, told FROM ghost_link WHERE walk = ? ORDER BY at, wire, task",
        walk,
    )
    return [LinkRow(row[0], row[1], row[2], row[3], row[4], json.loads(row[5])) for row in rows]


def latest(tx: Transaction, most: int) -> list[GhostRow]:
    """The latest ghosts of all walks, newest first."""
    rows = tx.all(f"SELECT {_GHOST} FROM ghost ORDER BY at DESC, walk, hops DESC, wire LIMIT ?", most)
    return [_ghost(row) for row in rows]


def _ghost(row: tuple[Any, ...]) -> GhostRow:
    return GhostRow(row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7], json.loads(row[8]))


def _text(told: Mapping[str, Any]) -> str:
    return json.dumps(told, ensure_ascii=False, sort_keys=True)
