"""What usually happens at a task: running mean and deviation, and what stands out against them.

Pure, and cheap enough to be called at each commit. The first thousand executions count alike
(Welford's recurrence); after that old ones fade, so that a slow drift is no anomaly for ever.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

# Executions that are remembered: each new one weighs at least a thousandth.
_MEMORY = 1000
# Before so many executions nothing is unusual yet.
_ENOUGH = 20


class Running(NamedTuple):
    """Mean and variance of `number` observations, old ones fading."""

    number: int = 0
    mean: float = 0.0
    variance: float = 0.0

    def with_value(self, value: float) -> Running:
        """Take one more observation into account."""
        number = self.number + 1
        weight = 1.0 / min(number, _MEMORY)
        delta = value - self.mean
        return Running(
            number, self.mean + weight * delta, (1.0 - weight) * (self.variance + weight * delta * delta)
        )

    @property
    def deviation(self) -> float:
        """The standard deviation."""
        return sqrt(self.variance)


_NOTHING = Running()


class _Measure(NamedTuple):
    """An outlier is `deviations` away, and by more than `margin` and than `share` of the mean."""

    name: str
    deviations: float
    margin: float
    share: float


# Times between executions are far more spread than durations (half of all gaps of a random stream are
# below 0.7 of the mean, and one in a hundred beyond 4.6), so they have to stand out more.
_DURATION = _Measure("duration", 4.0, 0.05, 0.25)
_SIZE_IN = _Measure("size of inputs", 4.0, 1024.0, 0.25)
_SIZE_OUT = _Measure("size of outputs", 4.0, 1024.0, 0.25)
_INTERVAL = _Measure("time since the last one", 10.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A measure that stood out: seconds for times, bytes for sizes."""

    what: str
    value: float
    mean: float
    deviation: float

    @property
    def text(self) -> str:
        """One line for people."""
        usually = f"usually {spread(self.what, self.mean, self.deviation)}"
        return f"unusual {self.what}: {quantity(self.what, self.value)}, {usually}"


@dataclass(frozen=True, slots=True)
class Usual:
    """What usually happens at one task. Durations and intervals in seconds, sizes in bytes.

    `last` is when the latest execution started, in microseconds; 0 before the first.
    """

    duration: Running = _NOTHING
    size_in: Running = _NOTHING
    size_out: Running = _NOTHING
    interval: Running = _NOTHING
    last: int = 0
    anomalies: int = 0

    @property
    def executions(self) -> int:
        """How many executions were counted, faded ones included."""
        return self.duration.number

    def with_execution(
        self, seconds: float, size_in: int, size_out: int, at: int
    ) -> tuple[Usual, tuple[Anomaly, ...]]:
        """Take one execution that started at `at` (µs) into account, and say what was odd about it.

        The odd ones count, too: what happens often enough becomes usual.
        """
        odd = [
            *_odd(_DURATION, self.duration, seconds),
            *_odd(_SIZE_IN, self.size_in, size_in),
            *_odd(_SIZE_OUT, self.size_out, size_out),
        ]
        interval = self.interval
        if self.last:
            gap = max(0, at - self.last) / 1e6
            # A task that is called sooner than usual is busy, not odd.
            if gap > interval.mean:
                odd += _odd(_INTERVAL, interval, gap)
            interval = interval.with_value(gap)
        after = Usual(
            self.duration.with_value(seconds),
            self.size_in.with_value(size_in),
            self.size_out.with_value(size_out),
            interval,
            max(at, self.last),
            self.anomalies + len(odd),
        )
        return after, tuple(odd)

    def to_json(self) -> str:
        """Write it as text, for the task's row."""
        return json.dumps(
            [self.duration, self.size_in, self.size_out, self.interval, self.last, self.anomalies],
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str) -> Usual:
        """Read what `to_json` wrote; `{}` or nothing is a task that never ran."""
        if text in ("", "{}"):
            return cls()
        duration, size_in, size_out, interval, last, anomalies = json.loads(text)
        return cls(
            Running(*duration), Running(*size_in), Running(*size_out), Running(*interval), last, anomalies
        )


def _odd(measure: _Measure, usual: Running, value: float) -> tuple[Anomaly, ...]:
    if usual.number < _ENOUGH:
        return ()
    distance = abs(value - usual.mean)
    if distance <= measure.margin or distance <= measure.share * usual.mean:
        return ()
    if distance * distance <= measure.deviations * measure.deviations * usual.variance:
        return ()
    return (Anomaly(measure.name, float(value), usual.mean, usual.deviation),)


def quantity(what: str, value: float) -> str:
    """Write a measure's value with its unit."""
    return size(value) if what.startswith("size") else duration(value)


def spread(what: str, mean: float, deviation: float) -> str:
    """Write mean ± deviation with one unit, and as many digits as the deviation deserves."""
    units = _BYTES if what.startswith("size") else _SECONDS
    factor, unit = _unit(units, mean)
    digits = 0 if unit == "B" else 2 if mean / factor < 10 else 1
    return f"{mean / factor:.{digits}f} ± {deviation / factor:.{digits}f} {unit}"


def duration(seconds: float) -> str:
    """Write a duration: 2.3 ms, 0.10 s, 4.5 min."""
    factor, unit = _unit(_SECONDS, seconds)
    return f"{_digits(seconds / factor)} {unit}"


def size(count: float) -> str:
    """Write a number of bytes: 12 B, 1.5 kB, 2.0 GB (powers of 1000)."""
    factor, unit = _unit(_BYTES, count)
    return f"{count:.0f} B" if unit == "B" else f"{_digits(count / factor)} {unit}"


_SECONDS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (0.1, "s"), (0.0, "ms"))
_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (0.0, "B"))


def _unit(units: tuple[tuple[float, str], ...], value: float) -> tuple[float, str]:
    least, unit = next(u for u in units if abs(value) >= u[0])
    factor = {"s": 1.0, "ms": 1e-3, "B": 1.0}.get(unit, least)
    return factor, unit


def _digits(number: float) -> str:
    if number >= 100:
        return f"{number:.0f}"
    return f"{number:.2f}" if number < 1 else f"{number:.1f}"
