"""Marching: a lane's tasks are brought to the cut side by side, each behind those that feed it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence

Drive = Callable[[str], bool]


def march(order: Sequence[str], before: Mapping[str, Collection[str]], drive: Drive, most: int) -> bool:
    """Call `drive` for each name once all in `before` of it are through, for `most` at once.

    `order` has each name behind those before it. Return False where a call did: then none is begun any more.
    """
    if most == 1:
        return all(drive(name) for name in order)
    return _March(order, before, drive).run(most)


class _March:
    def __init__(self, order: Sequence[str], before: Mapping[str, Collection[str]], drive: Drive) -> None:
        self._bell = threading.Condition()
        self._waiting = list(order)
        self._before = before
        self._drive = drive
        self._through: set[str] = set()
        self._stopped = False
        self._error: BaseException | None = None

    def run(self, most: int) -> bool:
        count = min(most, len(self._waiting))
        threads = [
            threading.Thread(target=self._work, name=f"lane-{n + 1}", daemon=True) for n in range(count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._error is not None:
            raise self._error
        return not self._stopped

    def _work(self) -> None:
        while (name := self._take()) is not None:
            try:
                through = self._drive(name)
            except BaseException as error:
                through = False
                self._error = self._error or error
            with self._bell:
                self._through.add(name)
                self._stopped = self._stopped or not through
                self._bell.notify_all()

    def _take(self) -> str | None:
        """The first name whose turn has come; None where there is none left."""
        with self._bell:
            while True:
                if self._stopped or not self._waiting:
                    return None
                for name in self._waiting:
                    if self._through.issuperset(self._before[name]):
                        self._waiting.remove(name)
                        return name
                self._bell.wait()
