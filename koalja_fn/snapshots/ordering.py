"""Restoring the order in which a source sent its values (`ordered`, CloudEvents `sequence`).

Each event source counts on its own; the first number seen of it is where it starts. A value that
is ahead of its turn waits. A gap is given up, on record, once `PATIENCE` newer values of that
source wait or the oldest of them has waited for `within`. Nothing is ever thrown away: a value
that comes after its gap was given up, or whose number was used before, or that has no decimal
number, is let in when it comes.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from typing import Any, NamedTuple

from koalja_fn.snapshots.events import Arrival
from koalja_fn.snapshots.outcomes import Skipped

PATIENCE = 100


class Held(NamedTuple):
    """A value that is ahead of its turn, and when it came."""

    number: int
    since: int
    value: Arrival


class Gate:
    """Which number each source's next value has, and what waits for it."""

    __slots__ = ("expected", "held")

    def __init__(self, expected: dict[str, int], held: dict[str, list[Held]]) -> None:
        self.expected = expected
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Gate) and (self.expected, self.held) == (other.expected, other.held)

    __hash__ = None  # type: ignore[assignment]  # a gate changes while it is at work

    def copy(self) -> Gate:
        """A copy to work on."""
        return Gate(dict(self.expected), {source: list(held) for source, held in self.held.items()})

    def dump(self) -> list[Any]:
        """Plain data for the state's text."""
        held = {
            source: [
                [
                    h.number,
                    h.since,
                    h.value.wire,
                    h.value.position,
                    h.value.key,
                    h.value.index,
                    h.value.sequence,
                ]
                for h in items
            ]
            for source, items in self.held.items()
        }
        return [self.expected, held]

    @classmethod
    def load(cls, data: list[Any]) -> Gate:
        """Read what `dump` wrote."""
        expected, held = data
        return cls(
            expected,
            {
                source: [
                    Held(number, since, Arrival(wire, position, key, index, source, sequence))
                    for number, since, wire, position, key, index, sequence in items
                ]
                for source, items in held.items()
            },
        )

    def pass_on(self, value: Arrival, now: int) -> Iterator[Arrival | Skipped]:
        """What may go on now that `value` has come, in the restored order."""
        if not (value.sequence.isascii() and value.sequence.isdigit()):
            yield value
            return
        source, number = value.source, int(value.sequence)
        expected = self.expected.setdefault(source, number)
        if number > expected:
            held = self.held.setdefault(source, [])
            insort(held, Held(number, now, value), key=lambda h: h.number)
            if len(held) >= PATIENCE:
                yield from self._give_up(source)
            return
        yield value
        if number == expected:
            self.expected[source] = number + 1
            yield from self._release(source)

    def lapse(self, now: int, within: int) -> Iterator[Arrival | Skipped]:
        """Give up the gaps that have been waited for long enough, source by source.

        Sources come in the order in which they began to hold values back.
        """
        for source in list(self.held):
            while source in self.held and self._waited_since(source) + within <= now:
                yield from self._give_up(source)

    def lapses(self, within: int) -> int | None:
        """When the first gap will be given up."""
        return min((self._waited_since(source) + within for source in self.held), default=None)

    def _waited_since(self, source: str) -> int:
        return min(h.since for h in self.held[source])

    def _give_up(self, source: str) -> Iterator[Arrival | Skipped]:
        until = self.held[source][0].number
        yield Skipped("", source, self.expected[source] - 1, until)
        self.expected[source] = until
        yield from self._release(source)

    def _release(self, source: str) -> Iterator[Arrival]:
        """Let in what is no longer ahead of its turn."""
        held = self.held.get(source)
        if held is None:
            return
        done = 0
        for number, _, value in held:
            if number > self.expected[source]:
                break
            self.expected[source] = number + 1
            done += 1
            yield value
        del held[:done]
        if not held:
            del self.held[source]
