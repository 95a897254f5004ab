"""Which tasks and wires a recompute takes with it, in which order, and where a loop is cut."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from koalja_fn.model import Circuit


@dataclass(frozen=True, slots=True)
class Reach:
    """`tasks` in the order in which they are run again, producers before readers; `wires` get new values.

    `loops` are the wires that close a loop: their old values stand, so that each loop is gone round once.
    """

    tasks: tuple[str, ...]
    wires: tuple[str, ...]
    loops: tuple[str, ...]


def reach(circuit: Circuit, roots: Collection[str]) -> Reach:
    """What lies downstream of some tasks, these included."""
    loops = _closing(circuit, roots)
    found: set[str] = set()
    waiting = [name for name in roots if circuit.task(name) is not None]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [reader for wire in _fed(circuit, name, loops) for reader in _readers(circuit, wire)]
    order = [name for name in _finished(circuit, roots, loops) if name in found]
    wires = {wire for name in found for wire in _fed(circuit, name, loops)}
    return Reach(tuple(order), tuple(sorted(wires)), tuple(sorted(loops)))


def _readers(circuit: Circuit, wire: str) -> list[str]:
    return [task.name for task in circuit.readers(wire)]


def _fed(circuit: Circuit, name: str, without: Collection[str]) -> list[str]:
    task = circuit.task(name)
    return [wire for wire in (task.output_wires if task else ()) if wire not in without]


def _closing(circuit: Circuit, roots: Collection[str]) -> set[str]:
    """Wires that lead back to a task on the way to them."""
    closing: set[str] = set()
    done: set[str] = set()
    on_the_way: set[str] = set()
    stack = [(name, False) for name in sorted(roots, reverse=True)]
    while stack:
        name, leaving = stack.pop()
        if leaving:
            on_the_way.discard(name)
            done.add(name)
            continue
        if name in done or name in on_the_way:
            continue
        on_the_way.add(name)
        stack.append((name, True))
        for wire in _fed(circuit, name, ()):
            for reader in _readers(circuit, wire):
                if reader in on_the_way:
                    closing.add(wire)
                elif reader not in done:
                    stack.append((reader, False))
    return closing


def _finished(circuit: Circuit, roots: Collection[str], loops: Collection[str]) -> list[str]:
    """Tasks in topological order; the wires that close loops are left out."""
    order: list[str] = []
    seen: set[str] = set()
    stack = [(name, False) for name in sorted(roots)]
    while stack:
        name, leaving = stack.pop()
        if leaving:
            order.append(name)
            continue
        if name in seen:
            continue
        seen.add(name)
        stack.append((name, True))
        stack += [
            (reader, False)
            for wire in _fed(circuit, name, loops)
            for reader in _readers(circuit, wire)
            if reader not in seen
        ]
    return order[::-1]
