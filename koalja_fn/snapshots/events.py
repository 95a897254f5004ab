"""What can happen to a task: a value arrives, time passes, the task has nothing to do.

A task's log is a list of these, and the log alone decides which snapshots form.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Arrival:
    """A value stands at `position` on `wire`.

    `key` and `index` are what `align` pairs by: the attribute's value or the lineage key, and the
    output index. `source` and `sequence` are what `ordered` sorts by: the CloudEvents attributes.
    """

    wire: str
    position: int
    key: str = ""
    index: int = 0
    source: str = ""
    sequence: str = ""


@dataclass(frozen=True, slots=True)
class Time:
    """It is `at` microseconds. A time before the last one says nothing new."""

    at: int


@dataclass(frozen=True, slots=True)
class Free:
    """The task has nothing running and nothing ready."""


Event = Arrival | Time | Free
