"""all-new: snapshot i is window i of every input, formed as soon as all of them are complete.

No value is used twice, save by a window's own overlap. Windows of a fast input wait for the slow
ones. A passive input gives its latest window to each snapshot; until it has one, all wait for it.
"""

from __future__ import annotations

from koalja_fn.snapshots.events import Arrival
from koalja_fn.snapshots.outcomes import Outcome, Window
from koalja_fn.snapshots.windows import Series


class AllNew:
    """The rule over the series of all inputs."""

    def __init__(self, series: list[Series]) -> None:
        self._series = series
        self._triggers = any(not s.passive for s in series)

    def settle(self) -> list[Outcome]:
        """Nothing is to be done."""
        return []

    def completed(self, number: int, value: Arrival | None, now: int) -> list[Outcome]:  # noqa: ARG002
        """It waits for its turn."""
        return []

    def ready(self) -> bool:
        """Whether every input has a window waiting, or, if passive, one at all."""
        for s in self._series:
            if not s.complete and not (s.passive and s.latest):
                return False
        return self._triggers

    def take(self) -> tuple[Window, ...]:
        """The oldest waiting window of each input; the latest of a passive one."""
        return tuple([s.again() if s.passive else s.take() for s in self._series])

    def early(self) -> list[Series]:
        """The open windows of those that have none waiting, if all of them may close."""
        lacking = [s for s in self._series if not s.complete and not (s.passive and s.latest)]
        return lacking if self._triggers and all(s.closable for s in lacking) else []
