"""What the core says in reply: snapshots that formed, and what became of values that are in none.

All ranges are in an input's own numbering (see `spec.Spec.indexed`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """The values [first, first + count) of an input, as part of a snapshot.

    The last `fresh` of them were not in this task's previous snapshot through this input; a passive
    input's are never fresh.
    """

    input: str
    first: int
    count: int
    fresh: int


@dataclass(frozen=True, slots=True)
class Formed:
    """A snapshot formed: one window of each input in the order of the wiring.

    `cause` is the index, among the given events, of the one that formed it.
    """

    windows: tuple[Window, ...]
    cause: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """The value at `position` on `wire` is number `index` of a merged or an ordered input."""

    input: str
    index: int
    wire: str
    position: int


@dataclass(frozen=True, slots=True)
class Superseded:
    """A window was replaced by a newer one of its input before any snapshot used it.

    With a slide, some of its values may have been used before, or live on in the newer window.
    """

    input: str
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Unmatched:
    """Values of an `align` task that found no partners.

    Reasons: `alone` (nobody came within the time), `late` (its key had just expired), `no key`,
    `rewired` (the task was rewired before the partners came).
    """

    input: str
    first: int
    count: int
    reason: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A gap in a source's sequence was given up: the numbers between `after` and `until` are missing."""

    input: str
    source: str
    after: int
    until: int


Outcome = Formed | Admitted | Superseded | Unmatched | Skipped
