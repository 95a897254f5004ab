"""Whom the programs of a circuit ask on the side, and the doors that an execution gets for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from koalja_fn.engine.claiming import Claim
from koalja_fn.engine.keys import Answering
from koalja_fn.engine.plans import CircuitPlan, TaskPlan, asked_wires, offered_wires
from koalja_fn.lookups import Asking, Proxy, Switch, Upstream, outside

LONGEST = 86_400.0
"""How long a service may take that has no `timeout`, in seconds."""
# How long an outside service may take; one of the circuit's own has its task's `timeout`.
_OUTSIDE = 60.0
# The asker is told that nobody answers before its own time is over.
_SHARE = 0.9


class Asked:
    """The look-ups of the programs that run here.

    Args:
        proxy: Takes them.
        circuit: Says who asks whom.
        services: For each service of the circuit, where its requests go.
    """

    def __init__(self, proxy: Proxy, circuit: CircuitPlan, services: Mapping[str, Upstream]) -> None:
        self._proxy = proxy
        self._circuit = circuit
        self._upstreams: dict[str, Upstream] = dict(_outsiders(circuit))
        for name, upstream in services.items():
            self._upstreams |= dict.fromkeys(offered_wires(circuit.tasks[name]), upstream)

    def open(self, claim: Claim) -> Asking | None:
        """Begin to take the look-ups of one execution; None where its task asks nobody.

        Raises:
            OSError: No port is left.
        """
        plan = claim.plan
        wires = asked_wires(plan)
        if not wires:
            return None
        found = {wire: self._upstreams[wire] for wire in wires}
        return self._proxy.open(found, {wire: self._patience(wire, plan) for wire in wires})

    def answering(self, plan: TaskPlan) -> Answering | None:
        """Who answers a task's look-ups now; None where nobody does, or where that is not known before."""
        found = []
        for wire in asked_wires(plan):
            upstream = self._upstreams[wire]
            target = upstream.current if isinstance(upstream, Switch) else None
            if target is None or target.answered is None:
                return None
            found.append((wire, target.answered, target.version))
        return found

    def close(self) -> None:
        """Cut off what is still asked."""
        self._proxy.close()

    def _patience(self, wire: str, plan: TaskPlan) -> float:
        """Seconds that an answer may take."""
        offering = [one.task.timeout for one in self._circuit.tasks.values() if wire in offered_wires(one)]
        limit = (offering[0] or LONGEST) if offering else _OUTSIDE
        own = plan.task.timeout
        return limit if own is None or plan.task.service else min(limit, own * _SHARE)


def asks(plan: TaskPlan) -> bool:
    """Whether a task asks anybody."""
    return bool(asked_wires(plan))


def _outsiders(circuit: CircuitPlan) -> Iterable[tuple[str, Upstream]]:
    """The outside services that tasks ask."""
    wires = {wire for plan in circuit.tasks.values() for wire in asked_wires(plan)}
    for name in sorted(wires):
        address = circuit.circuit.wires[name].at
        if address:
            yield name, outside(address)
