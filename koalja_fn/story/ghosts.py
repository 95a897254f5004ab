"""The story of a walk of ghosts: each road, what would be refused, what lies off every road."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from koalja_fn.engine.ghosting import Start, expected, readers_of
from koalja_fn.errors import NotFound, UsageError
from koalja_fn.model import Circuit, Task
from koalja_fn.plain import circuit_of
from koalja_fn.registry import ghosts
from koalja_fn.registry.ghosts import GhostRow, LinkRow, WalkRow
from koalja_fn.registry.registry import Transaction
from koalja_fn.story.words import iso, local, plural, short, version

_SHORTEST = 4
_FEW = 12


@dataclass(frozen=True, slots=True)
class Road:
    """One way through the circuit: ghosts and links in turn, and how it ends."""

    stops: tuple[GhostRow | LinkRow, ...]
    ends: str


@dataclass(frozen=True)
class Walk:
    """What is on record of a walk. `circuit` is as it was walked."""

    row: WalkRow
    circuit: Circuit
    start: Start
    ghosts: Mapping[str, GhostRow]
    links: Mapping[tuple[str, str], LinkRow]

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """The circuit's tasks by their names."""
        return {task.name: task for task in self.circuit.tasks}

    @cached_property
    def readers(self) -> dict[str, list[Task]]:
        """Who reads each wire."""
        return readers_of(self.circuit)

    @cached_property
    def _expected(self) -> list[tuple[str, str]]:
        return expected(self.circuit, self.start)

    @property
    def unanswered(self) -> list[tuple[str, str]]:
        """Links, wire and task, that nobody has taken, though their wire has its ghost."""
        return [
            (wire, task)
            for wire, task in self._expected
            if (wire, task) not in self.links and (not wire or wire in self.ghosts)
        ]

    @property
    def complete(self) -> bool:
        """Whether every link that can be come to was taken."""
        return all(link in self.links for link in self._expected)

    @property
    def refused(self) -> list[tuple[str, dict[str, str]]]:
        """What would be refused: a wire's or a task's name, and the remark; each once."""
        found: dict[tuple[str, str, str], tuple[str, dict[str, str]]] = {}
        stops: list[GhostRow | LinkRow] = [*self.ghosts.values(), *self.links.values()]
        for stop in stops:
            name = stop.task if isinstance(stop, LinkRow) else stop.wire
            for remark in stop.told["remarks"]:
                if remark["kind"] == "refused":
                    found.setdefault((name, remark["code"], remark["what"]), (name, remark))
        return list(found.values())

    @property
    def off(self) -> tuple[list[str], list[str]]:
        """Wires and tasks that lie off every road."""
        went = {link.task for link in self.links.values()}
        asked = {o.wire for t in self.circuit.tasks if t.name in went for o in t.outputs if o.implicit}
        asked |= {
            w for t in self.circuit.tasks if t.name in went for i in t.inputs if i.implicit for w in i.wires
        }
        return (
            sorted(set(self.circuit.wires) - self.ghosts.keys() - asked),
            [task.name for task in self.circuit.tasks if task.name not in went],
        )

    def roads(self) -> list[Road]:
        """All roads. Together they take each link once; where two meet the later one ends."""
        return list(_roads(self))

    def to_json(self) -> dict[str, Any]:
        """The whole report."""
        wires, tasks = self.off
        return {
            "ghost": True,
            "walk": self.row.id,
            "circuit": self.circuit.name,
            "at": iso(self.row.at),
            "where": self.row.told["where"],
            "store": self.row.told["store"],
            "start": {"wires": list(self.start.wires), "tasks": list(self.start.tasks)},
            "value": dict(self.row.told["shape"]),
            "ghosts": {wire: ghost.id for wire, ghost in sorted(self.ghosts.items())},
            "roads": [self._road_json(road) for road in self.roads()],
            "refused": [{"at": name, **remark} for name, remark in self.refused],
            "unanswered": [{"wire": wire, "task": task} for wire, task in self.unanswered],
            "off": {"wires": wires, "tasks": tasks},
            "complete": self.complete,
        }

    def _road_json(self, road: Road) -> dict[str, Any]:
        stops = [self._stop_json(stop) for stop in road.stops]
        return {"stops": stops, "ends": road.ends, "refused": [r for s in stops for r in _refusals(s)]}

    def _stop_json(self, stop: GhostRow | LinkRow) -> dict[str, Any]:
        told = {"at": iso(stop.at), "store": stop.told["store"], "remarks": stop.told["remarks"]}
        if isinstance(stop, GhostRow):
            wire = self.circuit.wires[stop.wire]
            about = {"type": wire.type or "", "confined": wire.confined or "", "to": wire.sink or ""}
            return {"wire": stop.wire, "ghost": stop.id, "hops": stop.hops, **about, **told}
        seen = {name: stop.told[name] for name in ("where", "version", "run", "region")}
        task = self.tasks.get(stop.task)
        return {"task": stop.task, "by": stop.wire, "mode": task.mode if task else "", **seen, **told}


def _refusals(stop: Mapping[str, Any]) -> list[dict[str, str]]:
    name = str(stop.get("task") or stop.get("wire"))
    return [{"at": name, **remark} for remark in stop["remarks"] if remark["kind"] == "refused"]


def load(tx: Transaction, id: str) -> Walk | None:
    """The walk of that id."""
    row = ghosts.walk(tx, id)
    if row is None:
        return None
    start = Start(tuple(row.told["start"]["wires"]), tuple(row.told["start"]["tasks"]))
    found = {ghost.wire: ghost for ghost in ghosts.of_walk(tx, id)}
    links = {(link.wire, link.task): link for link in ghosts.links_of(tx, id)}
    return Walk(row, circuit_of(row.told["circuit"]), start, found, links)


def find(tx: Transaction, word: str) -> tuple[Walk, GhostRow | None] | None:
    """The walk, or the ghost in its walk, whose id begins with `word`; None where there is none.

    Raises:
        UsageError: Several begin so.
    """
    prefix = word.lower()
    if len(prefix) < _SHORTEST or set(prefix) - set("0123456789abcdef"):
        return None
    some = ghosts.ghosts_like(tx, prefix, _FEW)
    walks = ghosts.walks_like(tx, prefix, _FEW)
    if len(some) + len(walks) > 1:
        lines = [f"  ghost {one.id}  {one.wire}, {local(one.at)}" for one in some]
        lines += [f"  walk  {one}" for one in walks]
        raise UsageError("\n".join([f"{word!r} is the beginning of several ids:", *lines]))
    if some:
        walk = load(tx, some[0].walk)
        return (walk, some[0]) if walk else None
    walk = load(tx, walks[0]) if walks else None
    return (walk, None) if walk else None


def the_walk(tx: Transaction, word: str) -> Walk:
    """The walk whose id begins with `word`, or that has such a ghost.

    Raises:
        NotFound: There is none.
        UsageError: Several begin so.
    """
    found = find(tx, word)
    if found is None:
        raise NotFound(f"no walk of ghosts has an id that begins with {word!r}", cure="koalja-fn list ghosts")
    return found[0]


def _roads(walk: Walk) -> Iterator[Road]:
    """Depth first; a road goes on where a ghost came by its last link, and else ends."""
    open_roads: list[tuple[GhostRow | LinkRow, ...]] = []
    for name in reversed(walk.start.tasks):
        if link := walk.links.get(("", name)):
            open_roads.append((link,))
        else:
            yield Road((), f"nobody answered for '{name}'")
    for wire in reversed(walk.start.wires):
        if ghost := walk.ghosts.get(wire):
            open_roads.append((ghost,))
    while open_roads:
        stops = open_roads.pop()
        last = stops[-1]
        following = _after_wire(walk, last) if isinstance(last, GhostRow) else _after_link(walk, stops, last)
        if isinstance(following, str):
            yield Road(stops, following)
            continue
        for one in reversed(following):
            if isinstance(one, str):
                continue
            open_roads.append((*stops, one))
        for one in following:
            if isinstance(one, str):
                yield Road(stops, one)


def _after_wire(walk: Walk, ghost: GhostRow) -> str | Sequence[LinkRow | str]:
    readers = walk.readers.get(ghost.wire)
    if not readers:
        sink = walk.circuit.wires[ghost.wire].sink
        return f"written to {sink}" if sink else "nobody reads it"
    found: list[LinkRow | str] = []
    for task in readers:
        link = walk.links.get((ghost.wire, task.name))
        found.append(link or f"task '{task.name}' has not answered")
    return found


def _after_link(
    walk: Walk, stops: Sequence[GhostRow | LinkRow], link: LinkRow
) -> str | Sequence[GhostRow | str]:
    task = walk.tasks.get(link.task)
    wires = task.output_wires if task else ()
    mine = [g for w in wires if (g := walk.ghosts.get(w)) and (g.task, g.via) == (link.task, link.wire)]
    others = [w for w in wires if all(w != g.wire for g in mine)]
    if mine:
        return [*mine, *(f"'{wire}' has its ghost already: a loop, or another way in" for wire in others)]
    before = {stop.task for stop in stops[:-1] if isinstance(stop, LinkRow)}
    if link.task in before:
        return f"a loop: back at task '{link.task}'"
    if not wires:
        services = task.service if task else False
        return "a service takes it in" if services else "the last task: it has no output"
    return f"joins the road above at task '{link.task}'"


def report(walk: Walk) -> str:
    """The walk for people."""
    return "\n".join(_lines(walk))


def _lines(walk: Walk) -> Iterator[str]:
    begun = ", ".join([*walk.start.wires, *(f"task {name} (by time)" for name in walk.start.tasks)])
    yield f"ghost walk {short(walk.row.id)} of circuit {walk.circuit.name}, {local(walk.row.at)}"
    shape = _shape(walk.row.told["shape"])
    yield f"from {begun or 'nowhere: the circuit has no way in'}{shape}; no program was run"
    told: set[int] = set()
    for number, road in enumerate(walk.roads(), 1):
        yield ""
        yield f"road {number}"
        for stop in road.stops:
            yield from _stop_lines(walk, stop, again=id(stop) in told)
            told.add(id(stop))
        yield f"  ({road.ends})"
    yield ""
    yield from _verdict(walk)


def _shape(shape: Mapping[str, Any]) -> str:
    said = [str(shape["type"])] if shape["type"] else []
    said += [plural(shape["size"], "byte")] if shape["size"] else []
    said += [f"file {shape['name']}"] if shape["name"] else []
    return f": {', '.join(said)}" if said else ""


def _stop_lines(walk: Walk, stop: GhostRow | LinkRow, *, again: bool) -> Iterator[str]:
    """A stop; told before, only its name."""
    if isinstance(stop, GhostRow):
        wire = walk.circuit.wires[stop.wire]
        notes = [f"ghost {short(stop.id)}"]
        if not again:
            notes += [wire.type] if wire.type else []
            notes += [f"confined to {wire.confined}"] if wire.confined else []
            notes += [f"payload to {stop.told['store']}"] if stop.told["store"] else []
            notes += [f"to = {wire.sink}"] if wire.sink else []
        yield f"  {stop.wire:<16} {', '.join(notes)}"
    else:
        task = walk.tasks.get(stop.task)
        yield f"    {stop.task:<14} {'(told above)' if again else _seen(task, stop)}"
    if not again:
        for remark in stop.told["remarks"]:
            sign = "REFUSED" if remark["kind"] == "refused" else "note"
            yield f"      {sign}: {remark['what']}"


def _seen(task: Task | None, link: LinkRow) -> str:
    told = link.told
    notes = [str(told["run"])] if told["run"] else []
    notes += [f"version {version(str(told['version']))}"] if told["version"] else []
    notes += [f"region {told['region']}"] if told["region"] else []
    notes += ["a job"] if task is not None and task.mode == "job" else []
    notes += [f"on {told['where']}"] if told["where"] else []
    return ", ".join(notes)


def _verdict(walk: Walk) -> Iterator[str]:
    refused = walk.refused
    if refused:
        yield f"would be refused ({len(refused)}):"
        for name, remark in refused:
            yield f"  {name}: {remark['what']}"
            if remark["cure"]:
                yield f"    try: {remark['cure']}"
    else:
        yield "nothing would be refused"
    if walk.unanswered:
        silent = [f"{wire or 'time'} -> {task}" for wire, task in walk.unanswered]
        yield f"did not answer: {_some(silent)}"
    wires, tasks = walk.off
    off = [f"wires {_some(wires)}"] if wires else []
    off += [f"tasks {_some(tasks)}"] if tasks else []
    yield f"off every road: {'; '.join(off) or 'nothing'}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _FEW
    return ", ".join(names[:_FEW]) + (f" and {more} more" if more > 0 else "")


def way_of(walk: Walk, ghost: GhostRow, *, ahead: bool = False) -> tuple[GhostRow | LinkRow, ...]:
    """The stops from where the walk began to a ghost; `ahead`: all that lie behind it, each once."""
    if not ahead:
        stops: list[GhostRow | LinkRow] = [ghost]
        here: GhostRow | None = ghost
        while here is not None and here.task:
            link = walk.links.get((here.via, here.task))
            stops += [link] if link else []
            here = walk.ghosts.get(here.via) if here.via else None
            stops += [here] if here else []
        return tuple(reversed(stops))
    found: dict[int, GhostRow | LinkRow] = {}
    for road in walk.roads():
        after = [n for n, stop in enumerate(road.stops) if stop is ghost or _same(stop, ghost)]
        for stop in road.stops[after[0] :] if after else ():
            found.setdefault(id(stop), stop)
    return tuple(found.values())


def _same(stop: GhostRow | LinkRow, ghost: GhostRow) -> bool:
    return isinstance(stop, GhostRow) and stop.id == ghost.id


def passport_json(walk: Walk, ghost: GhostRow, *, ahead: bool = False) -> dict[str, Any]:
    """A ghost's passport."""
    return {
        "ghost": True,
        "id": ghost.id,
        "walk": walk.row.id,
        "circuit": walk.circuit.name,
        "wire": ghost.wire,
        "forward": ahead,
        "stops": [walk._stop_json(stop) for stop in way_of(walk, ghost, ahead=ahead)],
    }


def passport_lines(walk: Walk, ghost: GhostRow, *, ahead: bool = False) -> Iterator[str]:
    """A ghost's passport, for people."""
    yield f"{short(ghost.id)} is a ghost on wire {ghost.wire}: it has no payload, and no program was run"
    yield f"walk {short(walk.row.id)} of circuit {walk.circuit.name}, {local(walk.row.at)}"
    yield "what lies behind it:" if ahead else "the way it came:"
    for stop in way_of(walk, ghost, ahead=ahead):
        yield from _stop_lines(walk, stop, again=False)


def ghost_json(ghost: GhostRow) -> dict[str, Any]:
    """A ghost in a list."""
    return {
        "id": ghost.id,
        "walk": ghost.walk,
        "circuit": ghost.circuit,
        "wire": ghost.wire,
        "task": ghost.task,
        "at": iso(ghost.at),
        "hops": ghost.hops,
    }


GHOSTS_HEAD = ("APPEARED", "WIRE", "ID", "FROM", "HOPS", "WALK")


def ghosts_rows(found: Iterable[GhostRow]) -> list[tuple[object, ...]]:
    """Rows of a table of ghosts: when, wire, id, from whom, walk."""
    return [(local(g.at), g.wire, short(g.id), g.task or "(outside)", g.hops, short(g.walk)) for g in found]
