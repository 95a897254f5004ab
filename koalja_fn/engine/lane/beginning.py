"""What a recompute would redo, and its beginning: the lane's rows, and which results are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from koalja_fn.engine.lane.choosing import Reach, reach
from koalja_fn.engine.plans import CircuitPlan, asked_wires
from koalja_fn.errors import NotFound, UsageError
from koalja_fn.registry import lanes, lookups, tasks
from koalja_fn.registry.lanes import Recompute
from koalja_fn.registry.registry import Transaction

REPLAY = "replayLookups"
"""Among the options of a recompute on record: whether look-ups were answered from the record."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is to be redone. `named`: the task that a person named; `since`: µs, of when snapshots formed.

    `roots` are the tasks whose own snapshots are asked for; others are redone where their inputs differ.
    `services` are those whose new snapshot makes older answers void: the rows of their snapshots by name.
    `replay_lookups`: look-ups are answered from the record, and nobody is asked.
    """

    roots: tuple[str, ...] = ()
    named: bool = False
    since: int = 0
    only_failed: bool = False
    effects: bool = False
    services: Mapping[str, int] = field(default_factory=dict)
    replay_lookups: bool = False

    def to_json(self) -> dict[str, Any]:
        """As the registry keeps it."""
        return {
            "roots": list(self.roots),
            "named": self.named,
            "since": self.since,
            "onlyFailed": self.only_failed,
            "effects": self.effects,
            "services": dict(self.services),
            REPLAY: self.replay_lookups,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Options:
        """Read it back."""
        return cls(
            tuple(data["roots"]),
            data["named"],
            data["since"],
            data["onlyFailed"],
            data["effects"],
            data["services"],
            data.get(REPLAY, False),
        )


@dataclass(frozen=True, slots=True)
class Planned:
    """A task of a lane: how many snapshots will, or at most may, be redone, and why."""

    task: str
    count: int
    certain: bool
    why: str
    versions: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As it is."""
        return {
            "task": self.task,
            "snapshots": self.count,
            "certain": self.certain,
            "why": self.why,
            "versions": list(self.versions),
        }


@dataclass(frozen=True, slots=True)
class Prospect:
    """What a recompute would do; nothing where no task is asked for."""

    options: Options
    reach: Reach
    tasks: tuple[Planned, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "tasks": [task.to_json() for task in self.tasks],
            "wires": list(self.reach.wires),
            "loops": list(self.reach.loops),
            "notes": list(self.notes),
        }


def prospect(
    tx: Transaction,
    plan: CircuitPlan,
    *,
    task: str | None = None,
    among: Sequence[str] | None = None,
    since: int = 0,
    only_failed: bool = False,
    effects: bool = False,
    replay_lookups: bool = False,
) -> Prospect:
    """Look what is to be redone: of one task, or of all whose results another version of their code made.

    `among` restricts the latter to some tasks; of a service among them, those that an older snapshot of it
    has answered are redone.

    Raises:
        NotFound: There is no such task.
    """
    if task is not None and task not in plan.tasks:
        known = ", ".join(plan.tasks)
        raise NotFound(f"no task {task!r} in circuit {plan.circuit.name}", cure=f"there are: {known}")
    roots: dict[str, Planned] = {}
    notes: list[str] = []
    for name, one in plan.tasks.items():
        if task not in (None, name) or (among is not None and name not in among):
            continue
        planned = _asked_for(tx, plan, name, since, named=task is not None, failed=only_failed)
        if not planned.count:
            continue
        if not one.streams and task is None:
            notes.append(
                f"{name} has no inputs: what it found then can't be found again; --task {name} runs it anew"
            )
        elif one.task.service:
            runs = "runs on its latest snapshot, with its code as it is now"
            notes.append(f"{name} is a service: it {'is not run' if replay_lookups else runs}")
        else:
            roots[name] = planned
    services = _renewed(tx, plan, among or (), roots)
    options = Options(tuple(roots), task is not None, since, only_failed, effects, services, replay_lookups)
    reached = reach(plan.circuit, tuple(roots))
    found = tuple(roots.get(name) or _downstream(tx, plan, name, reached) for name in reached.tasks)
    return Prospect(options, reached, found, (*notes, *_notes(tx, plan, options, reached)))


def _renewed(
    tx: Transaction, plan: CircuitPlan, among: Sequence[str], roots: dict[str, Planned]
) -> dict[str, int]:
    """Services with a newer snapshot than some answers on record; who was told those becomes a root."""
    found: dict[str, int] = {}
    for name in among:
        one = plan.tasks[name]
        newest = lanes.newest_of_service(tx, one.id) if one.task.service else None
        if newest is None:
            continue
        offered = {output.wire for output in one.task.outputs if output.implicit}
        for asker in plan.tasks.values():
            if asker.task.service or not any(i.implicit and i.name in offered for i in asker.task.inputs):
                continue
            count = lanes.answered_by_older(tx, asker.id, one.id, newest)
            if count:
                found[name] = newest
                why = f"service {name} has a newer snapshot than the one that answered"
                roots.setdefault(asker.name, Planned(asker.name, count, True, why))
    return found


def begin(tx: Transaction, now: int, plan: CircuitPlan, wanted: Prospect) -> Recompute:
    """Draw an epoch, and make the lane.

    Raises:
        UsageError: What lies downstream can't be replayed.
    """
    tasks.hold_circuit(tx, plan.id)
    for name in wanted.reach.tasks:
        if lanes.is_discarded(tx, plan.tasks[name].id):
            raise UsageError(
                f"task {name} can't be replayed",
                why="values that waited for it were dropped once with --discard",
                cure="there is no way round it in this version",
            )
    for name in wanted.reach.wires:
        waiting = lanes.retired_readers(tx, plan.wires[name])
        if waiting:
            raise UsageError(
                f"wire {name} can't be recomputed",
                why=f"values of it wait for what was taken out of the circuit: {', '.join(waiting)}",
                cure=f"koalja-fn run --discard {waiting[0]}, or put it back",
            )
    made = lanes.insert(tx, plan.id, now, wanted.options.to_json())
    for name in wanted.reach.wires:
        lanes.add_wire(tx, made.id, plan.wires[name], made.world)
    for place, name in enumerate(wanted.reach.tasks):
        lanes.add_task(tx, made.id, place, plan.tasks[name].id, made.world, made.epoch)
    return made


def _asked_for(
    tx: Transaction, plan: CircuitPlan, name: str, since: int, *, named: bool, failed: bool
) -> Planned:
    one = plan.tasks[name]
    version = one.code.version
    count, versions = lanes.outdated(tx, one.id, version, since, failed=failed)
    if failed:
        return Planned(name, count, True, "its dead letters are tried again")
    if named:
        count = lanes.finished(tx, one.id, since)
    if versions:
        why = f"its code is {_short(version)}, its results are by {', '.join(map(_short, versions))}"
    else:
        why = "it was named"
    return Planned(name, count, True, why, (*versions, version))


def _downstream(tx: Transaction, plan: CircuitPlan, name: str, reached: Reach) -> Planned:
    wires = [wire for wire in plan.tasks[name].spec.wires if wire in reached.wires]
    count = lanes.finished(tx, plan.tasks[name].id, 0)
    return Planned(name, count, False, f"it reads {', '.join(wires)}, where values may differ")


def _notes(tx: Transaction, plan: CircuitPlan, options: Options, reached: Reach) -> Iterator[str]:
    for wire in reached.loops:
        yield f"a loop goes through {wire}: it is gone round once, and the values of {wire} stay as they are"
    yield from _notes_of_lookups(tx, plan, options, reached)
    if options.effects:
        return
    for name in reached.tasks:
        task = plan.tasks[name].task
        if not task.outputs:
            yield f"{name} has effects only: it is not run again without --effects"
    for wire in reached.wires:
        if plan.circuit.wires[wire].sink:
            yield f"{wire} is written out (`to`): new values of old snapshots are not, without --effects"


def _notes_of_lookups(tx: Transaction, plan: CircuitPlan, options: Options, reached: Reach) -> Iterator[str]:
    """Who asks on the side, and who answers."""
    askers = [n for n in reached.tasks if asked_wires(plan.tasks[n]) and not plan.tasks[n].task.service]
    for name in askers:
        wires = ", ".join(asked_wires(plan.tasks[name]))
        if options.replay_lookups:
            yield f"{name} is told what is on record for {wires}; nobody is asked"
            lost = lookups.without_bodies(tx, plan.tasks[name].id)
            if lost:
                yield f"{name}: {lost} answers on record have lost their bodies (too large, or purged)"
        else:
            yield f"{name} asks {wires} anew; --replay-lookups gives it the answers on record"
    if options.replay_lookups and not askers:
        yield "nobody in it asks services: --replay-lookups changes nothing"
    for name in reached.tasks if options.replay_lookups else ():
        if plan.tasks[name].task.service:
            yield f"service {name} gets new snapshots; the answers on record are by its old ones"


def _short(version: str) -> str:
    return version.removeprefix("sha256:")[:8]
