"""Narrowing: which part of a plan can have other results, when some files changed since an earlier run.

Circuit and code are the same as then (else there is no trail to compare with), so only what lies behind a
changed source, and results that somebody changed or removed, are looked at again.
"""

from __future__ import annotations

from collections.abc import Iterable

from koalja_fn.model import Circuit
from koalja_fn.pull.planning import Plan, plan
from koalja_fn.pull.stamps import GONE, stamp
from koalja_fn.pull.trail import Trail


def narrowed(circuit: Circuit, goal: Plan, earlier: Trail) -> Plan | None:
    """The plan of the wanted wires that `earlier.changed` can reach; None where that is no safe guess."""
    changed = set(earlier.changed)
    sources = {wire for wire, files in earlier.sources.items() if not changed.isdisjoint(files)}
    if any(stamp(path) == GONE for wire in sources for path in changed & earlier.sources[wire].keys()):
        return None  # a source that is gone is told of by the whole run
    touched = _behind(sources, goal)
    touched |= {
        wire for wire, values in earlier.wires.items() if any(value["path"] in changed for value in values)
    }
    wanted = [wire for wire in goal.wanted if wire in touched]
    return plan(circuit, wanted) if wanted else None


def _behind(wires: Iterable[str], goal: Plan) -> set[str]:
    """These wires and all that a plan makes of them."""
    touched = set(wires)
    for task in goal.tasks:  # each comes after its producers
        if any(wire in touched for item in task.streams for wire in item.wires):
            touched.update(task.output_wires)
    return touched
