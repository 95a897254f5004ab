"""The course of a run: each task once its producers are done, and only executions whose key is new.

One thread decides and writes to the registry; others only run programs. What was made is committed in
groups: a crash loses no more than work that is done again.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from koalja_fn.engine.naming import bring_back, name
from koalja_fn.model import AnnotatedValue, Task
from koalja_fn.program.cancel import Cancel
from koalja_fn.pull import keys
from koalja_fn.pull.asking import Options
from koalja_fn.pull.claims import Claims
from koalja_fn.pull.grouping import group
from koalja_fn.pull.keys import Code
from koalja_fn.pull.opening import Compiled
from koalja_fn.pull.planning import Plan
from koalja_fn.pull.pool import Pool
from koalja_fn.pull.runs import Built, Damaged, Done, Execution, label
from koalja_fn.pull.sampling import Sample, Sources
from koalja_fn.pull.sharing import pushed
from koalja_fn.pull.writing import Sinks
from koalja_fn.registry import Registry, making
from koalja_fn.registry.making import Made
from koalja_fn.registry.registry import Transaction
from koalja_fn.store import Store

_COMMIT_EVERY = 0.25  # seconds; what a crash may cost


@dataclass(frozen=True, slots=True)
class Site:
    """Where a run takes place; with `claims` where others may make the same in one registry meanwhile."""

    registry: Registry
    store: Store
    found: Compiled
    options: Options
    stop: Cancel
    claims: Claims | None = None

    @property
    def shared(self) -> bool:
        """Whether others may be at work."""
        return self.claims is not None


@dataclass(slots=True)
class _Node:
    """A task on its way: what is left to be run of it, and what is known already."""

    task: Task
    executions: list[Execution]
    results: dict[int, tuple[AnnotatedValue, ...]]
    waiting: deque[Execution]
    running: int = 0
    failed: bool = False

    @property
    def complete(self) -> bool:
        return len(self.results) == len(self.executions)


class Course:
    """The course of one pass."""

    def __init__(
        self,
        site: Site,
        plan: Plan,
        codes: Mapping[str, Code],
        sampler: Sources,
        pool: Pool,
        sinks: Sinks,
        run: int,
    ) -> None:
        self.values: dict[str, list[AnnotatedValue]] = {}
        self._site = site
        self._plan = plan
        self._codes = codes
        self._sampler = sampler
        self._pool = pool
        self._sinks = sinks
        self._run = run
        self._built = Built()
        self._places: dict[str, str] = {}
        self._samples: dict[str, Sample] = {}
        self._nodes: dict[str, _Node] = {}
        self._readers: dict[str, list[Task]] = {}
        self._lacking: dict[str, int] = {}
        for task in plan.tasks:
            wires = {wire for item in task.streams for wire in item.wires}
            self._lacking[task.name] = len(wires)
            for wire in wires:
                self._readers.setdefault(wire, []).append(task)
        self._ready = [task for task in plan.tasks if not self._lacking[task.name]]
        self._unkept: list[tuple[Made, tuple[AnnotatedValue, ...]]] = []
        self._befores: dict[str, dict[int, str]] | None = None
        self._lasts: dict[str, tuple[dict[int, str], int]] = {}
        self._committed = time.monotonic()
        self._closing = False

    def go(self) -> Built:
        """From the sources to the end, or to where it can go no further.

        Raises:
            Damaged: An earlier execution's payload is not what it was.
        """
        self._sample()
        try:
            self._begin()
            while self._pool.under_way:
                for done in self._pool.some(self._until_commit()):
                    self._take(done)
                self._begin()
                self._commit(force=False)
        finally:
            self._closing = True
            for done in self._rest():
                self._take(done)
            self._commit(force=True)
        self._built.interrupted = self._site.stop.is_set
        self._built.held_up = [task.name for task in self._plan.tasks if task.name not in self._nodes]
        self._built.values = {w: self.values[w] for w in self._plan.wanted if w in self.values}
        return self._built

    def _rest(self) -> Iterator[Done]:
        while self._pool.under_way:
            yield from self._pool.some()

    def _sample(self) -> None:
        for wire, samples in self._sampler.sample(self._plan.sources).items():
            self._built.samples[wire] = samples
            for sample in samples:
                self._places[sample.value.id] = sample.place
                self._samples[sample.value.digest] = sample
            self._supply(wire, [sample.value for sample in samples])
        self._built.listed = self._sampler.listed
        kept = [(sample.value, sample.place) for some in self._built.samples.values() for sample in some]
        self._site.registry.transact(lambda tx: self._sampler.keep(tx, kept))

    def _supply(self, wire: str, values: list[AnnotatedValue]) -> None:
        """A wire has all its values: tasks that lacked nothing else are ready."""
        found = [v if v.position == n else replace(v, position=n) for n, v in enumerate(values)]
        self.values[wire] = found
        if wire in self._plan.wanted and not self._site.options.dry:
            self._sinks.soon(wire, found)
        for task in self._readers.get(wire, ()):
            self._lacking[task.name] -= 1
            if not self._lacking[task.name]:
                self._ready.append(task)

    def _begin(self) -> None:
        """Begin each task whose producers are all done, until none is left that could be."""
        while self._ready and not self._stopped():
            ready, self._ready = self._ready, []
            if self._site.shared:  # who begins elsewhere at the same time is to find other things to do
                random.shuffle(ready)
            self._look_up(ready)

    def _stopped(self) -> bool:
        return (
            self._closing
            or self._site.stop.is_set
            or (bool(self._built.failures) and not self._site.options.keep_going)
        )

    def _look_up(self, ready: Sequence[Task]) -> None:
        """Form the snapshots of some tasks, find those that are known, and have the others run."""
        nodes = [self._formed(task) for task in ready]

        def look(tx: Transaction) -> None:
            known = making.known(tx, [one.key for node in nodes for one in node.executions])
            for node in nodes:
                self._find(tx, node, known)

        self._site.registry.read(look)
        for node in nodes:
            self._nodes[node.task.name] = node
            keys_now = {execution.number: execution.key for execution in node.executions}
            self._lasts[node.task.name] = (keys_now, len(keys_now))
            self._built.counts[node.task.name] = len(keys_now)
            self._advance(node)

    def _formed(self, task: Task) -> _Node:
        grouped = group(task, {w: self.values[w] for item in task.streams for w in item.wires})
        if grouped.left:
            self._built.left[task.name] = grouped.left
        code = self._codes[task.name]
        executions = [
            Execution(
                task,
                number,
                keys.key_of(self._site.found.circuit, task, code, members),
                members,
                keys.told(task, code, members, self._places),
            )
            for number, members in enumerate(grouped.snapshots)
        ]
        return _Node(task, executions, {}, deque())

    def _find(self, tx: Transaction, node: _Node, keys_known: AbstractSet[str]) -> None:
        """What of a task is known, and for the rest why not."""
        for execution in node.executions:
            if node.task.cache is False:
                node.waiting.append(replace(execution, why="it says `cache = off`"))
                continue
            known = execution.key in keys_known
            values = making.values_of(tx, execution.key) if known else []
            shared = None if known else pushed(tx, execution)
            if shared is not None:
                known, values = True, shared
            if known and node.task.outputs and all(self._site.store.has(value.digest) for value in values):
                if shared is not None and not self._site.options.dry:
                    self._unkept.append((self._made(execution, 0.0), tuple(values)))
                node.results[execution.number] = tuple(values)
                self._built.cached += 1
                continue
            why = self._why(tx, node, execution, lost=known)
            node.waiting.append(replace(execution, why=why))
        if self._site.shared:
            random.shuffle(node.waiting)

    def _why(self, tx: Transaction, node: _Node, execution: Execution, *, lost: bool) -> str:
        if lost:
            return "what it made is gone" if node.task.outputs else "a sink runs whenever it is asked for"
        if self._befores is None:
            self._befores = making.last(tx, self._site.found.circuit.name)
        before = self._befores.get(node.task.name, {})
        earlier = making.made(tx, before[execution.number]) if execution.number in before else None
        if earlier is None:
            return "it was never made"
        return keys.differences(earlier.told, execution.told)

    def _advance(self, node: _Node) -> None:
        """Have what is waiting run, as far as the task's concurrency goes; hand on what is complete."""
        if self._site.options.dry:
            self._built.made += [(node.task.name, one.number, one.why) for one in node.waiting]
            node.waiting.clear()
        while node.waiting and node.running < node.task.concurrency and not self._stopped():
            execution = node.waiting.popleft()
            for member in execution.members:
                for value in member.values:
                    self._renew(value)
            node.running += 1
            self._site.options.told(f"{label(execution)}: {execution.why}")
            self._pool.put(execution)
        if node.complete:
            for wire in node.task.output_wires:
                found = [v for n in range(len(node.executions)) for v in node.results[n] if v.wire == wire]
                self._supply(wire, found)

    def _renew(self, value: AnnotatedValue) -> None:
        """A source's payload may be gone from the store, while the file is still there."""
        if not value.snapshot and not self._site.store.has(value.digest):
            self._sampler.renew(self._samples[value.digest])
            bring_back(self._site.registry, self._site.store, [value.digest])

    def _take(self, done: Done) -> None:
        execution = done.execution
        node = self._nodes[execution.task.name]
        node.running -= 1
        if done.trouble is not None and not self._closing:
            self._pool.halt()
            raise done.trouble
        if done.damaged and not self._closing:
            self._pool.halt()
            raise Damaged(done.damaged)
        if done.elsewhere and not self._stopped():
            node.running += 1
            self._pool.put(execution)
            return
        if done.failure is not None:
            node.failed = True
            if not done.cancelled:
                self._built.failures.append(done.failure)
        elif done.known:
            self._built.cached += 1
            node.results[execution.number] = done.values
        elif done.trouble is None and not done.damaged and not done.elsewhere:
            self._keep(done)
            node.results[execution.number] = done.values
        self._advance(node)

    def _keep(self, done: Done) -> None:
        execution = done.execution
        self._unkept.append((self._made(execution, done.seconds), done.values))
        self._built.made.append((execution.task.name, execution.number, execution.why))

    def _made(self, execution: Execution, seconds: float) -> Made:
        return made_of(self._site, execution, self._run, seconds)

    def _until_commit(self) -> float | None:
        """Seconds until what was made is to be committed, whether anything else ends by then or not."""
        return max(0.0, self._committed + _COMMIT_EVERY - time.monotonic()) if self._unkept else None

    def _commit(self, *, force: bool) -> None:
        now = time.monotonic()
        often = 0.0 if self._site.shared else _COMMIT_EVERY  # what others wait to know
        if not force and now - self._committed < often:
            return
        self._committed = now
        # In one order, since others may be keeping the same.
        kept, self._unkept = sorted(self._unkept, key=lambda one: one[0].key), []

        def step(tx: Transaction) -> None:
            for made, values in kept:
                making.keep(tx, made, values)
            if self._site.claims is not None:
                self._site.claims.drop(tx, [made.key for made, _ in kept])
            if force and not self._site.options.dry:
                for task, (keys_now, count) in self._lasts.items():
                    results = self._nodes[task].results  # for the others stands what was before
                    there = {number: key for number, key in keys_now.items() if number in results}
                    making.keep_last(tx, self._site.found.circuit.name, task, there, count)

        if kept or force:
            name(self._site.registry, self._site.store, step)


def made_of(site: Site, execution: Execution, run: int, seconds: float) -> Made:
    """The record of an execution that was run in `run`, in `seconds`."""
    return Made(
        execution.key,
        site.found.circuit.name,
        execution.task.name,
        site.found.located[execution.task.name].version,
        run,
        site.registry.clock(),
        round(seconds * 1e6),
        execution.told,
    )
