"""Windows: how one input's values become a series of windows. Knows nothing of other inputs.

Window i of `x[N/k]` holds the values [i*k, i*k + N). It takes two numbers to know where a series
stands, however many windows wait, and one comparison to take in a value, however large they are.
An elastic window `[m-M]` may close early, so windows of odd sizes that wait are kept as runs of
equal sizes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from koalja_fn.snapshots.outcomes import Superseded, Window
from koalja_fn.snapshots.spec import InputSpec


class Counters(NamedTuple):
    """Where a series stands, as the state keeps it; all but `since` are indexes of values.

    `first`: of the oldest window that has not been taken; `open`: of the window being filled;
    `next`: of the next value to come; `seen`: the end of the last window that was taken, which is
    `latest`, if any. `since` is when the open window's first value came. `runs` are (size, how many)
    of the elastic windows that wait.
    """

    first: int
    open: int
    next: int
    seen: int
    latest: tuple[int, int] | None = None
    since: int = 0
    runs: tuple[tuple[int, int], ...] = ()

    @classmethod
    def begin(cls, at: int) -> Counters:
        """A series whose first value has index `at`."""
        return cls(at, at, at, at)

    @classmethod
    def load(cls, data: list[Any]) -> Counters:
        """Read back what JSON made of it."""
        first, open_, next_, seen, latest, since, runs = data
        return cls(
            first,
            open_,
            next_,
            seen,
            latest and tuple(latest),
            since,
            tuple((size, many) for size, many in runs),
        )


class Series:
    """One input's windows at work: values go in, windows wait, and are taken in order."""

    __slots__ = (
        "close", "complete", "first", "indexed", "latest", "least", "most", "name", "next", "open", "passive",
        "seen", "since", "slide",
    )  # fmt: skip

    def __init__(self, spec: InputSpec, counters: Counters) -> None:
        self.name, self.passive, self.indexed = spec.name, spec.passive, spec.indexed
        self.least, self.most, self.slide = spec.least, spec.most, spec.slide
        self.first, self.open, self.next, self.seen, self.latest, self.since, _ = counters
        self.close = self.open + self.most
        self.complete = (self.open - self.first) // self.slide

    def counters(self) -> Counters:
        """Where it stands now."""
        return Counters(self.first, self.open, self.next, self.seen, self.latest)

    def add(self, now: int) -> bool:  # noqa: ARG002  the elastic kind looks at it
        """Take in the next value; tell whether that completed a window."""
        self.next += 1
        if self.next < self.close:
            return False
        self.complete += 1
        self.open += self.slide
        self.close += self.slide
        return True

    @property
    def closable(self) -> bool:
        """Whether the open window may close early."""
        return False

    def lapsed(self, now: int) -> bool:  # noqa: ARG002
        """Whether the open window must close because its time is over."""
        return False

    def lapses(self) -> int | None:
        """When the open window will close because its time is over."""
        return None

    def shut(self) -> None:
        """Close the open window early."""
        raise AssertionError(f"{self.name}: only elastic windows close early")

    def take(self) -> Window:
        """Take the oldest window that waits, for use."""
        first, count = self._next()
        end = first + count
        seen, self.seen = self.seen, end
        self.latest = (first, count)
        fresh = 0 if self.passive or end <= seen else min(count, end - seen)
        return Window(self.name, first, count, fresh)

    def again(self) -> Window:
        """The window that was taken last, once more."""
        assert self.latest is not None, f"{self.name} has no window"
        return Window(self.name, *self.latest, 0)

    def drop(self) -> Superseded:
        """Give up the oldest window that waits, on record."""
        return Superseded(self.name, *self._next())

    def _next(self) -> tuple[int, int]:
        first = self.first
        self.first = first + self.slide
        self.complete -= 1
        return first, self.most


class ElasticSeries(Series):
    """Windows `[m-M]`: closed at M values, or early with at least m; the next starts right after."""

    __slots__ = ("runs", "within")

    def __init__(self, spec: InputSpec, counters: Counters, within: int | None) -> None:
        super().__init__(spec, counters)
        self.within = within
        self.runs = deque(counters.runs)
        self.complete = sum(many for _, many in counters.runs)

    def counters(self) -> Counters:
        """Where it stands now."""
        return super().counters()._replace(since=self.since, runs=tuple(self.runs))

    def add(self, now: int) -> bool:
        """Take in the next value; tell whether that completed a window."""
        if self.next == self.open:
            self.since = now
        self.next += 1
        if self.next < self.close and not self.lapsed(now):
            return False
        self.shut()
        return True

    @property
    def closable(self) -> bool:
        """Whether the open window may close early."""
        return self.next - self.open >= self.least

    def lapsed(self, now: int) -> bool:
        """Whether the open window must close because its time is over."""
        return self.within is not None and self.since + self.within <= now and self.closable

    def lapses(self) -> int | None:
        """When the open window will close because its time is over."""
        return self.since + self.within if self.within is not None and self.closable else None

    def shut(self) -> None:
        """Close the open window early."""
        size = self.next - self.open
        if self.runs and self.runs[-1][0] == size:
            self.runs[-1] = (size, self.runs[-1][1] + 1)
        else:
            self.runs.append((size, 1))
        self.complete += 1
        self.open = self.next
        self.close = self.open + self.most

    def _next(self) -> tuple[int, int]:
        size, many = self.runs[0]
        if many == 1:
            self.runs.popleft()
        else:
            self.runs[0] = (size, many - 1)
        first = self.first
        self.first = first + size
        self.complete -= 1
        return first, size


def at_work(inputs: Iterable[InputSpec], counters: Iterable[Counters], within: int | None) -> list[Series]:
    """Working copies of the series of all inputs."""
    return [
        ElasticSeries(spec, c, within) if spec.least < spec.most else Series(spec, c)
        for spec, c in zip(inputs, counters, strict=True)
    ]
