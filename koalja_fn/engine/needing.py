"""Who needs a payload, and until when: `keep` counts from the last need (DESIGN, section 8).

A value is needed while it is the latest of its wire, while a reader has not read it or a window that is not
finished may have it, while a snapshot that has it is ready, running or a dead letter, and while `to` has not
written it. A payload is needed while anything that names it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from koalja_fn.engine.replaying import current_state
from koalja_fn.model import Circuit
from koalja_fn.plain import circuit_of
from koalja_fn.registry import overview, purging, snapshots, tasks
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.tasks import LinkRow, TaskRow
from koalja_fn.snapshots import Spec, held, needed

_WIDEST = 1000  # windows of an earlier wiring may be wider than those of today's
_SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Rule:
    """How long payloads from outside are kept, and those that were made here, in µs; None is for ever."""

    outside: int | None
    made: int | None


@dataclass(slots=True)
class Needs:
    """What is needed of one wire: all from position `floor` on, and the ranges that are `pinned`."""

    row: int
    name: str
    circuit: str
    rule: Rule
    floor: int
    readers: list[tuple[int, int]] = field(default_factory=list)
    pinned: list[tuple[int, int]] = field(default_factory=list)

    def pins(self, position: int) -> bool:
        """Whether somebody waits for the value at a position."""
        return position >= self.floor or any(first <= position <= last for first, last in self.pinned)


class Survey:
    """What is needed in a registry now, of all its circuits.

    Args:
        tx: The transaction in which it looks.
        now: The registry's time.
        older: In place of the wires' `keep`, µs, for all that can be made again.
        beside: A circuit that may not be installed, since only pull mode has come to it.
    """

    def __init__(
        self, tx: Transaction, now: int, older: int | None = None, beside: Circuit | None = None
    ) -> None:
        self._tx = tx
        self.now = now
        self.wires: dict[int, Needs] = {}
        self._rules: dict[tuple[str, str], Rule] = {}
        for row, name, of in purging.circuits(tx):
            text = tasks.model(tx, of)
            model = circuit_of(json.loads(text)["circuit"]) if text else None
            self._add(row, name, model, older)
        for wire in beside.wires.values() if beside is not None else ():
            keep = round(wire.keep * _SECOND) if wire.keep is not None else None
            self._rules.setdefault((beside.name if beside else "", wire.name), _rule(keep, older))
        self._verdicts: dict[str, bool] = {}

    def needs(self, digest: str) -> bool:
        """Whether anything that names a payload needs it still."""
        if digest not in self._verdicts:
            self._verdicts[digest] = any(self._reasons(digest))
        return self._verdicts[digest]

    def value(self, needs: Needs, position: int, arrived: int, *, made: bool) -> bool:
        """Whether a value of a wire is needed, for its own sake."""
        keep = needs.rule.made if made else needs.rule.outside
        if keep is None or needs.pins(position) or self.now - arrived < keep:
            return True
        return self.now - self.last_use(needs, position) < keep

    def last_use(self, needs: Needs, position: int) -> int:
        """When the last snapshot that had a value was finished; 0 where none had it."""
        uses = [0]
        for task, widest in needs.readers:
            uses.append(purging.last_use(self._tx, task, needs.row, position, widest))
            uses.append(purging.last_admitted_use(self._tx, task, needs.row, position, widest))
        return max(uses)

    def purgeable(self) -> Iterator[Needs]:
        """Wires of which anything may go at all."""
        return (n for n in self.wires.values() if n.rule.outside is not None or n.rule.made is not None)

    def rules(self) -> Mapping[tuple[str, str], Rule]:
        """How long payloads are kept, by circuit and wire."""
        return self._rules

    # What names a payload

    def _reasons(self, digest: str) -> Iterator[bool]:
        for named in purging.naming_values(self._tx, digest):
            needs = self.wires[named.wire]
            made = not named.outside
            yield self.value(needs, named.position, named.arrived, made=made)
            if needs.pinned:
                yield any(
                    needs.pins(position) for position in purging.positions_of(self._tx, digest, named.wire)
                )
        for circuit, wire, at, last, made in purging.naming_made(self._tx, digest):
            rule = self._rule(circuit, wire)
            keep = rule.made if made else rule.outside
            yield last or keep is None or self.now - at < keep
        for circuit, wire, at, unfinished in purging.naming_lookups(self._tx, digest):
            yield unfinished or self._is_young(circuit, wire, at)
        for circuit, wire, at in purging.naming_refusals(self._tx, digest):
            yield self._is_young(circuit, wire, at)

    def _is_young(self, circuit: str, wire: str, at: int) -> bool:
        keep = self._rule(circuit, wire).outside
        return keep is None or self.now - at < keep

    def _rule(self, circuit: str, wire: str) -> Rule:
        return self._rules.get((circuit, wire), Rule(None, None))

    # What pins values

    def _add(self, row: int, name: str, model: Circuit | None, older: int | None) -> None:
        wires = {wire.id: wire for wire in overview.wires(self._tx, row)}
        for wire in wires.values():
            said = model.wires.get(wire.name) if model is not None else None
            keep = round(said.keep * _SECOND) if said is not None and said.keep is not None else None
            rule = self._rules[name, wire.name] = _rule(keep, older)
            floor = max(0, wire.head - 1)
            if said is not None and said.sink:
                floor = min(floor, tasks.sunk(self._tx, wire.id))
            self.wires[wire.id] = Needs(wire.id, wire.name, name, rule, floor)
        for task in tasks.of_circuit(self._tx, row):
            self._read(task, model)
        for one in purging.open_windows(self._tx, row):
            self._pin(*one)
        for needs in self.wires.values():
            needs.pinned = _merged(needs.pinned)

    def _read(self, task: TaskRow, model: Circuit | None) -> None:
        """What a task, retired or not, has not done with."""
        spec = Spec.from_json(task.spec)
        widest = max([_WIDEST, *(item.most for item in spec.inputs)])
        links = tasks.links(self._tx, task.id, retired=True)
        for link in links:
            self.wires[link.wire].readers.append((task.id, widest))
        live = [link for link in links if not link.retired]
        if live:
            state = current_state(self._tx, spec, task, None)
            first, waiting = needed(spec, state), held(spec, state)
            for link in live:
                needs = self.wires[link.wire]
                floor = self._unread(task, spec, link, first, waiting)
                needs.floor = min(needs.floor, floor)
        told = model.task(task.name) if model is not None else None
        if told is not None and told.service:  # its process is started on this one again
            for one in purging.newest_windows(self._tx, task.id):
                self._pin(*one)

    def _unread(
        self,
        task: TaskRow,
        spec: Spec,
        link: LinkRow,
        first: Mapping[str, int],
        waiting: Mapping[str, tuple[tuple[str, int], ...]],
    ) -> int:
        """The first position of a wire that a task may still put into a snapshot."""
        item = next((i for i in spec.inputs if link.name in i.wires), None)
        if item is None:
            return link.position
        if not item.indexed:
            return min(link.position, first[item.name])
        fed = snapshots.first_fed_position(self._tx, task.id, item.name, first[item.name], link.wire)
        turns = [position for wire, position in waiting.get(item.name, ()) if wire == link.name]
        return min([link.position, *([] if fed is None else [fed]), *turns])

    def _pin(self, task: int, name: str, wire: int | None, first: int, last: int) -> None:
        runs: Iterable[tuple[int, int, int]] = [(wire, first, last)] if wire is not None else ()
        for row, begin, end in runs or snapshots.feed_runs(self._tx, task, name, first, last):
            self.wires[row].pinned.append((begin, end))


def _rule(keep: int | None, older: int | None) -> Rule:
    """Sources that the wiring keeps for ever stay: nothing could make them again."""
    if older is None:
        return Rule(keep, keep)
    return Rule(None if keep is None else older, older)


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same positions as few ranges."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found
