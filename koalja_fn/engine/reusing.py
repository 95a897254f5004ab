"""Reusing: with `cache = on` an execution whose key is known is answered from what is on record.

What `make` made counts as well, and the other way round. A payload that is damaged, or not there any
more, is no answer: then the program runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from koalja_fn.engine.keys import Answering, Runners, key_of
from koalja_fn.engine.plans import CircuitPlan, TaskPlan
from koalja_fn.model import AnnotatedValue
from koalja_fn.registry import Registry, caching, making, snapshots, stories, values
from koalja_fn.registry.lookups import Lookup
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.snapshots import Members
from koalja_fn.store import Store

CACHED = "cached"
"""The reason of an attempt that ran no program."""

_WHENCE = "from snapshot "
_READ = 64 << 20  # larger payloads are not read again: their stamp, or the bucket, has to do


@dataclass(frozen=True, slots=True)
class Found:
    """An earlier execution's outputs, and in words where they come from."""

    values: tuple[AnnotatedValue, ...]
    whence: str


class Reuse:
    """Knows the executions of one circuit that need not be repeated."""

    def __init__(self, registry: Registry, store: Store, circuit: CircuitPlan) -> None:
        self._registry = registry
        self._store = store
        self._circuit = circuit
        self._runners = Runners()

    def key(self, plan: TaskPlan, members: Sequence[Members], answering: Answering | None) -> str:
        """The key of an execution; empty where it has to run whatever is known.

        That is a sink, a task without `cache = on`, or one whose look-ups nobody here can vouch for
        (`answering` is None): an outside service may say something else each time.
        """
        task = plan.task
        if not task.cache or not task.output_wires or answering is None or not plan.code.command:
            return ""
        try:
            by = self._runners.digest(plan.code)
        except OSError:
            return ""  # it will not start either, and that is told
        return key_of(self._circuit.circuit, task, plan.code.version, by, members, answering)

    def find(self, key: str) -> Found | None:
        """What is known under a key, if all its payloads are whole."""
        found = self._registry.read(lambda tx: _known(tx, key))
        if found is None or not all(self._whole(value) for value in found.values):
            return None
        return found

    def _whole(self, value: AnnotatedValue) -> bool:
        if value.size > _READ:
            return self._store.has(value.digest) and self._store.intact(value.digest)
        return self._store.verify(value.digest)


def who_ran(tx: Transaction, snapshot: int) -> int:
    """Row of the snapshot whose program made a snapshot's outputs: its own, but where they were known."""
    attempts = stories.attempts(tx, snapshot)
    last = attempts[-1] if attempts else None
    if last is None or last.reason != CACHED or not last.message.startswith(_WHENCE):
        return snapshot
    other = snapshots.by_id(tx, last.message.removeprefix(_WHENCE))
    return other.rid if other is not None else snapshot


def stayed(answering: Answering, asked: Sequence[Lookup]) -> bool:
    """Whether all look-ups of an execution were answered by who stands in its key."""
    told = {wire: (snapshot, version) for wire, snapshot, version in answering}
    return all(told.get(one.wire) == (one.answered, one.version) for one in asked)


def _known(tx: Transaction, key: str) -> Found | None:
    snapshot = caching.find(tx, key)
    if snapshot is not None:
        return Found(tuple(values.made_by(tx, snapshot.rid)), f"{_WHENCE}{snapshot.id}")
    made = making.made(tx, key)
    if made is not None:
        return Found(tuple(making.values_of(tx, key)), f"from run {made.run} of make, execution {key}")
    return None
