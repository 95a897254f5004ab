"""A pool of threads that run programs, as many as there is work for.

Whoever decides is woken when the work runs out, when something went wrong, and looks now and then; it is not
woken for each program that ended, since a thread's turn costs as much as the start of a small program.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

from koalja_fn.pull.asking import Failure
from koalja_fn.pull.runs import Done, Execution

_NOW_AND_THEN = 0.02  # seconds

Answer = Callable[[Done], None]
"""Called once by each execution, when its result is there; what it still clears away comes after."""


class Pool:
    """Threads that run programs. Used as a context: at its end they are gone.

    Where it is `strict` nothing is begun after the first failure.
    """

    def __init__(
        self, execute: Callable[[Execution, Answer], None], jobs: int, *, strict: bool = False
    ) -> None:
        self._execute = execute
        self._work: queue.SimpleQueue[Execution | None] = queue.SimpleQueue()
        self._done: deque[Done] = deque()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._jobs = jobs
        self._strict = strict
        self._halted = False
        self._rung = 0.0
        self.under_way = 0

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for _thread in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join()

    def put(self, execution: Execution) -> None:
        """Have an execution run; a thread more is started while there are too few."""
        self.under_way += 1
        if len(self._threads) < min(self._jobs, self.under_way):
            thread = threading.Thread(target=self._serve, name=f"maker-{len(self._threads) + 1}", daemon=True)
            thread.start()
            self._threads.append(thread)
        self._work.put(execution)

    def halt(self) -> None:
        """Begin nothing more; what waits is answered as cancelled."""
        self._halted = True

    def some(self, seconds: float | None = None) -> Iterator[Done]:
        """Wait for executions that ended, so long at most; all that ended meanwhile come with them."""
        until = math.inf if seconds is None else time.monotonic() + seconds
        while self.under_way and not self._done and time.monotonic() < until:
            with suppress(queue.Empty):  # who did not ring may have begun something long
                self._bell.get(timeout=_NOW_AND_THEN)
        while self._done:
            self.under_way -= 1
            yield self._done.popleft()

    def _serve(self) -> None:
        while (execution := self._work.get()) is not None:
            if self._halted:
                self._answer(_not_begun(execution))
            else:
                self._execute(execution, self._answer)

    def _answer(self, done: Done) -> None:
        if self._strict and not done.fine:
            self._halted = True
        self._done.append(done)
        now = time.monotonic()
        # Where work is left somebody takes it up, and answers later than this; or the glance at it is next.
        if not done.fine or now - self._rung > _NOW_AND_THEN or self._work.empty():
            self._rung = now
            self._bell.put(None)


def _not_begun(execution: Execution) -> Done:
    failure = Failure(execution.task.name, execution.number, "was not begun", "", None)
    return Done(execution, failure=failure, cancelled=True)
