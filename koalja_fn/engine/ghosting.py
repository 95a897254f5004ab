"""Ghosts: values without payloads that walk a circuit and show where data would go (paper, section III.K).

Whoever comes to a task with a ghost looks at the task and goes on: no program runs, any window counts as
filled, and passive and implicit inputs as present. Each link is taken once, so that a loop ends. What would
stop real data is noted, and the walk goes on, so that all of it is told at once. Ghosts stand on no wire: the
core, claims, caches and sinks know nothing of them.

On one machine `walk` goes the whole way; on a cluster each runtime takes its own links (`take`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import PurePath
from typing import Any

from koalja_fn import ids
from koalja_fn.engine import backlog
from koalja_fn.engine.plans import CircuitPlan
from koalja_fn.events import DEFAULT_LIMITS
from koalja_fn.model import Circuit, Input, Task, is_address
from koalja_fn.plain import plain_circuit
from koalja_fn.registry import ghosts, snapshots
from koalja_fn.registry.ghosts import GhostRow, LinkRow, WalkRow
from koalja_fn.registry.registry import Transaction

Clock = Callable[[], int]


@dataclass(frozen=True, slots=True)
class Remark:
    """What is to be said of a stop. A `refused` one would stop real data there; a `note` would not."""

    kind: str
    code: str
    what: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the value would be, as far as the sender says; a size in bytes."""

    type: str = ""
    size: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """What is seen at a task, by whoever is where its program would run.

    `where` names the place: a machine, a pod. `store` is where its payloads would be put. `run` is what would
    be started, `version` the digest of the code. `wires` has what is to be said of the wires that it feeds.
    """

    where: str
    store: str
    version: str = ""
    run: str = ""
    remarks: tuple[Remark, ...] = ()
    wires: Mapping[str, tuple[Remark, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Start:
    """Where a walk begins: wires from outside, and tasks that time drives."""

    wires: tuple[str, ...]
    tasks: tuple[str, ...] = ()


def starts_of(circuit: Circuit, wires: Sequence[str] = ()) -> Start:
    """The wires that are named; without any, all ways in: sources, and tasks without inputs.

    A circuit that is one loop has no source: then all of its wires that somebody reads are ways in.
    """
    if wires:
        return Start(tuple(dict.fromkeys(wires)))
    timed = tuple(task.name for task in circuit.tasks if not task.streams)
    if circuit.sources or timed:
        return Start(circuit.sources, timed)
    return Start(tuple(name for name in sorted(circuit.wires) if circuit.readers(name))[:1])


def begin(
    tx: Transaction,
    clock: Clock,
    circuit: Circuit,
    walk: str,
    start: Start,
    shape: Shape,
    *,
    plan: CircuitPlan | None = None,
    where: str = "",
    store: str = "",
    remarks: Mapping[str, tuple[Remark, ...]] | None = None,
) -> bool:
    """Record a walk and put a ghost on each wire where it begins; False where it has begun before.

    `plan` is the circuit as it is installed, if it is: what its links have before them is looked at.
    """
    told = {
        "circuit": plain_circuit(circuit),
        "start": {"wires": list(start.wires), "tasks": list(start.tasks)},
        "shape": asdict(shape),
        "where": where,
        "store": store,
    }
    if not ghosts.begin(tx, WalkRow(walk, circuit.name, clock(), told)):
        return False
    for wire in start.wires:
        said = [*entering(circuit, wire, shape), *_full(tx, plan, wire), *(remarks or {}).get(wire, ())]
        _appear(tx, clock, circuit, walk, wire, "", "", 0, _told(said, store=store))
    return True


def take(
    tx: Transaction,
    clock: Clock,
    circuit: Circuit,
    walk: str,
    wire: str,
    task: Task,
    look: Look,
    plan: CircuitPlan | None = None,
) -> list[str]:
    """Take the link from a wire to a task; return the wires that got their ghost by it. No wire: by time.

    Taking it again changes nothing and returns the same wires: whoever took it may have died before it rang.
    """
    came = ghosts.on_wire(tx, walk, wire) if wire else None
    if wire and came is None:  # a walk that was forgotten, or of another circuit
        return []
    hops = 1 + (came.hops if came else 0)
    told = {
        "where": look.where,
        "store": look.store,
        "version": look.version,
        "run": look.run,
        "region": task.region or "",
        "remarks": _plain([*look.remarks, *passing(circuit, wire, task, hops), *_stopped(tx, plan, task)]),
    }
    ghosts.take(tx, LinkRow(walk, circuit.name, wire, task.name, clock(), told))
    for made in task.output_wires:
        _appear(
            tx,
            clock,
            circuit,
            walk,
            made,
            task.name,
            wire,
            hops,
            _told(look.wires.get(made, ()), store=look.store),
        )
    mine = (ghosts.on_wire(tx, walk, made) for made in task.output_wires)
    return [one.wire for one in mine if one is not None and (one.task, one.via) == (task.name, wire)]


def walk(
    tx: Transaction,
    clock: Clock,
    circuit: Circuit,
    walk: str,
    looks: Mapping[str, Look],
    plan: CircuitPlan | None = None,
    *,
    begun: Start,
    only: Callable[[Task], bool] = lambda _: True,
) -> list[str]:
    """Go on from where it has begun through all tasks that `only` lets pass; the wires that it came to.

    Links that would start nothing by themselves, those of passive inputs, are taken after all others.
    """
    reached = list(begun.wires)
    waiting = deque([("", task) for task in circuit.tasks if task.name in begun.tasks])
    passive: deque[tuple[str, Task]] = deque()

    readers = readers_of(circuit)

    def arrived(wire: str) -> None:
        for task in readers.get(wire, ()):
            active = any(wire in item.wires and not item.passive for item in task.streams)
            (waiting if active else passive).append((wire, task))

    for wire in reached:
        arrived(wire)
    while waiting or passive:
        wire, task = (waiting or passive).popleft()
        if not only(task):
            continue
        for made in take(tx, clock, circuit, walk, wire, task, looks[task.name], plan):
            reached.append(made)
            arrived(made)
    return reached


def expected(circuit: Circuit, start: Start) -> list[tuple[str, str]]:
    """The links that a walk takes, wire and task, the nearest first; an empty wire means time."""
    found = [("", name) for name in start.tasks]
    wires = list(start.wires)
    known = set(wires)
    readers = readers_of(circuit)

    def passed(task: Task) -> None:
        fresh = [wire for wire in task.output_wires if wire not in known]
        known.update(fresh)
        wires.extend(fresh)

    for task in circuit.tasks:
        if task.name in start.tasks:
            passed(task)
    for wire in wires:  # grows meanwhile
        for reader in readers.get(wire, ()):
            found.append((wire, reader.name))
            passed(reader)
    return found


def readers_of(circuit: Circuit) -> dict[str, list[Task]]:
    """For each wire the tasks that read it as a stream, in the order of the file."""
    found: dict[str, list[Task]] = {}
    for task in circuit.tasks:
        for wire in dict.fromkeys(wire for item in task.streams for wire in item.wires):
            found.setdefault(wire, []).append(task)
    return found


def is_rung(task: Task) -> bool:
    """Whether a deployed task hears doorbells; others (jobs, what time drives) are walked for."""
    return (task.mode == "service" or task.service) and bool(task.streams)


def entering(circuit: Circuit, wire: str, shape: Shape) -> list[Remark]:
    """What the way in would say to such a value on a wire."""
    found = []
    known = circuit.wires[wire]
    if shape.size > DEFAULT_LIMITS.body:
        found.append(
            Remark(
                "refused",
                "size",
                f"the entry refuses {shape.size} bytes (HTTP 413): at most {DEFAULT_LIMITS.body} are taken",
                "send it in parts, or let it come as a file of an in-tray",
            )
        )
    if shape.type and known.type and _essence(shape.type) != _essence(known.type):
        found.append(
            Remark(
                "note",
                "type",
                f"the value would be {shape.type}, and '{wire}' says type = {known.type};"
                " it is taken as it is, and the program has to cope",
                f"send it as {known.type}, or mend the wiring",
            )
        )
    return found


def passing(circuit: Circuit, wire: str, task: Task, hops: int) -> list[Remark]:
    """What a task's wiring would do to a value that comes to it by a wire, `hops` tasks on its way."""
    found = [remark for item in task.inputs for remark in _of_input(circuit, wire, item)]
    if hops > task.max_hops:
        found.append(
            Remark(
                "refused",
                "max-hops",
                f"after {hops} tasks, where max-hops is {task.max_hops}, it is a dead letter",
                f"max-hops = {hops}, or a shorter way",
            )
        )
    found += _regions(circuit, task)
    if task.rate is not None:
        many = f"{task.rate.count} in {task.rate.seconds:g} s"
        found.append(Remark("note", "rate", f"at most {many}: real data may wait here"))
    if task.service:
        found.append(
            Remark("note", "service", "a service: a new process would take over; nothing is asked of it")
        )
    return found


def _of_input(circuit: Circuit, wire: str, item: Input) -> list[Remark]:
    if item.implicit:
        name = item.wires[0]
        offered = next(
            (t.name for t in circuit.tasks if any(o.implicit and o.wire == name for o in t.outputs)), ""
        )
        at = circuit.wires[name].at or ""
        if not offered and not at:
            what = f"nobody offers '{name}', which the program would ask"
            return [Remark("refused", "lookup", what, f"wire {name} with at = https://…")]
        by = f"task '{offered}'" if offered else at
        return [Remark("note", "lookup", f"'{name}' of {by} counts as present, and is not asked")]
    if wire not in item.wires:
        how = "passive, " if item.passive else ""
        return [Remark("note", "present", f"'{item.name}' ({how}not on this road) counts as present")]
    found = []
    if item.passive:
        what = f"'{item.name}' is passive: by itself a real value starts nothing here"
        found.append(Remark("note", "passive", what))
    if not item.buffer.plain:
        most = item.buffer.least
        what = f"'{item.name}{item.buffer}' counts as filled; real data wait until there are {most}"
        found.append(Remark("note", "window", what))
    if len(item.wires) > 1:
        found.append(Remark("note", "merged", f"'{item.name}' merges {' + '.join(item.wires)}"))
    return found


def _regions(circuit: Circuit, task: Task) -> list[Remark]:
    """Confined wires that the task would read from another region."""
    found = []
    for name in dict.fromkeys(wire for item in task.inputs for wire in item.wires):
        confined = circuit.wires[name].confined
        if confined and task.region != confined:
            where = f"region {task.region}" if task.region else "no region of its own"
            what = f"'{name}' is confined to {confined}, and '{task.name}' runs in {where}"
            cure = f"region = {confined}, or let a task there publish a summary on another wire"
            found.append(Remark("note", "confined", f"{what}; this version does not refuse it", cure))
    return found


def _full(tx: Transaction, plan: CircuitPlan | None, wire: str) -> list[Remark]:
    """Whether the entry would refuse a value now, since a reader has enough before it."""
    reader = backlog.full_reader(tx, plan, [wire]) if plan is not None and wire in plan.wires else None
    if reader is None:
        return []
    what = f"the entry refuses it for now with HTTP 429: the backlog of '{reader.name}' is full"
    return [Remark("refused", "backlog", what, "let it catch up, or raise backlog")]


def _stopped(tx: Transaction, plan: CircuitPlan | None, task: Task) -> list[Remark]:
    """Whether the installed task stands still because of a dead letter, or waits for a full reader."""
    known = plan.tasks.get(task.name) if plan is not None else None
    if plan is None or known is None:
        return []
    found = []
    if known.task.strict and (dead := snapshots.dead(tx, known.id)):
        what = f"order = strict, and snapshot {dead[0].number + 1} is a dead letter: nothing passes it"
        found.append(Remark("refused", "dead-letter", what, "koalja-fn retry, or koalja-fn skip"))
    reader = backlog.full_reader(tx, plan, task.output_wires)
    if reader is not None:
        found.append(Remark("note", "backlog", f"it waits now: the backlog of '{reader.name}' is full"))
    return found


def sink_of(circuit: Circuit, wire: str) -> str:
    """What `to` says where values of a wire would be written; empty where nothing does."""
    return circuit.wires[wire].sink or ""


def is_file_pattern(sink: str) -> bool:
    """Whether a `to` means files, which are written where the circuit runs."""
    return bool(sink) and not is_address(sink)


def first_folder(sink: str) -> PurePath:
    """The folder of a file pattern up to its first placeholder."""
    parts = PurePath(sink + "{id}" * sink.endswith("/")).parts[:-1]
    fixed = [part for part in parts if "{" not in part]
    return PurePath(*fixed[: next((n for n, part in enumerate(parts) if "{" in part), len(parts))])


def _appear(
    tx: Transaction,
    clock: Clock,
    circuit: Circuit,
    walk: str,
    wire: str,
    task: str,
    via: str,
    hops: int,
    told: Mapping[str, Any],
) -> bool:
    named = ids.ghost(walk, wire)
    return ghosts.appear(tx, GhostRow(named, walk, circuit.name, wire, task, via, clock(), hops, told))


def _told(remarks: Iterable[Remark], *, store: str) -> dict[str, Any]:
    return {"store": store, "remarks": _plain(remarks)}


def _plain(remarks: Iterable[Remark]) -> list[dict[str, str]]:
    return [asdict(remark) for remark in remarks]


def _essence(kind: str) -> str:
    return kind.partition(";")[0].strip().lower()
