"""The way back: from a value or a snapshot to the sources."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from koalja_fn.registry import stories, values
from koalja_fn.registry.registry import Transaction
from koalja_fn.story.passport import Limits, Passport, Stop, Visit
from koalja_fn.story.superseding import marks
from koalja_fn.story.visiting import visit
from koalja_fn.story.words import plural


class _Way:
    """A walk in breadth, so that what is near is told before a limit is reached."""

    def __init__(self, tx: Transaction, limits: Limits) -> None:
        self.tx = tx
        self.limits = limits
        self.stops: dict[str, Stop] = {}
        self.visits: dict[str, Visit] = {}
        self.made: dict[str, list[str]] = {}
        self.too_many: set[str] = set()
        self.too_deep: set[str] = set()
        self._open: deque[Stop] = deque()

    def meet(self, id: str, depth: int) -> None:
        """Put a value on the list, once."""
        if id in self.stops or id in self.too_many:
            return
        if self.limits.most is not None and len(self.stops) >= self.limits.most:
            self.too_many.add(id)
            return
        value = values.by_id(self.tx, id)
        if value is not None:
            self.stops[id] = Stop(value, depth)
            self._open.append(self.stops[id])

    def go(self) -> None:
        """Walk until the sources, or a limit."""
        while self._open:
            stop = self._open.popleft()
            if stop.value.snapshot:
                self.come_to(stop.value.snapshot, stop.depth + 1)
                self.made.setdefault(stop.value.snapshot, []).append(stop.value.id)

    def come_to(self, snapshot: str, depth: int) -> None:
        """Look at a snapshot, once, and meet what it took in."""
        if snapshot in self.visits or snapshot in self.too_deep:
            return
        if self.limits.depth is not None and depth > self.limits.depth:
            self.too_deep.add(snapshot)
            return
        formed = stories.formed_by_id(self.tx, snapshot)
        if formed is None:
            return
        self.visits[snapshot] = seen = visit(self.tx, formed, depth, self.limits)
        for window in seen.windows:
            for value in window.values:
                self.meet(value, depth)
        for service in {row.answered_id for row in seen.lookups if row.answered_id}:
            self.come_to(service, depth)

    def notes(self) -> list[str]:
        """What the limits left out."""
        notes = []
        summed_up = [w for v in self.visits.values() for w in v.windows if w.left_out]
        if summed_up:
            what = plural(len(summed_up), "window")
            notes.append(f"of {what} only the last value is followed; --full follows all")
        if self.too_deep:
            what = plural(len(self.too_deep), "snapshot")
            notes.append(f"{what} at the limit of --depth {self.limits.depth} not followed")
        if self.too_many:
            what = plural(len(self.too_many), "more value")
            notes.append(f"{what} left out after the first {self.limits.most}; --full tells all")
        return notes


def backward(tx: Transaction, start: str, limits: Limits) -> Passport | None:
    """The passport of the value or snapshot of that id, back to the sources; None where there is none."""
    way = _Way(tx, limits)
    way.meet(start, 0)
    if not way.stops:
        way.come_to(start, 0)
    way.go()
    if not way.stops and not way.visits:
        return None
    visits = {key: replace(v, made=tuple(way.made.get(key, ()))) for key, v in way.visits.items()}
    found = marks(tx, (*way.stops, *visits))
    return Passport(start, False, way.stops, visits, tuple(way.notes()), found)
