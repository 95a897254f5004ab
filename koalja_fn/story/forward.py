"""The way forward: everything that a value influenced, and who passed it over."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TypeVar

from koalja_fn.model import AnnotatedValue
from koalja_fn.registry import lookups, stories, values
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.rows import FormedRow, ReaderRow
from koalja_fn.snapshots import Spec
from koalja_fn.story.passport import Limits, Passport, Reading, Stop, Visit
from koalja_fn.story.superseding import marks
from koalja_fn.story.visiting import visit
from koalja_fn.story.words import plural

T = TypeVar("T")

# What "all" means for one value: a passive one may be in every snapshot that ever formed.
_ALL = 1_000_000


@dataclass(frozen=True, slots=True)
class _Reader:
    """A reader of a wire, and the width of the widest window that it ever had."""

    row: ReaderRow
    widest: int


class _Way:
    """A walk in breadth, so that what is near is told before a limit is reached."""

    def __init__(self, tx: Transaction, limits: Limits) -> None:
        self.tx = tx
        self.limits = limits
        self.stops: dict[str, Stop] = {}
        self.visits: dict[str, Visit] = {}
        self.too_many: set[str] = set()
        self.too_deep: set[str] = set()
        self.fans = 0
        self._open: deque[str] = deque()
        self._wires: dict[tuple[str, str], int | None] = {}
        self._readers: dict[int, list[_Reader]] = {}

    def meet(self, value: AnnotatedValue, depth: int) -> None:
        """Put a value on the list, once."""
        if value.id in self.stops:
            return
        if self.limits.most is not None and len(self.stops) >= self.limits.most:
            self.too_many.add(value.id)
            return
        self.stops[value.id] = Stop(value, depth)
        self._open.append(value.id)

    def go(self) -> None:
        """Walk until the ends, or a limit."""
        while self._open:
            stop = self.stops[self._open.popleft()]
            readings = []
            for reader in self._readers_of(stop.value):
                reading, found = self._read(reader, stop.value)
                readings.append(reading)
                for formed in found:
                    self.come_to(formed, stop.depth + 1)
            self.stops[stop.value.id] = replace(stop, readings=tuple(readings))

    def come_to(self, formed: FormedRow, depth: int) -> None:
        """Look at a snapshot, once, and meet what it made."""
        if formed.id in self.visits or formed.id in self.too_deep:
            return
        if self.limits.depth is not None and depth > self.limits.depth:
            self.too_deep.add(formed.id)
            return
        made, more = self._cut(stories.made(self.tx, formed.rid, self._most))
        seen = visit(self.tx, formed, depth, self.limits)
        asked, even_more = self._cut(self._askers(formed))
        self.visits[formed.id] = replace(
            seen,
            made=tuple(v.id for v in made),
            made_more=more or even_more,
            askers=tuple(one.id for one in asked),
        )
        for value in made:
            self.meet(value, depth)
        for one in asked:
            self.come_to(one, depth + 1)

    def _askers(self, formed: FormedRow) -> list[FormedRow]:
        """Snapshots whose executions a service answered that ran on this one."""
        found = lookups.asked_of(self.tx, formed.rid, self._most)
        return [row for rid in found if (row := stories.formed(self.tx, rid)) is not None]

    @property
    def _most(self) -> int:
        return _ALL if self.limits.wide is None else self.limits.wide + 1

    def _cut(self, found: list[T]) -> tuple[list[T], bool]:
        """What is told of a fan-out, and whether that is not all."""
        if self.limits.wide is None or len(found) <= self.limits.wide:
            return found, False
        self.fans += 1
        return found[: self.limits.wide], True

    def _readers_of(self, value: AnnotatedValue) -> list[_Reader]:
        place = (value.circuit, value.wire)
        if place not in self._wires:
            self._wires[place] = stories.wire_row(self.tx, *place)
        wire = self._wires[place]
        if wire is None:
            return []
        if wire not in self._readers:
            rows = stories.readers(self.tx, wire)
            self._readers[wire] = [_Reader(row, self._widest(row)) for row in rows]
        return self._readers[wire]

    def _widest(self, row: ReaderRow) -> int:
        texts = [row.spec, *(stories.specs(self.tx, row.task) if row.generation > 1 else ())]
        return max((i.most for text in texts for i in Spec.from_json(text).inputs), default=1)

    def _read(self, reader: _Reader, value: AnnotatedValue) -> tuple[Reading, list[FormedRow]]:
        row, wire = reader.row, self._wires[value.circuit, value.wire]
        assert wire is not None
        counted = stories.indexes(self.tx, row.task, wire, value.position)
        found = stories.containing(self.tx, row.task, wire, value.position, reader.widest, self._most)
        for name, index in counted:
            found += stories.containing_index(self.tx, row.task, name, index, reader.widest, self._most)
        shown, more = self._cut(found)
        state = "used" if shown else self._state(reader, value, counted)
        return Reading(row.name, row.input, state, tuple(f.id for f in shown), more), shown

    def _state(self, reader: _Reader, value: AnnotatedValue, counted: list[tuple[str, int]]) -> str:
        """Why a value is in no snapshot of a reader."""
        row = reader.row
        for name, index in counted or [(row.input, value.position)]:
            for gone in stories.passed(self.tx, row.task, name, index, index + reader.widest - 1, 100):
                if gone.first <= index:
                    return gone.reason
        if value.position < row.start:
            return "before its time"
        if value.position >= row.position:
            return "retired" if row.retired else "not read"
        return "waiting"

    def notes(self) -> list[str]:
        """What the limits left out."""
        notes = []
        if self.fans:
            what = plural(self.fans, "fan-out")
            notes.append(
                f"of {what} only the first {self.limits.wide} branches are followed; --full follows all"
            )
        if self.too_deep:
            what = plural(len(self.too_deep), "snapshot")
            notes.append(f"{what} at the limit of --depth {self.limits.depth} not followed")
        if self.too_many:
            what = plural(len(self.too_many), "more value")
            notes.append(f"{what} left out after the first {self.limits.most}; --full tells all")
        return notes


def forward(tx: Transaction, start: str, limits: Limits) -> Passport | None:
    """What the value or snapshot of that id influenced, to the ends; None where there is none."""
    way = _Way(tx, limits)
    value = values.by_id(tx, start)
    formed = None if value else stories.formed_by_id(tx, start)
    if value is not None:
        way.meet(value, 0)
    elif formed is not None:
        way.come_to(formed, 0)
    else:
        return None
    way.go()
    found = marks(tx, (*way.stops, *way.visits))
    return Passport(start, True, way.stops, way.visits, tuple(way.notes()), found)
