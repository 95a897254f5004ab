"""What KEDA asks the registry: SQL over its real schema, in PostgreSQL's words.

A query is part of a manifest, so all names in it are constants of the circuit. Each answers in O(log n): it
looks through indexes only, and counts no further than anybody would act upon.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from koalja_fn.model import Circuit, Input, Policy, Task, is_address

_NOW = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
# What was rung for a moment ago may still be on its way; the sweep is for what nobody came for.
_PATIENCE = 10_000_000


@dataclass(frozen=True, slots=True)
class Held:
    """A reader whose full backlog holds up who feeds it: `limit` values wait on one of its inputs."""

    reader: str
    input: str
    limit: int


def ready_or_running(circuit: Circuit, task: Task, most: int) -> str:
    """How many jobs a task should have: its snapshots that are due, up to `most`, and those that run.

    KEDA takes away what runs already. What runs is counted, too: with the ready ones alone new work would
    wait until all that runs has ended. A claim whose lease is over does not count: the sweep takes it up.
    """
    blocked = "".join(f"\n        AND {one}" for one in _free(circuit, task))
    return f"""\
SELECT CAST(coalesce(sum(
    (SELECT count(*) FROM (
      SELECT 1 FROM snapshot s WHERE s.task = t.id AND s.state = 'ready' AND s.due <= {_NOW}{blocked}
      LIMIT {most}) AS due)
    + (SELECT count(*) FROM snapshot s WHERE s.task = t.id AND s.state = 'running' AND s.lease > {_NOW})
  ), 0) AS bigint)
FROM task t JOIN circuit c ON c.id = t.circuit
WHERE {_named(circuit, [task])}"""


def left_alone(circuit: Circuit, tasks: Iterable[Task]) -> str:
    """How many tasks have something to do that nobody came for: what the sweep would ring for."""
    known = list(tasks)
    conditions = [
        f"t.due <= {_NOW}",
        (
            "EXISTS (SELECT 1 FROM snapshot s WHERE s.task = t.id AND s.state = 'running'"
            f" AND s.lease <= {_NOW})"
        ),
        (
            "EXISTS (SELECT 1 FROM link l JOIN wire w ON w.id = l.wire WHERE l.task = t.id AND l.retired = 0"
            f"\n      AND l.position < w.head AND w.latest <= {_NOW} - {_PATIENCE})"
            f"\n    AND {_NOBODY_AT_WORK}"
        ),
        *(_startable(circuit, task) for task in known if task.mode != "job"),
        *(_closable(task, item) for task in known for item in _elastic(task)),
        *_unwritten(circuit),
    ]
    found = "\n    OR ".join(conditions)
    return f"""\
SELECT count(*) FROM task t JOIN circuit c ON c.id = t.circuit
WHERE {_named(circuit, known)}
  AND ({found})"""


def _unwritten(circuit: Circuit) -> list[str]:
    """Values of wires with `to` that nobody wrote."""
    sinks = sorted(name for name, wire in circuit.wires.items() if wire.sink and is_address(wire.sink))
    if not sinks:
        return []
    names = ", ".join(map(_text, sinks))
    known = f"w.circuit = c.id AND w.name IN ({names})"
    late = f"w.sunk < w.head AND w.latest <= {_NOW} - {_PATIENCE}"
    return [f"EXISTS (SELECT 1 FROM wire w WHERE {known}\n      AND {late})"]


_NOBODY_AT_WORK = "NOT EXISTS (SELECT 1 FROM snapshot s WHERE s.task = t.id AND s.state = 'running')"


def _startable(circuit: Circuit, task: Task) -> str:
    """A snapshot has been ready for a while, nothing holds it up, and nobody is at work."""
    free = "".join(f"\n      AND {one}" for one in _free(circuit, task))
    return f"""\
t.name = {_text(task.name)}
    AND EXISTS (SELECT 1 FROM snapshot s WHERE s.task = t.id AND s.state = 'ready'
      AND s.due <= {_NOW} - {_PATIENCE}{free})
    AND {_NOBODY_AT_WORK}"""


def _closable(task: Task, item: Input) -> str:
    """A window with enough values may be closed early, since the task has nothing else to do."""
    where = f"l.task = t.id AND l.retired = 0 AND l.input = {_text(item.name)}"
    counted = "l.position" if len(item.wires) == 1 and not item.ordered else "l.position - l.start"
    return f"""\
t.name = {_text(task.name)}
    AND NOT EXISTS (SELECT 1 FROM snapshot s WHERE s.task = t.id AND s.state IN ('ready', 'running'))
    AND (SELECT sum({counted} - l.used) FROM link l WHERE {where}) >= {item.buffer.least}
    AND NOT EXISTS (SELECT 1 FROM link l JOIN wire w ON w.id = l.wire WHERE {where}
      AND w.latest > {_NOW} - {_PATIENCE})"""


def _elastic(task: Task) -> list[Input]:
    """The inputs whose windows may be closed early; under `merge` all are one input."""
    found = [item for item in task.streams if item.buffer.elastic]
    if task.policy is Policy.MERGE and found:
        first = found[0]
        wires = tuple(wire for item in task.streams if not item.passive for wire in item.wires)
        return [Input(first.name, wires, first.buffer)]
    return found


def _free(circuit: Circuit, task: Task) -> list[str]:
    """What a ready snapshot s needs to be claimed.

    None before it under `strict`, no full reader, and the services that it asks have come up.
    """
    found = []
    for one in circuit.asked(task):
        found.append(
            "EXISTS (SELECT 1 FROM snapshot d JOIN task r ON r.id = d.task WHERE r.circuit = c.id"
            f" AND r.name = {_text(one.name)} AND d.state = 'done')"
        )
    if task.strict:
        found.append(
            "NOT EXISTS (SELECT 1 FROM snapshot d WHERE d.task = t.id AND d.number < s.number"
            " AND d.state IN ('ready', 'running', 'dead'))"
        )
    for held in holders(circuit, task):
        found.append(
            "coalesce((SELECT sum(w.head - l.start - l.settled) FROM link l JOIN wire w ON w.id = l.wire"
            " JOIN task r ON r.id = l.task WHERE r.circuit = c.id AND l.retired = 0"
            f" AND r.name = {_text(held.reader)} AND l.input = {_text(held.input)}), 0) < {held.limit}"
        )
    return found


def holders(circuit: Circuit, task: Task) -> list[Held]:
    """The readers whose backlog may hold up a task. On a cycle none does: it would wait for itself."""
    found = []
    for wire in task.output_wires:
        for reader in circuit.readers(wire):
            if reader.backlog is None or _leads_to(circuit, reader, task):
                continue
            items = [item for item in reader.streams if wire in item.wires and not item.passive]
            found += [Held(reader.name, item.name, reader.backlog) for item in items]
    return found


def _leads_to(circuit: Circuit, start: Task, goal: Task) -> bool:
    seen: set[str] = set()
    open_ends = [start]
    while open_ends:
        here = open_ends.pop()
        if here.name == goal.name:
            return True
        if here.name not in seen:
            seen.add(here.name)
            open_ends += [reader for wire in here.output_wires for reader in circuit.readers(wire)]
    return False


def _named(circuit: Circuit, tasks: Iterable[Task]) -> str:
    these = ", ".join(_text(task.name) for task in tasks)
    return f"c.name = {_text(circuit.name)} AND t.retired = 0 AND t.name IN ({these})"


def _text(word: str) -> str:
    """A word as SQL writes it. Names are DNS labels; this holds for any."""
    return "'" + word.replace("'", "''") + "'"
