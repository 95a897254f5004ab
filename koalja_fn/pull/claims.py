"""Claims: of several runs that share a registry one makes an execution, and the others wait for its results.

A claim is a lease: whoever is killed has it for a while, and then somebody else takes it. A thread of its own
renews what this run has. Nobody who holds one waits for another, so nobody waits for ever.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from functools import partial

from koalja_fn.errors import RegistryError
from koalja_fn.registry import Registry, begun
from koalja_fn.registry.registry import Transaction

SECONDS = 10.0
"""How long a claim lasts that nobody renews."""


class Claims:
    """The claims of one run; used by several threads at once."""

    def __init__(self, registry: Registry, seconds: float | None = None) -> None:
        self._registry = registry
        self._seconds = SECONDS if seconds is None else seconds
        self._owner = os.urandom(12).hex()
        self._keeping = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def take(self, tx: Transaction, key: str) -> bool:
        """Have an execution for oneself; False while it is another's."""
        now = self._registry.clock()
        self._renewing()
        return begun.take(tx, key, self._owner, now, self._until(now))

    def drop(self, tx: Transaction, keys: Iterable[str]) -> None:
        """Let go of executions: they are on record, or failed."""
        begun.drop(tx, self._owner, keys)

    def close(self) -> None:
        """Let go of everything; no execution may be under way."""
        if self._thread is not None:
            self._closed.set()
            self._thread.join()
            self._registry.transact(lambda tx: begun.drop_all(tx, self._owner))

    def _until(self, now: int) -> int:
        return now + round(self._seconds * 1e6)

    def _renewing(self) -> None:
        with self._keeping:
            if self._thread is None:
                self._thread = threading.Thread(target=self._renew, name="claims", daemon=True)
                self._thread.start()

    def _renew(self) -> None:
        while not self._closed.wait(self._seconds / 4):
            with suppress(RegistryError):  # it is tried again, and who does not wait makes it himself
                until = self._until(self._registry.clock())
                self._registry.transact(partial(begun.renew, owner=self._owner, until=until))
