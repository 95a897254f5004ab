"""Sharing: what push mode ran with `cache = on` need not be made again where the key is the same."""

from __future__ import annotations

from dataclasses import replace

from koalja_fn import ids
from koalja_fn.engine.lineage import lineage_of
from koalja_fn.model import AnnotatedValue
from koalja_fn.pull.runs import Execution
from koalja_fn.registry.registry import Transaction


def pushed(tx: Transaction, execution: Execution) -> list[AnnotatedValue] | None:
    """The outputs that push mode has on record under an execution's key, as values of pull mode."""
    if not execution.task.cache:
        return None
    from koalja_fn.registry import caching, values

    snapshot = caching.find(tx, execution.key)
    if snapshot is None:
        return None
    lineage = lineage_of(execution.members)
    found = []
    for one in values.made_by(tx, snapshot.rid):
        named = ids.output_value(execution.key, one.wire, one.index)
        key = lineage.key or named
        found.append(replace(one, id=named, snapshot=execution.key, key=key, hops=lineage.hops))
    return found
