"""Noticing what is unusual: what a runner has seen of its tasks, kept in memory and written now and then.

It is no part of the truth: after a crash the last second of it is missing, nothing else.
"""

from __future__ import annotations

import threading

from koalja_fn.engine.claiming import Remark
from koalja_fn.engine.usual import Usual
from koalja_fn.registry import Registry, records
from koalja_fn.registry.registry import Transaction


class Noticing:
    """What usually happens in each task; safe to call from several threads."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._usual: dict[int, Usual] = {}
        self._changed: set[int] = set()

    def notice(self, task: int, seconds: float, size_in: int, size_out: int, at: int) -> list[Remark]:
        """Take an execution into account; tell what stood out, as remarks of kind `anomaly`."""
        with self._lock:
            usual = self._usual.get(task)
            if usual is None:
                usual = Usual.from_json(self._registry.read(lambda tx: records.usual(tx, task)))
            self._usual[task], anomalies = usual.with_execution(seconds, size_in, size_out, at)
            self._changed.add(task)
        return [
            Remark(
                "anomaly",
                anomaly.text,
                {
                    "what": anomaly.what,
                    "value": anomaly.value,
                    "mean": anomaly.mean,
                    "deviation": anomaly.deviation,
                },
            )
            for anomaly in anomalies
        ]

    @property
    def changed(self) -> bool:
        """Whether there is something to write."""
        return bool(self._changed)

    def write(self, tx: Transaction) -> None:
        """Write what has changed."""
        with self._lock:
            changed, self._changed = self._changed, set()
            for task in sorted(changed):  # the order of locks
                records.keep_usual(tx, task, self._usual[task].to_json())
