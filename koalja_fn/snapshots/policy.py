"""What a policy is: how windows of several inputs come together. One file for each.

A policy looks at the series of all inputs and says when a snapshot is ready and which windows it
takes. It knows no clock and no rate.
"""

from __future__ import annotations

from typing import Protocol

from koalja_fn.snapshots.events import Arrival
from koalja_fn.snapshots.outcomes import Outcome, Window
from koalja_fn.snapshots.windows import Series


class Policy(Protocol):
    """The questions that each policy answers."""

    def settle(self) -> list[Outcome]:
        """Put windows that waited under another policy in order, before the first event."""

    def completed(self, number: int, value: Arrival | None, now: int) -> list[Outcome]:
        """An input that triggers has one more window; `value` is what completed it, if one did."""

    def ready(self) -> bool:
        """Whether a snapshot can form."""

    def take(self) -> tuple[Window, ...]:
        """The windows of the snapshot that is ready, in the order of the inputs."""

    def early(self) -> list[Series]:
        """Open windows that could close so that a snapshot forms now; none if that can't be."""
