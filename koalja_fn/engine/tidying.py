"""Tidying up: whoever works on a circuit purges now and then, one process at a time, and cheaply."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from koalja_fn.engine.plans import CircuitPlan
from koalja_fn.engine.purging import GRACE, Purger, Round
from koalja_fn.errors import KoaljaError
from koalja_fn.registry import Registry, purging
from koalja_fn.store import Store

_LONGEST = 3600.0
_LOOK = 60.0
_BUDGET = 60.0  # seconds; what is left is for the next round


def tidy(
    registry: Registry, store: Store, circuit: CircuitPlan, stop: Callable[[], bool] = lambda: False
) -> Round | None:
    """One round of purging, if one is due and nobody else has begun it; a wire has to say `keep`."""
    keeps = [wire.keep for wire in circuit.circuit.wires.values() if wire.keep is not None]
    if not keeps:
        return None
    period = round(min(_LONGEST, max(GRACE, min(keeps) / 4)) * 1e6)
    now = registry.clock()
    if not registry.transact(lambda tx: purging.begin_round(tx, circuit.id, now, now - period)):
        return None
    until = time.monotonic() + _BUDGET
    return Purger(registry, store, stop=lambda: stop() or time.monotonic() > until).round()


class Tidying:
    """A thread that looks once a minute whether a round is due; none where no wire says `keep`."""

    def __init__(
        self, registry: Registry, store: Store, circuit: CircuitPlan, trouble: Callable[[BaseException], None]
    ) -> None:
        self._stopping = threading.Event()
        self._tidy = partial(tidy, registry, store, circuit, self._stopping.is_set)
        self._trouble = trouble
        self._thread: threading.Thread | None = None
        self._wanted = any(wire.keep is not None for wire in circuit.circuit.wires.values())

    def start(self) -> None:
        """Begin."""
        if self._wanted:
            self._thread = threading.Thread(target=self._serve, name="tidying", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End, after the round that is going on."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            try:
                self._tidy()
            except KoaljaError as error:
                self._trouble(error)
            self._stopping.wait(_LOOK)
