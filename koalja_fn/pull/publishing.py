"""Publishing: what `make` made is placed on its wires as well, where push links see it.

A value's id comes from its execution's key, so the same result is placed once, however often it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from koalja_fn.engine.installing import install
from koalja_fn.engine.naming import name as named
from koalja_fn.engine.plans import CircuitPlan
from koalja_fn.model import AnnotatedValue
from koalja_fn.program.folder import open_circuit
from koalja_fn.pull.course import Site
from koalja_fn.registry import purging, values
from koalja_fn.registry.registry import Transaction


def publish(path: Path, site: Site, made: Mapping[str, Sequence[AnnotatedValue]]) -> int:
    """Wire the circuit up as a run does, and place results on their wires; return how many were new there.

    Files that were sampled are no results. A run that begins later reads what was placed.

    Raises:
        StoreError: A payload is being purged at this moment.
    """
    registry, found = site.registry, site.found
    opened = open_circuit(path)
    text = opened.file.read_text() if opened.file else ""

    def step(tx: Transaction) -> int:
        done = install(tx, registry.clock(), found.circuit, found.folder, found.located, text)
        return _place_each(tx, site, done.plan, made)

    return named(registry, site.store, step)


def place_all(site: Site, plan: CircuitPlan, made: Mapping[str, Sequence[AnnotatedValue]]) -> int:
    """Place results on the wires of a circuit that is wired up; return how many were new there.

    Raises:
        StoreError: A payload is being purged at this moment.
    """
    return named(site.registry, site.store, lambda tx: _place_each(tx, site, plan, made))


def _place_each(
    tx: Transaction, site: Site, plan: CircuitPlan, made: Mapping[str, Sequence[AnnotatedValue]]
) -> int:
    return sum(
        _place(tx, site, plan.wires[wire], [value for value in some if value.snapshot])
        for wire, some in sorted(made.items())
    )


def _place(tx: Transaction, site: Site, wire: int, some: Sequence[AnnotatedValue]) -> int:
    purging.spare(tx, [value.digest for value in some])
    ends, known = values.hold_and_look(tx, [wire], [value.id for value in some])
    position, latest = ends[wire].head, ends[wire].latest
    placed = []
    for value in some:
        if value.id in known:
            continue
        latest = max(site.registry.clock(), latest + 1)
        source = f"/circuits/{value.circuit}/made/{value.wire}"
        placed.append(replace(value, position=position, arrived=latest, snapshot="", source=source))
        position += 1
    if placed:
        values.place(tx, wire, placed)
        values.move_head(tx, wire, position, latest)
    return len(placed)
