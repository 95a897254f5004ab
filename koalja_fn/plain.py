"""Circuits as plain data (what JSON can hold) and back, without their places in the text.

It is how a circuit travels: in the registry beside its rows, and in the note that an image carries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

from koalja_fn.model import Buffer, Circuit, Input, Output, Policy, Rate, Task, Wire


def plain_circuit(circuit: Circuit) -> dict[str, Any]:
    """A circuit as data: equal circuits give equal data, wherever their text stands."""
    return {
        "name": circuit.name,
        "tasks": [plain_task(task) for task in circuit.tasks],
        "wires": [plain_wire(circuit.wires[name]) for name in sorted(circuit.wires)],
    }


def plain_task(task: Task) -> dict[str, Any]:
    """A task as data."""
    data: dict[str, Any] = _placeless(task)
    return data


def plain_wire(wire: Wire) -> dict[str, Any]:
    """A wire as data."""
    data: dict[str, Any] = _placeless(wire)
    return data


def circuit_of(data: Mapping[str, Any]) -> Circuit:
    """The circuit that `plain_circuit` told.

    Raises:
        KeyError, TypeError, ValueError: The data are of another form.
    """
    return Circuit(
        str(data["name"]),
        tuple(task_of(task) for task in data["tasks"]),
        {wire["name"]: Wire(**wire) for wire in data["wires"]},
    )


def task_of(data: Mapping[str, Any]) -> Task:
    """The task that `plain_task` told."""
    told = dict(data)
    told["inputs"] = tuple(
        Input(**{**one, "wires": tuple(one["wires"]), "buffer": Buffer(**one["buffer"])})
        for one in data["inputs"]
    )
    told["outputs"] = tuple(Output(**one) for one in data["outputs"])
    told["policy"] = Policy(data["policy"])
    told["rate"] = Rate(**data["rate"]) if data["rate"] else None
    told["env"] = tuple((str(name), str(value)) for name, value in data["env"])
    return Task(**told)


def _placeless(data: Any) -> Any:
    """Dataclasses as what JSON can hold, all the way down, without where they stand in a text."""
    names = _fields(data.__class__)
    if names is not None:
        return {name: _placeless(getattr(data, name)) for name in names}
    if isinstance(data, dict):
        return {key: _placeless(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_placeless(one) for one in data]
    return data


@cache
def _fields(kind: Any) -> tuple[str, ...] | None:
    """A dataclass's fields that travel; None for any other type."""
    if not is_dataclass(kind):
        return None
    return tuple(field.name for field in fields(kind) if field.name != "place")
