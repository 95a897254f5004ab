"""What the look-ups of a lane's programs are answered with where nobody is asked: the answers on record.

They are those of one execution: the last one in the same place that asked by itself, and was done; where none
was, of the last attempt of the dead letter. So a program that is mended twice is told all that the first one
was told, whatever the executions between them asked.
"""

from __future__ import annotations

from koalja_fn.engine.claiming import Claim
from koalja_fn.engine.keys import Answering
from koalja_fn.engine.lane.beginning import REPLAY
from koalja_fn.engine.plans import TaskPlan, asked_wires
from koalja_fn.engine.reusing import who_ran
from koalja_fn.lookups import Asking, Proxy, records
from koalja_fn.registry import Registry, lanes, lookups, snapshots
from koalja_fn.registry.lookups import LookupRow
from koalja_fn.registry.registry import Transaction
from koalja_fn.store import Store


class Recorded:
    """Takes the look-ups of executions, as `engine.asking.Asked` does; nobody is asked."""

    def __init__(self, registry: Registry, store: Store) -> None:
        self._registry = registry
        self._proxy = Proxy(store, registry.clock)

    def open(self, claim: Claim) -> Asking | None:
        """Begin to take the look-ups of one execution in a lane; None where its task asks nobody.

        Raises:
            OSError: No port is left.
        """
        wires = asked_wires(claim.plan)
        if not wires:
            return None
        rows = self._registry.read(lambda tx: answers(tx, claim.rid))
        return self._proxy.replay(records(rows, wires))

    def answering(self, plan: TaskPlan) -> Answering | None:
        """Nobody answers: what comes out has no key, since other answers may be on record elsewhere."""
        return None if asked_wires(plan) else ()

    def stop(self) -> None:
        """Cut off what is still asked."""
        self._proxy.close()


def answers(tx: Transaction, snapshot: int) -> list[LookupRow]:
    """What is on record for a snapshot of a lane: what was asked in its place, in order."""
    asked = _who_asked(tx, snapshot)
    return lookups.of_last_attempt(tx, asked) if asked is not None else []


def _who_asked(tx: Transaction, snapshot: int) -> int | None:
    """Row of the snapshot whose execution asked."""
    failed: int | None = None
    current: int | None = snapshot
    while current is not None:
        replaced = lanes.replaced_by(tx, current)
        copied = replaced is not None and (replaced.how == "kept" or replaced.options.get(REPLAY, False))
        found = snapshots.by_rid(tx, current)
        if not copied and found is not None:
            if found.state == "done":
                return who_ran(tx, current)
            if found.state == "dead" and failed is None:
                failed = current
        current = replaced.old if replaced is not None else None
    return failed
