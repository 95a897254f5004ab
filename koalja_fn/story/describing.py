"""All about one thing: a task, a wire, a circuit, a value or a snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from koalja_fn.errors import NotFound, UsageError
from koalja_fn.registry import overview
from koalja_fn.registry.overview import CircuitRow
from koalja_fn.registry.registry import Transaction
from koalja_fn.story.backward import backward
from koalja_fn.story.concept_map import concept_map
from koalja_fn.story.finding import find
from koalja_fn.story.forward import forward
from koalja_fn.story.listing import circuits_table, snapshots_table, values_table
from koalja_fn.story.map_text import task_lines, wire_line
from koalja_fn.story.overview import Design, circuits, latest_snapshots, latest_values, waiting
from koalja_fn.story.passport import Limits, formed_json, value_json
from koalja_fn.story.telling import passport_text

# How many of a task's snapshots or a wire's values are told along.
_LAST = 5
# One step each way.
_NEAR = Limits(depth=1, most=50)


@dataclass(frozen=True, slots=True)
class Description:
    """`kind` is task, wire, circuit, value or snapshot; `data` for programs, `lines` for people."""

    kind: str
    data: dict[str, Any]
    lines: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The kind, and what there is to say."""
        return {"kind": self.kind, **self.data}


def describe(tx: Transaction, word: str, design: Design) -> Description:
    """What is known by this name, or by the id that begins so.

    Raises:
        NotFound: Nothing is.
        UsageError: Several ids begin so.
    """
    for circuit in overview.circuits(tx):
        found = _named(tx, circuit, word, design)
        if found is not None:
            return found
    try:
        one = find(tx, word)
    except (NotFound, UsageError) as error:
        if isinstance(error, UsageError) and len(word) >= 4:
            raise
        names = [c.name for c in overview.circuits(tx)]
        names += [t.name for c in overview.circuits(tx) for t in overview.tasks(tx, c.id)]
        names += [w.name for c in overview.circuits(tx) for w in overview.wires(tx, c.id)]
        raise NotFound(f"nothing is called {word!r}", why=f"there are: {', '.join(names)}") from error
    return _value(tx, one.id) if one.kind == "value" else _snapshot(tx, one.id)


def _named(tx: Transaction, circuit: CircuitRow, word: str, design: Design) -> Description | None:
    tasks = {counts.name for counts in overview.tasks(tx, circuit.id)}
    wires = {row.name for row in overview.wires(tx, circuit.id)}
    if word not in tasks | wires | {circuit.name}:
        return None
    told = concept_map(tx, circuit, design(circuit))
    if word in tasks:
        task = next(t for t in told.tasks if t.counts.name == word)
        latest = latest_snapshots(tx, word, _LAST)
        lines = [*task_lines(task)]
        lines += [f"  waiting: {count} at {name}" for name, count in waiting(tx, task.counts) if count]
        lines += (
            ["  latest snapshots:", *(f"    {line}" for line in snapshots_table(latest))] if latest else []
        )
        data = {
            **task.to_json(),
            "waiting": dict(waiting(tx, task.counts)),
            "latest": [formed_json(f) for f in latest],
        }
        return Description("task", {"circuit": circuit.name, **data}, tuple(lines))
    if word in wires:
        wire = next(w for w in told.wires if w.name == word)
        values = latest_values(tx, word, _LAST)
        lines = [
            wire_line(wire),
            f"  from: {wire.writer or '(outside)'}",
            f"  to: {', '.join(wire.readers) or '-'}",
        ]
        lines += ["  latest values:", *(f"    {line}" for line in values_table(values))] if values else []
        data = {**wire.to_json(), "latest": [value_json(v) for v in values]}
        return Description("wire", {"circuit": circuit.name, **data}, tuple(lines))
    line = next(c for c in circuits(tx) if c.row.id == circuit.id)
    return Description(
        "circuit", {**line.to_json(), "wiring": circuit.wiring}, (*circuits_table([line]), "", circuit.wiring)
    )


def _value(tx: Transaction, id: str) -> Description:
    back, ahead = backward(tx, id, _NEAR), forward(tx, id, _NEAR)
    assert back is not None
    assert ahead is not None
    value = back.stops[id].value
    facts = {k: v for k, v in value_json(value).items() if v not in (None, {}, "")}
    lines = [f"{name}: {_plain(fact)}" for name, fact in facts.items()]
    lines += ["", "where it came from:", passport_text(back), "", "what became of it:", passport_text(ahead)]
    readers = [reading.to_json() for reading in ahead.stops[id].readings]
    made_by = [visit.to_json() for visit in back.visits.values()]
    data = {**value_json(value), "madeBy": made_by[0] if made_by else None, "readers": readers}
    return Description("value", data, tuple(lines))


def _snapshot(tx: Transaction, id: str) -> Description:
    back, ahead = backward(tx, id, Limits(depth=0)), forward(tx, id, Limits(depth=0))
    assert back is not None
    assert ahead is not None
    visit = ahead.visits[id]
    lines = [passport_text(back), "", "what it made:", *values_table([s.value for s in ahead.stops.values()])]
    return Description("snapshot", visit.to_json(), tuple(lines))


def _plain(fact: object) -> str:
    return ", ".join(f"{k} {v}" for k, v in fact.items()) if isinstance(fact, dict) else str(fact)
