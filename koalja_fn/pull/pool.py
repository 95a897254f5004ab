"""A pool of threads that run programs, as many as there is work for."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

from koalja_fn.pull.runs import Done, Execution


class Pool:
    """Threads that run programs. Used as a context: at its end they are gone."""

    def __init__(self, execute: Callable[[Execution], Done], jobs: int) -> None:
        self._execute = execute
        self._work: queue.SimpleQueue[Execution | None] = queue.SimpleQueue()
        self.done: queue.SimpleQueue[Done] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._jobs = jobs
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

    def some(self) -> Iterator[Done]:
        """Wait for an execution that ended; all that ended meanwhile come with it."""
        first = True
        while self.under_way:
            try:
                done = self.done.get(block=first)
            except queue.Empty:
                return
            first = False
            self.under_way -= 1
            yield done

    def _serve(self) -> None:
        while (execution := self._work.get()) is not None:
            self.done.put(self._execute(execution))
