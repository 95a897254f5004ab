"""swap (swap new for old): the latest complete window of every input.

The first snapshot forms when every input has its first window; from then on one forms each time
an input completes a window. What can't form at once, because an input has no window yet or because
of the rate, forms once, with the newest; windows that were replaced before they were used are
superseded, on record. A passive input never triggers, but no snapshot forms until it has a window.
"""

from __future__ import annotations

from koalja_fn.snapshots.events import Arrival
from koalja_fn.snapshots.outcomes import Outcome, Window
from koalja_fn.snapshots.windows import Series


class Swap:
    """The rule over the series of all inputs; a window that waits is one that is still unused."""

    def __init__(self, series: list[Series]) -> None:
        self._series = series

    def settle(self) -> list[Outcome]:
        """Of the windows that waited under all-new, only the newest of each input is of use."""
        return [gone for s in self._series for gone in _surplus(s)]

    def completed(self, number: int, value: Arrival | None, now: int) -> list[Outcome]:  # noqa: ARG002
        """It replaces the one that waited, which nobody has used."""
        return _surplus(self._series[number])

    def ready(self) -> bool:
        """Whether every input has a window and one that triggers has a new one."""
        new = False
        for s in self._series:
            if s.complete:
                new = True
            elif s.latest is None:
                return False
        return new

    def take(self) -> tuple[Window, ...]:
        """The new windows, and the old ones of those that have no new one."""
        return tuple([s.take() if s.complete else s.again() for s in self._series])

    def early(self) -> list[Series]:
        """All open windows that may close and replace a used one; together they form one snapshot."""
        closing: list[Series] = []
        new = False
        for s in self._series:
            if s.complete:
                new = True
            elif s.closable and not (s.passive and s.latest):
                closing.append(s)
                new = new or not s.passive
            elif s.latest is None:
                return []
        return closing if new else []


def _surplus(s: Series) -> list[Outcome]:
    return [s.drop() for _ in range(s.complete - 1)]
