"""Turns: what is worked on side by side is settled one after the other, in an order that was known before."""

from __future__ import annotations

import threading
from collections.abc import Callable


class GivenUp(Exception):
    """Nothing more is settled: somebody else has stopped, or has failed."""


class Turns:
    """Numbers from 0 on, each of which is settled once, behind all that are smaller."""

    def __init__(self) -> None:
        self._bell = threading.Condition()
        self._next = 0
        self._later: dict[int, Callable[[], None]] = {}
        self._end: int | None = None

    def wait(self, number: int) -> None:
        """Wait until all smaller numbers are settled.

        Raises:
            GivenUp: They will never be.
        """
        with self._bell:
            self._bell.wait_for(lambda: self._next >= number or self._is_beyond(number))
            if self._next < number:
                raise GivenUp

    def over(self, number: int) -> None:
        """This number is settled, in its turn; what was left for the turns behind it is done now."""
        self.wait(number)
        while True:
            with self._bell:
                self._next += 1
                self._bell.notify_all()
                action = self._later.pop(self._next, None)
                if action is None:
                    return
            action()

    def settle(self, number: int, action: Callable[[], None]) -> None:
        """Do something in a number's turn: now, or whoever has the turn before does it."""
        with self._bell:
            if self._next < number:
                self._later[number] = action
                return
        action()
        self.over(number)

    def give_up(self, number: int) -> None:
        """This number will not be settled: whoever waits for a turn behind it need not wait any more."""
        with self._bell:
            self._end = number if self._end is None else min(number, self._end)
            self._bell.notify_all()

    def _is_beyond(self, number: int) -> bool:
        return self._end is not None and number > self._end
