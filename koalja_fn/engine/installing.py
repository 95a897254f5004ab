"""Installing: a circuit is wired up in the registry, or rewired, in one transaction (DESIGN, section 7).

A changed input or policy is a record in the task's log with the next generation. Snapshots that have
formed stay; new windows begin at the first value that has not left a window; nothing is dropped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from koalja_fn.engine.backlog import cyclic_wires
from koalja_fn.engine.plans import CircuitPlan, TaskPlan, wires_of
from koalja_fn.engine.replaying import Wiring, current_state
from koalja_fn.errors import NotFound
from koalja_fn.model import Circuit
from koalja_fn.plain import plain_circuit
from koalja_fn.program.locating import Located
from koalja_fn.registry import purging, records, snapshots, tasks
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.tasks import LinkRow, LogRecord, TaskRow
from koalja_fn.snapshots import (
    InputSpec,
    Spec,
    State,
    due,
    fresh,
    held,
    pending,
    spec_of,
    stragglers,
    unchanged,
)


@dataclass(frozen=True, slots=True)
class Change:
    """What installing did to a task: `new`, `rewired`, `retired`, `resumed`, `discarded`, `new code`."""

    task: str
    what: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Installed:
    """The circuit as it is wired up now, and what changed."""

    plan: CircuitPlan
    changes: tuple[Change, ...]


def install(
    tx: Transaction, now: int, circuit: Circuit, folder: Path, codes: Mapping[str, Located], wiring: str
) -> Installed:
    """Bring the registry in line with a circuit; `wiring` is its text, `codes` has each task's program."""
    row = tasks.keep_circuit(tx, circuit.name, wiring, now)
    first = not tasks.hold_circuit(tx, row)
    wires = {name: tasks.keep_wire(tx, row, name) for name in sorted(circuit.wires)}
    changes: list[Change] = []
    plans: dict[str, TaskPlan] = {}
    for task in circuit.tasks:
        plan = TaskPlan(0, circuit.name, task, spec_of(task), 1, codes[task.name], wires_of(task, wires))
        known = tasks.by_name(tx, row, task.name)
        if known is None:
            plan, change = _add(tx, now, row, plan, first)
        else:
            plan, change = _keep(tx, now, known, plan)
        changes += change
        if records.keep_version(tx, plan.id, plan.code.version, task.run or "", now) and known:
            changes.append(Change(task.name, "new code", plan.code.version))
        plans[task.name] = plan
    changes += _retire_others(tx, row, circuit)
    versions = {name: plan.code.version for name, plan in plans.items()}
    tasks.keep_model(tx, row, json.dumps({"circuit": plain_circuit(circuit), "versions": versions}))
    whole = CircuitPlan(row, circuit, folder, wires, plans)
    return Installed(replace(whole, cyclic=cyclic_wires(whole)), tuple(changes))


def discard(tx: Transaction, now: int, circuit: str, name: str) -> Change:
    """Drop what waits for a task that is no longer in the circuit, on record.

    Raises:
        NotFound: There is no such task among the retired ones.
    """
    row = tasks.circuit_id(tx, circuit)
    if row is not None:
        tasks.hold_circuit(tx, row)
    known = tasks.by_name(tx, row, name) if row is not None else None
    if known is None or not known.retired:
        raise NotFound(
            f"no removed task {name!r} in circuit {circuit}", cure="koalja-fn list tells which there are"
        )
    now = max(now, known.latest)
    dropped = _pass_over_all(tx, now, known)
    skipped = snapshots.skip_open(tx, known.id, now)
    return Change(name, "discarded", f"{dropped} values and {skipped} snapshots")


def _add(
    tx: Transaction, now: int, circuit: int, plan: TaskPlan, first: bool
) -> tuple[TaskPlan, list[Change]]:
    """A task that was never here: in a circuit's first deploy its links start at the beginning."""
    beginning = first or plan.task.start == "beginning"
    starts = {
        w: purging.purged_to(tx, plan.wires[w]) if beginning else tasks.head(tx, plan.wires[w])
        for w in plan.spec.wires
    }
    wired = Wiring(plan.spec, starts, {}, 1)
    state = fresh(plan.spec, starts)
    every = now if not plan.streams and plan.task.every else None
    row = tasks.insert(
        tx, circuit, plan.name, plan.spec.to_json(), state.to_json(), every or due(plan.spec, state), now
    )
    tasks.append(tx, row, [LogRecord(1, "wired", now, body=wired.to_json())], {})
    for item in plan.spec.inputs:
        for wire in item.wires:
            used = 0 if item.indexed or plan.spec.policy == "align" else starts[wire]
            tasks.keep_link(tx, row, plan.wires[wire], item.name, starts[wire], used)
    return replace(plan, id=row), [] if first else [Change(plan.name, "new")]


def _keep(tx: Transaction, now: int, known: TaskRow, plan: TaskPlan) -> tuple[TaskPlan, list[Change]]:
    """A task that was here before: resumed, rewired, or left as it is."""
    changes = []
    if known.retired:
        tasks.retire(tx, known.id, retired=False)
        changes.append(Change(plan.name, "resumed"))
    generation = known.generation
    if known.spec != plan.spec.to_json():
        generation += 1
        rewire(tx, now, known, plan, generation)
        changes.append(Change(plan.name, "rewired", f"generation {generation}"))
    if not plan.streams:
        when = (known.due or now) if plan.task.every else None
        tasks.schedule(tx, known.id, when)
    return replace(plan, id=known.id, generation=generation), changes


def rewire(
    tx: Transaction,
    now: int,
    known: TaskRow,
    plan: TaskPlan,
    generation: int,
    begins: Mapping[str, int] | None = None,
) -> None:
    """Put a task's new inputs or policy in force; `begins` says where links begin that were never there."""
    now = max(now, known.latest)
    old = Spec.from_json(known.spec)
    state = current_state(tx, old, known, None)
    links = {link.name: link for link in tasks.links(tx, known.id, retired=True)}
    same = unchanged(old, plan.spec)
    starts: dict[str, int] = {}
    bases: dict[str, int] = {}
    for item in plan.spec.inputs:
        if item.name in same:
            continue
        for wire in item.wires:
            link = links.get(wire)
            if link is not None:
                starts[wire] = _unused(tx, known, old, state, link)
            else:
                starts[wire] = begins[wire] if begins is not None else _start(tx, plan, wire)
        if item.indexed:
            bases[item.name] = snapshots.next_feed_index(tx, known.id, item.name)
    for left in stragglers(old, state, plan.spec):
        row = None if left.input in old.indexed else _wire_of(tx, known, old, left.input)
        last = left.first + left.count - 1
        tasks.pass_over(tx, known.id, now, left.input, row, left.first, last, left.reason)
    wired = Wiring(plan.spec, starts, bases, generation)
    following = wired.apply(old, state)
    head = known.log_head + 1
    tasks.append(tx, known.id, [LogRecord(head, "wired", now, body=wired.to_json())], {})
    tasks.rewire(
        tx,
        known.id,
        generation,
        plan.spec.to_json(),
        following.to_json(),
        head,
        due(plan.spec, following),
        now,
    )
    for item in plan.spec.inputs:
        if item.name not in same:
            _relink(tx, known, plan, item, links, starts, bases)
    for name, link in links.items():
        if name not in plan.spec.wires and not link.retired:
            tasks.retire_link(tx, known.id, link.wire, _unused(tx, known, old, state, link))


def _wire_of(tx: Transaction, known: TaskRow, spec: Spec, name: str) -> int:
    return tasks.wire_row(tx, known.id, next(i.wires[0] for i in spec.inputs if i.name == name))


def _relink(
    tx: Transaction,
    known: TaskRow,
    plan: TaskPlan,
    item: InputSpec,
    links: Mapping[str, LinkRow],
    starts: Mapping[str, int],
    bases: Mapping[str, int],
) -> None:
    """Set an input's links to where its new windows begin, and count anew what is settled."""
    behind = 0
    for wire in item.wires:
        used = bases.get(item.name, 0) if item.indexed else starts[wire]
        tasks.keep_link(tx, known.id, plan.wires[wire], item.name, starts[wire], used)
        tasks.recount(tx, known.id, plan.wires[wire], 0)
        if wire in links:
            behind += starts[wire] - links[wire].start
    if plan.spec.policy == "align":  # counted there: how many, not up to which
        tasks.move_link(tx, known.id, plan.wires[item.wires[0]], starts[item.wires[0]], behind, 0)
    unfinished = snapshots.unfinished_fresh(tx, known.id, item.name)
    tasks.recount(tx, known.id, plan.wires[item.wires[0]], behind - unfinished)


def _start(tx: Transaction, plan: TaskPlan, wire: str) -> int:
    """Where a link that was never there begins."""
    if plan.task.start == "beginning":  # or rather with the first value that is kept
        return purging.purged_to(tx, plan.wires[wire])
    return tasks.head(tx, plan.wires[wire])


def _unused(tx: Transaction, known: TaskRow, old: Spec, state: State, link: LinkRow) -> int:
    """The first position of a wire whose value has not left a window under the old wiring."""
    if link.retired:
        return link.position
    item = next(i for i in old.inputs if link.name in i.wires)
    first = pending(old, state)[item.name]
    if not item.indexed:
        return first
    fed = snapshots.first_fed_position(tx, known.id, item.name, first, link.wire)
    waiting_for_turn = [
        position for wire, position in held(old, state).get(item.name, ()) if wire == link.name
    ]
    return min([link.position, *([] if fed is None else [fed]), *waiting_for_turn])


def _retire_others(tx: Transaction, circuit: int, wanted: Circuit) -> list[Change]:
    """Tasks that the wiring has no longer: kept with all that waits for them."""
    changes = []
    for known in tasks.of_circuit(tx, circuit):
        if wanted.task(known.name) is None and not known.retired:
            tasks.retire(tx, known.id, retired=True)
            left = sum(max(0, link.head - link.start - link.settled) for link in tasks.links(tx, known.id))
            text = f"{left} values wait for its return; `--discard {known.name}` drops them" if left else ""
            changes.append(Change(known.name, "retired", text))
    return changes


def _pass_over_all(tx: Transaction, now: int, known: TaskRow) -> int:
    """Put all values that wait for a task on record as discarded, and begin anew behind them."""
    spec = Spec.from_json(known.spec)
    state = current_state(tx, spec, known, None)
    links = tasks.links(tx, known.id, retired=True)
    bases = {i.name: snapshots.next_feed_index(tx, known.id, i.name) for i in spec.inputs if i.indexed}
    ranges = list(_waiting_ranges(tx, known, spec, state, links, bases))
    for name, wire, begin, end in ranges:
        if begin < end:
            tasks.pass_over(tx, known.id, now, name, wire, begin, end - 1, "discarded")
    aligned = spec.policy == "align"
    for link in links:
        count = link.head - link.start
        used = count if aligned else bases.get(link.input, link.head)
        tasks.move_link(tx, known.id, link.wire, link.head, used, count)
    _begin_anew(tx, now, known, spec, state, {link.name: link.head for link in links}, bases)
    return sum(max(0, end - begin) for _, _, begin, end in ranges)


def _waiting_ranges(
    tx: Transaction,
    known: TaskRow,
    spec: Spec,
    state: State,
    links: Iterable[LinkRow],
    bases: Mapping[str, int],
) -> Iterator[tuple[str, int | None, int, int]]:
    """All that waits for a task: input, wire (None for indexes of admission), first, and where it ends."""
    first = pending(spec, state)
    for name, base in bases.items():
        yield name, None, first[name], base
    for link in links:
        read = link.retired or link.input in bases or link.input not in first
        yield link.input, link.wire, link.position if read else first[link.input], link.head
    for name, values in held(spec, state).items():
        for wire, position in values:
            yield name, tasks.wire_row(tx, known.id, wire), position, position + 1
    for left in stragglers(spec, state, Spec(())):
        row = None if left.input in bases else _wire_of(tx, known, spec, left.input)
        yield left.input, row, left.first, left.first + left.count


def _begin_anew(
    tx: Transaction,
    now: int,
    known: TaskRow,
    spec: Spec,
    state: State,
    starts: dict[str, int],
    bases: dict[str, int],
) -> None:
    """Two rewirings, to no inputs and back, make the core forget what it holds."""
    away = Wiring(Spec(()), {}, {}, known.generation + 1)
    back = Wiring(spec, starts, bases, known.generation + 2)
    following = back.apply(away.spec, away.apply(spec, state))
    head = known.log_head + 2
    records_of_it = [
        LogRecord(head - 1, "wired", now, body=away.to_json()),
        LogRecord(head, "wired", now, body=back.to_json()),
    ]
    tasks.append(tx, known.id, records_of_it, {})
    tasks.rewire(tx, known.id, back.generation, known.spec, following.to_json(), head, None, now)
