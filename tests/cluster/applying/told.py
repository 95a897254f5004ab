"""A teller that keeps what it is told, and a clock that goes on when somebody sleeps."""

from __future__ import annotations

from koalja_fn.cluster.waiting import Clock


class Told:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.states: list[tuple[str, str]] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def state(self, name: str, text: str) -> None:
        self.states.append((name, text))


def quick_clock() -> Clock:
    """Sleeping costs nothing, and time passes by it."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    return Clock(lambda: now[0], sleep)
