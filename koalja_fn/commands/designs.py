"""The wiring that the registry keeps, read again."""

from __future__ import annotations

from koalja_fn.model import Circuit
from koalja_fn.registry.overview import CircuitRow
from koalja_fn.wiring import read


def design_of(circuit: CircuitRow) -> Circuit | None:
    """The circuit as it is wired up; None where its text can't be understood any more."""
    if not circuit.wiring.strip():
        return None
    draft = read(circuit.wiring, default_name=circuit.name).draft
    return draft if draft.tasks else None
