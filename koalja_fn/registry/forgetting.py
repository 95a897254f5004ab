"""Statements that forget a circuit: its wiring, its values, its story. Nothing else in the registry does."""

from __future__ import annotations

from koalja_fn.registry.registry import Transaction

_OF_TASKS = "task IN (SELECT id FROM task WHERE circuit = ?)"
_OF_WIRES = "wire IN (SELECT id FROM wire WHERE circuit = ?)"

# What refers to others goes before them.
_BY_ROW = (
    ("lookup", _OF_TASKS),
    ("snapshot_input", _OF_TASKS),
    ("execution", _OF_TASKS),
    ("remark", _OF_TASKS),
    ("passed", _OF_TASKS),
    ("feed", _OF_TASKS),
    ("log", _OF_TASKS),
    ("snapshot", _OF_TASKS),
    ("version", _OF_TASKS),
    ("link", _OF_TASKS),
    ("value", _OF_WIRES),
    ("seen", _OF_WIRES),
    ("refusal", "circuit = ?"),
    ("task", "circuit = ?"),
    ("wire", "circuit = ?"),
    ("circuit", "id = ?"),
)
_BY_NAME = ("made_value", "made_last", "made", "make_run", "ghost_link", "ghost", "ghost_walk")


def forget(tx: Transaction, circuit: int, name: str) -> int:
    """Delete all rows of a circuit; how many values it had.

    Payloads are the store's: other circuits may have the same ones.
    """
    row = tx.one(f"SELECT count(*) FROM value WHERE {_OF_WIRES}", circuit)
    for table, where in _BY_ROW:
        tx.run(f"DELETE FROM {table} WHERE {where}", circuit)
    for table in _BY_NAME:
        tx.run(f"DELETE FROM {table} WHERE circuit = ?", name)
    return int(row[0]) if row else 0
