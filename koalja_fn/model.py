"""Circuits, tasks, wires and annotated values: frozen data and their invariants.

Knows nothing of files, clocks, databases or processes. Words as in the paper, section III:
tasks are wired by named wires; what travels on a wire are annotated values (AVs), which
describe a payload but never carry it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Policy(StrEnum):
    """How windows of several inputs come together (paper, section III.I)."""

    ALL_NEW = "all-new"
    SWAP = "swap"
    MERGE = "merge"
    ALIGN = "align"


@dataclass(frozen=True, slots=True)
class Buffer:
    """The window of an input: `least` to `most` values; the next window starts `slide` values later.

    `x` is (1, 1, 1), `x[5]` (5, 5, 5), `x[10/2]` (10, 10, 2) and `x[2-4]` (2, 4, 4): an elastic
    window, which may close early and then is followed by one that starts right after it.
    """

    least: int = 1
    most: int = 1
    slide: int = 1

    @property
    def elastic(self) -> bool:
        """Whether the window may close before it is full."""
        return self.least < self.most

    @property
    def plain(self) -> bool:
        """Whether it is one value, used once."""
        return self == Buffer()

    def __str__(self) -> str:
        if self.plain:
            return ""
        if self.elastic:
            return f"[{self.least}-{self.most}]"
        if self.slide == self.most:
            return f"[{self.most}]"
        return f"[{self.most}/{self.slide}]"


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a text: lines and columns count from 1, `length` in characters."""

    file: str = ""
    line: int = 0
    column: int = 0
    length: int = 1


@dataclass(frozen=True, slots=True)
class Input:
    """A named input of a task: one wire, or several merged first come, first served.

    `name` is the placeholder: the name after `as`, else the first wire's.
    """

    name: str
    wires: tuple[str, ...]
    buffer: Buffer = Buffer()
    passive: bool = False
    implicit: bool = False
    ordered: bool = False
    place: Place = field(default=Place(), compare=False)


@dataclass(frozen=True, slots=True)
class Output:
    """A named output of a task; an `implicit` one is a service that others look things up in."""

    wire: str
    implicit: bool = False
    place: Place = field(default=Place(), compare=False)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` snapshots in `seconds`."""

    count: int
    seconds: float

    @property
    def interval(self) -> float:
        """Seconds between two snapshots."""
        return self.seconds / self.count


@dataclass(frozen=True, slots=True)
class Task:
    """User code with named inputs and outputs, and what its wiring says about it.

    Durations are in seconds. `run` is the run line as written, None where the code is found by
    its name. Attributes that nothing sets have the documented defaults. Under `merge` the buffer of
    the group, `(a, b)[10/2]`, stands on each input that is not passive: they are one window.
    """

    name: str
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    policy: Policy = Policy.ALL_NEW
    align: str | None = None
    run: str | None = None
    rate: Rate | None = None
    within: float | None = None
    retries: int = 3
    backoff: float = 1.0
    timeout: float | None = 600.0
    strict: bool = False
    start: str | None = None
    cache: bool | None = None
    on_update: str = "ignore"
    warm: bool = True
    region: str | None = None
    env: tuple[tuple[str, str], ...] = ()
    scale: int | None = None
    concurrency: int = 1
    every: float | None = None
    mode: str = "service"
    max_hops: int = 1000
    backlog: int | None = None
    place: Place = field(default=Place(), compare=False)

    @property
    def streams(self) -> tuple[Input, ...]:
        """The inputs that carry values, in the order of the wiring: all but implicit ones."""
        return tuple(i for i in self.inputs if not i.implicit)

    @property
    def service(self) -> bool:
        """Whether it is a long-running program in which others look things up (docs/wiring.md)."""
        return any(o.implicit for o in self.outputs)

    @property
    def output_wires(self) -> tuple[str, ...]:
        """The wires it puts values on."""
        return tuple(o.wire for o in self.outputs if not o.implicit)


SINK_FIELDS = ("id", "wire", "name", "position", "digest", "key")
"""What `to` may have in braces."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def is_address(text: str) -> bool:
    """Whether a `from` or `to` means a bucket or a topic, such as `s3://bucket/*`, and no files."""
    return _SCHEME.match(text) is not None


@dataclass(frozen=True, slots=True)
class Wire:
    """A named stream of values, and what a `wire` statement says about it.

    `source` and `sink` are the attributes `from` and `to`: file patterns, buckets or topics.
    `keep` is in seconds; None keeps payloads for ever.
    """

    name: str
    type: str | None = None
    keep: float | None = None
    confined: str | None = None
    accept: str | None = None
    identity: str = "id"
    source: str | None = None
    sink: str | None = None
    at: str | None = None
    place: Place = field(default=Place(), compare=False)


@dataclass(frozen=True, slots=True)
class Circuit:
    """A named wiring of tasks. Loops are allowed. `wires` has an entry for each wire that occurs."""

    name: str
    tasks: tuple[Task, ...]
    wires: Mapping[str, Wire]
    file: str = ""

    def task(self, name: str) -> Task | None:
        """The task of that name, if there is one."""
        return next((t for t in self.tasks if t.name == name), None)

    def readers(self, wire: str) -> tuple[Task, ...]:
        """Tasks that read the wire as a stream, in the order of the file."""
        return tuple(t for t in self.tasks if any(wire in i.wires for i in t.streams))

    def writer(self, wire: str) -> Task | None:
        """The task that puts values on the wire; None for a source."""
        return next((t for t in self.tasks if wire in t.output_wires), None)

    def asked(self, task: Task) -> tuple[Task, ...]:
        """The services of the circuit that a task asks."""
        wires = {item.wires[0] for item in task.inputs if item.implicit}
        return tuple(t for t in self.tasks if any(o.implicit and o.wire in wires for o in t.outputs))

    @property
    def sources(self) -> tuple[str, ...]:
        """Wires that no task feeds and some task reads, sorted."""
        read = {w for t in self.tasks for i in t.streams for w in i.wires}
        fed = {w for t in self.tasks for w in t.output_wires}
        return tuple(sorted(read - fed))

    @property
    def ends(self) -> tuple[str, ...]:
        """Wires that some task feeds and no task reads, sorted."""
        read = {w for t in self.tasks for i in t.streams for w in i.wires}
        fed = {w for t in self.tasks for w in t.output_wires}
        return tuple(sorted(fed - read))


@dataclass(frozen=True, slots=True)
class AnnotatedValue:
    """The metadata of one datum (paper, section III.I). The payload is elsewhere, at `digest`.

    `created` is the source's clock and `arrived` the registry's, both in microseconds since 1970;
    `position` counts from 0 on the wire. `key` is the lineage key that `align` pairs by and `index`
    the output's index within its execution. `hops` is 0 for a value from outside.
    """

    id: str
    circuit: str
    wire: str
    position: int
    source: str
    created: int
    arrived: int
    digest: str
    size: int
    type: str
    name: str = ""
    snapshot: str = ""
    version: str = ""
    region: str = ""
    key: str = ""
    index: int = 0
    hops: int = 0
    ghost: bool = False
    event_source: str = ""
    event_id: str = ""
    sequence: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Members:
    """One input of a snapshot: its values in order of arrival; the last `fresh` of them are new."""

    input: str
    values: tuple[AnnotatedValue, ...]
    fresh: int
