"""History: on a deployed circuit the sources' values are those that have arrived, in their order.

There are no files to be sampled on a cluster; what was sent is on record, and in the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from koalja_fn.engine.plans import CircuitPlan
from koalja_fn.errors import NotFound, StoreError
from koalja_fn.local.patterns import Pattern
from koalja_fn.model import AnnotatedValue
from koalja_fn.pull.sampling import Sample
from koalja_fn.pull.stamps import GONE
from koalja_fn.registry import Registry, tasks, values
from koalja_fn.registry.registry import Transaction

_EVER = 1 << 40


class History:
    """Values that have arrived on the wires of one circuit; `most` of each wire at most, the first."""

    def __init__(self, registry: Registry, circuit: CircuitPlan, *, most: int | None = None) -> None:
        self.listed: list[tuple[Pattern, tuple[str, ...]]] = []
        self._registry = registry
        self._circuit = circuit
        self._most = most

    def sample(self, wires: Sequence[str]) -> dict[str, list[Sample]]:
        """What has arrived on each wire, or the first of it.

        Raises:
            NotFound: Nothing has arrived on a wire.
        """
        return {wire: self._samples(wire) for wire in wires}

    def keep(self, tx: Transaction, kept: Sequence[tuple[AnnotatedValue, str]]) -> None:
        """All of it is on record."""

    def renew(self, sample: Sample) -> None:
        """Nobody here has the payload but the store.

        Raises:
            StoreError: In any case.
        """
        value = sample.value
        raise StoreError(
            f"the payload of value {value.id[:12]} of wire {value.wire} is not there any more",
            why="it was purged, or is damaged in the store",
            cure="send it again, or ask for less: --sample N takes the first N values",
        )

    def _samples(self, wire: str) -> list[Sample]:
        row = self._circuit.wires[wire]

        def look(tx: Transaction) -> list[AnnotatedValue]:
            end = min(tasks.head(tx, row), self._most or _EVER)
            return values.between(tx, row, 0, end - 1)

        found = self._registry.read(look)
        if not found:
            raise NotFound(
                f"nothing has arrived on wire {wire}",
                why="no task feeds it, and on a cluster its values are those that were sent",
                cure=f"koalja-fn send FILE --cluster {self._circuit.circuit.name} --wire {wire}",
            )
        return [Sample(value, Path(), value.name, GONE) for value in found]
