"""align: values belong together that agree on a key and an output index.

A snapshot forms when every input has its value for one pair of key and index; pairs complete in any
order. Values that repeat a pair on one input are matched first come, first served. A group that
is not complete `within` its first value is given up, on record, and for as long again a value
that would begin such a group is late, on record. A passive input gives its latest window.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from itertools import count
from typing import Any, NamedTuple

from koalja_fn.snapshots.events import Arrival
from koalja_fn.snapshots.outcomes import Outcome, Unmatched, Window
from koalja_fn.snapshots.windows import Series

Pair = tuple[str, int]


class Group(NamedTuple):
    """Values that agree, since the first came: `members` maps an input's name to the value's index there."""

    pair: Pair
    since: int
    members: dict[str, int]


class Pairs(NamedTuple):
    """What align remembers: groups that are not complete, oldest first; complete ones, in the order
    in which they became so, that wait for the rate or a passive input; and pairs given up lately, when."""

    open: tuple[Group, ...] = ()
    matched: tuple[Group, ...] = ()
    expired: tuple[tuple[Pair, int], ...] = ()

    def dump(self) -> list[Any]:
        """Plain data for the state's text."""
        return [
            [[*g.pair, g.since, g.members] for g in self.open],
            [[*g.pair, g.since, g.members] for g in self.matched],
            [[*pair, at] for pair, at in self.expired],
        ]

    @classmethod
    def load(cls, data: list[Any]) -> Pairs:
        """Read what `dump` wrote."""
        still, matched, expired = data
        return cls(
            tuple(Group((key, index), since, members) for key, index, since, members in still),
            tuple(Group((key, index), since, members) for key, index, since, members in matched),
            tuple(((key, index), at) for key, index, at in expired),
        )

    def unmatched(self, name: str) -> list[int]:
        """Indexes of an input's values that have not left, in ascending order."""
        groups = (*self.open, *self.matched)
        return sorted(g.members[name] for g in groups if name in g.members)


class _Line:
    """Groups of one pair, oldest first. Each input has joined the groups numbered below `joined`."""

    __slots__ = ("base", "joined", "serials")

    def __init__(self) -> None:
        self.serials: deque[int] = deque()
        self.joined: dict[str, int] = {}
        self.base = 0

    def turn(self, name: str) -> int:
        """Which group, from 0 for the oldest, the input's next value joins."""
        return max(self.joined.get(name, 0) - self.base, 0)

    def join(self, name: str) -> None:
        self.joined[name] = self.base + self.turn(name) + 1

    def leave(self) -> None:
        """The oldest group is complete or given up."""
        self.serials.popleft()
        self.base += 1


class Align:
    """The rule over the series of all inputs and the groups that are not complete."""

    def __init__(self, series: list[Series], pairs: Pairs, within: int | None) -> None:
        self._series = series
        self._triggers = [s.name for s in series if not s.passive]
        self._within = within
        self._matched = deque(pairs.matched)
        self._expired = OrderedDict(pairs.expired)
        self._open: OrderedDict[int, Group] = OrderedDict()
        self._lines: dict[Pair, _Line] = {}
        self._serial = count()
        for group in pairs.open:
            self._begin(group)

    def pairs(self) -> Pairs:
        """What is to be remembered."""
        return Pairs(tuple(self._open.values()), tuple(self._matched), tuple(self._expired.items()))

    def settle(self) -> list[Outcome]:
        """Nothing is to be done."""
        return []

    def completed(self, number: int, value: Arrival | None, now: int) -> list[Outcome]:
        """A value came: it joins the oldest group of its pair that lacks it, or begins one."""
        assert value is not None, "under align each window is one value"
        window = self._series[number].take()
        pair = (value.key, value.index)
        if not value.key:
            return [Unmatched(window.input, window.first, 1, "no key")]
        line = self._lines.get(pair)
        if line is not None and line.turn(window.input) < len(line.serials):
            self._join(line, window)
        elif pair in self._expired:
            return [Unmatched(window.input, window.first, 1, "late")]
        else:
            self._begin(Group(pair, now, {window.input: window.first}))
            self._settle(pair)
        return []

    def expire(self, now: int) -> list[Outcome]:
        """Give up groups that have waited for `within`; forget those that were given up as long ago."""
        assert self._within is not None, "nothing expires without a limit"
        outcomes: list[Outcome] = []
        while self._expired and next(iter(self._expired.values())) + self._within <= now:
            self._expired.popitem(last=False)
        while self._open:
            group = next(iter(self._open.values()))
            if group.since + self._within > now:
                break
            self._remove_oldest(group.pair)
            self._expired[group.pair] = now
            self._expired.move_to_end(group.pair)
            outcomes += [
                Unmatched(name, group.members[name], 1, "alone")
                for name in self._triggers
                if name in group.members
            ]
        return outcomes

    def expires(self) -> int | None:
        """When the next group will be given up."""
        if self._within is None or not self._open:
            return None
        return next(iter(self._open.values())).since + self._within

    def ready(self) -> bool:
        """Whether a complete group waits and no passive input lacks a window."""
        return bool(self._matched) and not self._lacking()

    def take(self) -> tuple[Window, ...]:
        """The group that was complete first; the latest window of a passive input."""
        members = self._matched.popleft().members
        return tuple(
            [s.again() if s.passive else Window(s.name, members[s.name], 1, 1) for s in self._series]
        )

    def early(self) -> list[Series]:
        """The open windows of passive inputs that have none yet, if a complete group waits for them."""
        lacking = self._lacking()
        return lacking if self._matched and all(s.closable for s in lacking) else []

    def _lacking(self) -> list[Series]:
        return [s for s in self._series if s.passive and s.latest is None]

    def _begin(self, group: Group) -> None:
        serial = next(self._serial)
        self._open[serial] = group
        line = self._lines.setdefault(group.pair, _Line())
        line.serials.append(serial)
        for name in group.members:
            line.join(name)

    def _join(self, line: _Line, window: Window) -> None:
        serial = line.serials[line.turn(window.input)]
        group = self._open[serial]
        self._open[serial] = group._replace(members={**group.members, window.input: window.first})
        line.join(window.input)
        self._settle(group.pair)

    def _settle(self, pair: Pair) -> None:
        """Only a pair's oldest group can be complete: each input joins them in order."""
        group = self._open[self._lines[pair].serials[0]]
        if len(group.members) == len(self._triggers):
            self._matched.append(group)
            self._remove_oldest(pair)

    def _remove_oldest(self, pair: Pair) -> None:
        line = self._lines[pair]
        del self._open[line.serials[0]]
        line.leave()
        if not line.serials:
            del self._lines[pair]
