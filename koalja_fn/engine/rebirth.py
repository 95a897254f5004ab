"""Rebirth: a purged payload that is needed is made again from its recipe, bit for bit (DESIGN, section 8).

The recipe is the snapshot that made it: the same inputs, themselves made again where they are purged, the
same version of the code, and what services said then. Bytes that come out differently are never put in the
place of those that were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from koalja_fn.engine.calls import job_of
from koalja_fn.engine.claiming import Claim
from koalja_fn.engine.plans import CircuitPlan, TaskPlan, asked_wires
from koalja_fn.engine.reusing import who_ran
from koalja_fn.errors import StoreError
from koalja_fn.model import AnnotatedValue
from koalja_fn.program.calling import Caller
from koalja_fn.program.cancel import Cancel
from koalja_fn.program.contract import Result
from koalja_fn.registry import Registry, lookups, purging, snapshots, values
from koalja_fn.registry.purging import BACK, GOING, GONE
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.snapshots import Members, Stored
from koalja_fn.store import Store

_FILES = "/files/"


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What made a value: the snapshot, its task's plan, what is in it, and all that it made."""

    snapshot: Stored
    plan: TaskPlan
    members: tuple[Members, ...]
    made: tuple[AnnotatedValue, ...]


class Rebirth:
    """Brings back payloads of one circuit's values; may be called from several threads."""

    def __init__(self, registry: Registry, store: Store, caller: Caller, circuit: CircuitPlan) -> None:
        self._registry = registry
        self._store = store
        self._caller = caller
        self._circuit = circuit

    def bring(self, wanted: Iterable[AnnotatedValue], stop: Cancel | None = None) -> int:
        """See to it that the payloads of some values are in the store; return how many were brought back.

        Raises:
            StoreError: One can't be: it says what is missing, or that other bytes came out.
        """
        brought = 0
        waiting = [value for value in wanted if not self._store.has(value.digest)]
        under_way: set[str] = set()
        while waiting:
            value = waiting[-1]
            if self._store.has(value.digest):
                waiting.pop()
                continue
            if not value.snapshot:
                self._from_outside(value)
                brought += 1
                continue
            recipe = self._recipe(value)
            inputs = [one for member in recipe.members for one in member.values]
            lacking = [one for one in inputs if not self._store.has(one.digest)]
            if lacking and value.snapshot not in under_way:
                under_way.add(value.snapshot)
                waiting += lacking
                continue
            brought += self._make(value, recipe, stop)
        return brought

    def _recipe(self, value: AnnotatedValue) -> _Recipe:
        def look(tx: Transaction) -> tuple[Stored | None, list[Members], list[AnnotatedValue]]:
            snapshot = snapshots.by_id(tx, value.snapshot)
            if snapshot is None:
                return None, [], []
            return snapshot, snapshots.members(tx, snapshot.rid), values.made_by(tx, snapshot.rid)

        snapshot, members, made = self._registry.read(look)
        what = _named(value)
        if snapshot is None:
            raise StoreError(what, why="the snapshot that made it is not on record")
        # By its name: after a recompute another row stands for the task. The version decides.
        task = value.source.rpartition("/")[2]
        plan = self._circuit.tasks.get(task)
        if plan is None or not plan.code.command:
            raise StoreError(
                what,
                why=f"the code of task {task}, which made it, is not here",
                cure=f"ask where it is: a folder whose wiring has {task}",
            )
        if plan.code.version != value.version:
            raise StoreError(
                what,
                why=f"version {value.version} of task {plan.name} made it; here is {plan.code.version}",
                cure="bring that version of the code back, such as with git, and try again",
            )
        return _Recipe(snapshot, plan, tuple(members), tuple(made))

    def _from_outside(self, value: AnnotatedValue) -> None:
        """A file of an in-tray may still be there as it was."""
        known_as = value.event_source.removeprefix(_FILES)
        path = self._circuit.folder / known_as
        if value.event_source.startswith(_FILES) and path.is_file() and _digest(path) == value.digest:
            self._store.put_file(path)
            self._back([value.digest])
            return
        raise StoreError(
            _named(value),
            why=f"it came from outside ({value.source}), and nothing here can make it again",
            cure="send the same event again; the value stays the same, and its bytes are kept anew",
        )

    def _make(self, value: AnnotatedValue, recipe: _Recipe, stop: Cancel | None) -> int:
        """Run the program, and keep what came out as it was."""
        plan = recipe.plan
        result, missing = self._call(recipe, stop)
        if missing:
            self._caller.discard(result)
            raise StoreError(
                _named(value), why=missing, cure="run its inputs again: what comes out is a new value"
            )
        if not result.ok:
            raise StoreError(
                _named(value), why=f"made again, {plan.name} {result.message}", cure="see why it fails now"
            )
        try:
            recorded = {(one.wire, one.index): one.digest for one in recipe.made}
            same = [o.path for o in result.outputs if recorded.get((o.wire, o.index)) == _digest(o.path)]
            stored = self._store.put_files(same, take=True)
        finally:
            self._caller.discard(result)
        digests = {one.digest for one in stored}
        if value.digest not in digests:
            raise StoreError(
                _named(value),
                why=f"made again by {plan.name}, version {value.version}, other bytes come out: the program"
                " depends on more than its inputs",
                cure="the old bytes are lost; a recompute would record the new ones as such",
            )
        self._back(digests)
        return len(digests)

    def _call(self, recipe: _Recipe, stop: Cancel | None) -> tuple[Result, str]:
        """Call the program, and say what it asked that is not on record: its look-ups are replayed."""
        snapshot, plan = recipe.snapshot, recipe.plan
        claim = Claim(plan, snapshot.rid, snapshot.id, snapshot.number, 0, 0, 0, snapshot.formed)
        wires = asked_wires(plan)
        if not wires:
            return self._caller.call(job_of(self._circuit, claim, recipe.members), stop), ""
        from koalja_fn.lookups import Limits, Proxy, records  # with sockets: a pod may never need them

        rows = self._registry.read(lambda tx: lookups.of_last_attempt(tx, who_ran(tx, snapshot.rid)))
        # Nothing is recorded: what it asks is on record already.
        with closing(Proxy(self._store, self._registry.clock, Limits(kept=0))) as proxy:
            asking = proxy.replay(records(rows, wires))
            try:
                job = job_of(self._circuit, claim, recipe.members, asking.env)
                return self._caller.call(job, stop), asking.missing
            finally:
                asking.close()

    def _back(self, digests: Iterable[str]) -> None:
        """Record that payloads are there again, for as long as `keep` says from now on."""
        wanted: Sequence[str] = sorted(set(digests))

        def step(tx: Transaction) -> list[str]:
            rows = purging.hold(tx, wanted)
            there = [row.digest for row in rows if row.state in (GOING, GONE) and self._store.has(row.digest)]
            purging.move(tx, there, BACK, self._registry.clock())
            return [one for one in wanted if not self._store.has(one)]

        if lost := self._registry.transact(step):
            raise StoreError(f"payload {lost[0]} was purged while it was made again", cure="try again")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _named(value: AnnotatedValue) -> str:
    return f"the payload of value {value.id[:12]}, {value.wire} {value.position + 1}, is purged or missing"
