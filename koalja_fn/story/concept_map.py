"""The concept map (paper, III.C): the circuit's design with its promises, and what usually happens in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from typing import Any

from koalja_fn.engine.usual import Usual
from koalja_fn.model import Buffer, Circuit, Rate, Task
from koalja_fn.registry import lanes, overview, stories
from koalja_fn.registry.lanes import Recompute
from koalja_fn.registry.overview import CircuitRow, TaskCounts, VersionRow, WireRow
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.rows import RemarkRow
from koalja_fn.snapshots import Spec
from koalja_fn.story.passport import remark_json
from koalja_fn.story.superseding import recompute_json
from koalja_fn.story.usually import usual_json
from koalja_fn.story.words import iso

# Kinds of data are told from the last values of a wire: a map must not read millions.
_SAMPLE = 1000
_ANOMALIES = 5


@dataclass(frozen=True, slots=True)
class Reads:
    """An edge from wires to a task; `buffer` as in the wiring, such as `[10/2]`."""

    input: str
    wires: tuple[str, ...]
    buffer: str
    passive: bool
    ordered: bool
    implicit: bool = False

    def to_json(self) -> dict[str, Any]:
        """As it is."""
        return {
            "input": self.input,
            "wires": list(self.wires),
            "buffer": self.buffer or None,
            "passive": self.passive,
            "ordered": self.ordered,
            "implicit": self.implicit,
        }


@dataclass(frozen=True, slots=True)
class TaskConcept:
    """A task: what it promises, its code, what usually happens, what was odd."""

    counts: TaskCounts
    reads: tuple[Reads, ...]
    outputs: tuple[str, ...]
    promises: tuple[tuple[str, str], ...]
    versions: tuple[VersionRow, ...]
    anomalies: tuple[RemarkRow, ...]

    @property
    def usual(self) -> Usual:
        """The running statistics."""
        return Usual.from_json(self.counts.usual)

    def to_json(self) -> dict[str, Any]:
        """Times in UTC."""
        c = self.counts
        return {
            "name": c.name,
            "retired": bool(c.retired),
            "generation": c.generation,
            "inputs": [r.to_json() for r in self.reads],
            "outputs": list(self.outputs),
            "promises": dict(self.promises),
            "versions": [{"version": v.digest, "run": v.run, "since": iso(v.seen)} for v in self.versions],
            "snapshots": {
                "formed": c.formed,
                "ready": c.ready,
                "running": c.running,
                "done": c.done,
                "dead": c.dead,
                "skipped": c.skipped,
            },
            "usual": usual_json(self.usual),
            "anomalies": [remark_json(r) for r in self.anomalies],
        }


@dataclass(frozen=True, slots=True)
class WireConcept:
    """A wire: who feeds and reads it, and which kinds of data its last `sampled` values were.

    Sizes in bytes, `interval` between arrivals in seconds; each with mean and deviation.
    """

    name: str
    count: int
    writer: str
    readers: tuple[str, ...]
    sampled: int
    types: tuple[tuple[str, int], ...]
    size: tuple[float, float]
    interval: tuple[float, float]
    last: int

    def to_json(self) -> dict[str, Any]:
        """Times in UTC."""
        return {
            "name": self.name,
            "values": self.count,
            "from": self.writer or None,
            "to": list(self.readers),
            "last": iso(self.last),
            "sampled": self.sampled,
            "types": dict(self.types),
            "size": {"mean": round(self.size[0], 3), "deviation": round(self.size[1], 3)},
            "interval": {"mean": round(self.interval[0], 6), "deviation": round(self.interval[1], 6)},
        }


@dataclass(frozen=True, slots=True)
class ConceptMap:
    """A circuit with its tasks and wires, by name."""

    circuit: str
    tasks: tuple[TaskConcept, ...]
    wires: tuple[WireConcept, ...]
    recomputes: tuple[Recompute, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """One document."""
        return {
            "circuit": self.circuit,
            "tasks": [t.to_json() for t in self.tasks],
            "wires": [w.to_json() for w in self.wires],
            "recomputes": [recompute_json(r) for r in self.recomputes],
        }


def concept_map(tx: Transaction, circuit: CircuitRow, design: Circuit | None) -> ConceptMap:
    """The map of a circuit; `design` is its wiring, read. Without it only what tasks read is known."""
    tasks = tuple(
        task_concept(tx, counts, design.task(counts.name) if design else None)
        for counts in overview.tasks(tx, circuit.id)
    )
    wires = tuple(_wire(tx, row, tasks) for row in overview.wires(tx, circuit.id))
    return ConceptMap(circuit.name, tasks, wires, tuple(lanes.all_of(tx, circuit.id)))


def task_concept(tx: Transaction, counts: TaskCounts, design: Task | None) -> TaskConcept:
    """One task of the map."""
    return TaskConcept(
        counts=counts,
        reads=_reads(design) if design else _reads_of_spec(Spec.from_json(counts.spec)),
        outputs=tuple(o.wire for o in design.outputs) if design else (),
        promises=_promises(design) if design else (("policy", Spec.from_json(counts.spec).policy),),
        versions=tuple(overview.versions(tx, counts.id)),
        anomalies=tuple(reversed(stories.latest_anomalies(tx, counts.id, _ANOMALIES))),
    )


def _reads(task: Task) -> tuple[Reads, ...]:
    return tuple(Reads(i.name, i.wires, str(i.buffer), i.passive, i.ordered, i.implicit) for i in task.inputs)


def _reads_of_spec(spec: Spec) -> tuple[Reads, ...]:
    return tuple(
        Reads(i.name, i.wires, str(Buffer(i.least, i.most, i.slide)), i.passive, i.ordered)
        for i in spec.inputs
    )


def _promises(task: Task) -> tuple[tuple[str, str], ...]:
    """What a task's wiring promises, in words: defaults too, since they are promises as well."""
    told: list[tuple[str, str | None]] = [
        ("policy", str(task.policy)),
        ("align", task.align),
        ("rate", _rate(task.rate) if task.rate else None),
        ("within", f"{task.within:g} s" if task.within is not None else None),
        ("every", f"{task.every:g} s" if task.every is not None else None),
        ("order", "strict" if task.strict else None),
        ("concurrency", str(task.concurrency)),
        ("backlog", str(task.backlog) if task.backlog is not None else None),
        ("retries", str(task.retries)),
        ("backoff", f"{task.backoff:g} s"),
        ("timeout", f"{task.timeout:g} s" if task.timeout is not None else "none"),
        ("max-hops", str(task.max_hops)),
        ("region", task.region),
    ]
    return tuple((name, text) for name, text in told if text is not None)


def _rate(rate: Rate) -> str:
    return f"{rate.count}/s" if rate.seconds == 1 else f"{rate.count}/{rate.seconds:g}s"


def _wire(tx: Transaction, row: WireRow, tasks: tuple[TaskConcept, ...]) -> WireConcept:
    sample = overview.sample(tx, row.id, row.head, _SAMPLE)
    gaps = [(b[2] - a[2]) / 1e6 for a, b in pairwise(sample)]
    return WireConcept(
        name=row.name,
        count=row.head,
        writer=next((t.counts.name for t in tasks if row.name in t.outputs and not t.counts.retired), ""),
        readers=tuple(
            t.counts.name for t in tasks if not t.counts.retired and any(row.name in r.wires for r in t.reads)
        ),
        sampled=len(sample),
        types=tuple(Counter(kind for kind, *_ in sample).most_common()),
        size=_spread([size for _, size, _, _ in sample]),
        interval=_spread(gaps),
        last=sample[-1][2] if sample else 0,
    )


def _spread(numbers: list[float] | list[int]) -> tuple[float, float]:
    if not numbers:
        return 0.0, 0.0
    mean = sum(numbers) / len(numbers)
    return mean, sqrt(sum((n - mean) ** 2 for n in numbers) / len(numbers))
