"""Replaying a live task's log in a lane: the same events, with new values in the places of old ones.

The log goes through the pure core twice, side by side: as it was, and with what the lane's wires have. What
forms at the same event is counterpart of one another. The lane's own log is written as any other, so that
it replays to the lane's snapshots by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from koalja_fn import ids
from koalja_fn.engine import installing
from koalja_fn.engine.plans import TaskPlan
from koalja_fn.engine.recording import Pass, Step, record
from koalja_fn.engine.replaying import Remembered, Wiring, current_state, events_of, taken_by
from koalja_fn.engine.taking import Taken, read
from koalja_fn.registry import lanes, snapshots, tasks
from koalja_fn.registry.lanes import LaneRun, LaneTask, LaneWire
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.snapshots import New
from koalja_fn.registry.tasks import LinkRow, LogRecord
from koalja_fn.snapshots import Arrival, Event, Formed, Outcome, Spec, State, advance, due

# Records of a log that one transaction takes up: few enough not to hold up live arrivals.
_BATCH = 200
# Places of a lane's values that are read at once: a formation takes up a few.
_AHEAD = 16


@dataclass(slots=True)
class _Old:
    """The live task's core as it was behind record `seq` of its log; `formed` snapshots had formed."""

    seq: int = 0
    wiring: Wiring | None = None
    state: State | None = None
    formed: int = 0

    @property
    def spec(self) -> Spec:
        """The wiring in force."""
        assert self.wiring is not None, "a log begins with its wiring"
        return self.wiring.spec


class Replay:
    """One task of a lane. `plan` is the lane's: rows of the lane where it has some, else the live ones."""

    def __init__(
        self, recompute: int, plan: TaskPlan, old: int, wires: Mapping[str, LaneWire], rows: Mapping[str, int]
    ) -> None:
        self._recompute = recompute
        self._plan = replace(plan, wires={**rows, **plan.wires})
        self._task = old
        self._wires = wires
        self._old = _Old()
        self._remembered: Remembered | None = None

    def step(self, tx: Transaction, place: LaneTask) -> int:
        """Replay some records, and write what forms; return the number of the last record."""
        if self._old.seq > place.seq:
            self._old = _Old()  # the last transaction was not committed
        old = replace(self._old)  # a transaction may be run twice
        self._catch_up(tx, old, place.seq)
        found = lanes.log_between(tx, self._task, old.seq, place.until, _BATCH)
        for group in _formations(found, last=bool(found) and found[-1].seq == place.until):
            self._take(tx, old, group)
            old.seq = group[-1].seq
        lanes.replayed(tx, self._recompute, self._plan.id, old.seq)
        self._old = old
        return old.seq

    def catch_up(self, tx: Transaction, seq: int) -> None:
        """After a restart: be where the last process was, without a step to go."""
        old = replace(self._old)
        self._catch_up(tx, old, seq)
        self._old = old

    def flush(self, tx: Transaction, at: int) -> None:
        """At the cut: what has no counterpart, and comes behind all that was read, is read now."""
        if self._old.wiring is None or not self._old.spec.inputs:
            return
        generation = self._in_force()
        row, links = tasks.lock_with_links(tx, self._plan.id)
        taken = _Feed(tx, generation, links, self._wires).between(at)
        if taken:
            self._write(tx, generation, max(at, row.latest), [([t.arrival for t in taken], None)], taken)

    def _catch_up(self, tx: Transaction, old: _Old, seq: int) -> None:
        """After a restart: the old core comes to where it was."""
        while old.seq < seq:
            for item in lanes.log_between(tx, self._task, old.seq, seq, _BATCH):
                if item.kind == "wired":
                    self._rewire_old(old, item)
                elif item.kind == "due":
                    old.formed += 1
                else:
                    self._advance_old(old, events_of(tx, old.spec, item))
                old.seq = item.seq

    def _rewire_old(self, old: _Old, item: LogRecord) -> None:
        wiring = Wiring.from_json(item.body or "{}")
        old.state = wiring.apply(old.wiring.spec if old.wiring else None, old.state)
        old.wiring = wiring

    def _advance_old(self, old: _Old, events: Sequence[Event]) -> int:
        """Advance the old core; return how many snapshots formed."""
        assert old.state is not None
        old.state, outcomes = advance(old.spec, old.state, events)
        formed = sum(isinstance(outcome, Formed) for outcome in outcomes)
        old.formed += formed
        return formed

    def _in_force(self, old: _Old | None = None) -> TaskPlan:
        wiring = (old or self._old).wiring
        assert wiring is not None
        return replace(self._plan, spec=wiring.spec, generation=wiring.generation)

    def _take(self, tx: Transaction, old: _Old, group: Sequence[LogRecord]) -> None:
        """One formation of the live task, or a change of its wiring."""
        first = group[0]
        if first.kind == "wired":
            self._rewire(tx, old, first)
        elif first.kind == "due":
            self._scheduled(tx, old, first)
        else:
            self._form(tx, old, group)

    def _form(self, tx: Transaction, old: _Old, group: Sequence[LogRecord]) -> None:
        plan = self._in_force(old)
        row, links = tasks.lock_with_links(tx, plan.id)
        feed = _Feed(tx, plan, links, self._wires)
        passes: list[tuple[list[Event], int | None]] = []
        taken: list[Taken] = []
        number = old.formed
        expected: list[tuple[int, int]] = []
        for item in group:
            for event, arrived in _events(tx, old.spec, item):
                early = feed.between(arrived)
                if early:
                    taken += early
                    passes.append(([t.arrival for t in early], None))
                formed = self._advance_old(old, [event])
                expected.append((number, formed))
                number += formed
                if isinstance(event, Arrival):
                    now = feed.instead_of(event)
                    taken += now
                    passes.append(([t.arrival for t in now], len(expected) - 1))
                else:
                    passes.append(([event], len(expected) - 1))
        late = feed.between(group[-1].at)
        if late:
            taken += late
            passes.append(([t.arrival for t in late], None))
        self._write(tx, plan, max(group[-1].at, row.latest), passes, taken, expected)

    def _write(
        self,
        tx: Transaction,
        plan: TaskPlan,
        at: int,
        passes: Sequence[tuple[Sequence[Event], int | None]],
        taken: list[Taken],
        expected: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Let the lane's core have the events, write what comes of it, and pair that with the old."""
        row, links = tasks.lock_with_links(tx, plan.id)
        state = current_state(tx, plan.spec, row, self._remembered)
        done: list[Pass] = []
        formed: list[tuple[int | None, int]] = []
        for events, which in passes:
            outcomes: list[Outcome] = []
            if events:
                state, outcomes = advance(plan.spec, state, events)
            formed.append((which, sum(isinstance(o, Formed) for o in outcomes)))
            done.append((events, outcomes))
        if any(events for events, _ in done):
            step = Step(plan, row, links, taken, at, state, due(plan.spec, state))
            head = record(tx, step, done)
            self._remembered = Remembered(head, state, row.id)
        self._pair(tx, row.formed, formed, expected)

    def _pair(
        self,
        tx: Transaction,
        number: int,
        formed: Sequence[tuple[int | None, int]],
        expected: Sequence[tuple[int, int]],
    ) -> None:
        found: list[tuple[str, str, str]] = []
        for which, count in formed:
            first, before = expected[which] if which is not None else (0, 0)
            for n in range(max(count, before)):
                old = lanes.id_of_number(tx, self._task, first + n) if n < before else ""
                new = lanes.id_of_number(tx, self._plan.id, number + n) if n < count else ""
                found.append(("again" if old and new else "gone" if old else "extra", old, new))
            number += count
        lanes.supersede(tx, self._recompute, "snapshot", found)

    def _scheduled(self, tx: Transaction, old: _Old, item: LogRecord) -> None:
        """A task without inputs had its instant: it has it in the lane, too."""
        plan = self._in_force(old)
        row = tasks.lock(tx, plan.id)
        tasks.append(tx, plan.id, [LogRecord(row.log_head + 1, "due", item.at)], {})
        # A service's only snapshot is of the moment at which it was started, as are instants of `every`.
        named = ids.scheduled_snapshot(plan.circuit, plan.name, row.epoch, plan.generation, item.at)
        cause = {"time": item.at}
        snapshots.insert(tx, row, max(item.at, row.latest), [New(named, row.formed, cause, [])])
        tasks.advance(tx, plan.id, row.log_head + 1, row.formed + 1, None, None, max(item.at, row.latest))
        was = lanes.id_of_number(tx, self._task, old.formed)
        lanes.supersede(tx, self._recompute, "snapshot", [("again", was, named)])
        old.formed += 1

    def _rewire(self, tx: Transaction, old: _Old, item: LogRecord) -> None:
        first = old.wiring is None
        self._rewire_old(old, item)
        wiring, plan = old.wiring, self._in_force(old)
        assert wiring is not None
        starts = {wire: self._start(tx, wire, place, item.at) for wire, place in wiring.starts.items()}
        self._remembered = None
        if not first:
            row = tasks.lock(tx, plan.id)
            installing.rewire(tx, item.at, row, plan, wiring.generation, starts)
            return
        wired = Wiring(plan.spec, starts, {}, wiring.generation)
        state = wired.apply(None, None)
        tasks.append(tx, plan.id, [LogRecord(1, "wired", item.at, body=wired.to_json())], {})
        spec = plan.spec
        tasks.rewire(
            tx, plan.id, wiring.generation, spec.to_json(), state.to_json(), 1, due(spec, state), item.at
        )
        for one in spec.inputs:
            for wire in one.wires:
                used = 0 if one.indexed or spec.policy == "align" else starts[wire]
                tasks.keep_link(tx, plan.id, plan.wires[wire], one.name, starts[wire], used)

    def _start(self, tx: Transaction, wire: str, position: int, at: int) -> int:
        """Where a link begins that began, at a time, at a position of the old wire."""
        lane = self._wires.get(wire)
        if lane is None:
            return position
        return lanes.count_before(tx, lane.new, position, at)


class _Feed:
    """What the links of a lane's task have not read: values and the places that they take."""

    def __init__(
        self, tx: Transaction, plan: TaskPlan, links: Sequence[LinkRow], wires: Mapping[str, LaneWire]
    ) -> None:
        self._tx = tx
        self._spec = plan.spec
        self._rows = plan.wires
        self._next = {link.name: link.position for link in links if link.name in wires}
        self._runs: dict[str, list[LaneRun]] = {name: [] for name in self._next}
        self._loaded = dict(self._next)
        self._over: set[str] = set()

    def instead_of(self, event: Arrival) -> list[Taken]:
        """The values that come where `event` came in the live task."""
        if event.wire not in self._runs:
            return read(self._tx, self._spec, self._rows[event.wire], event.wire, event.position, 1)
        count = 0
        while (run := self._first(event.wire)) is not None and run.slot <= event.position:
            count += self._rest(event.wire, self._runs[event.wire].pop(0), count)
        return self._read(event.wire, count)

    def between(self, at: int) -> list[Taken]:
        """Values that are next, where the old snapshots had made nothing, of a time before `at`."""
        found: list[tuple[int, int, str, int]] = []
        for order, wire in enumerate(sorted(self._runs)):
            count = 0
            while (run := self._first(wire)) is not None and run.between and run.at <= at:
                some = self._rest(wire, self._runs[wire].pop(0), count)
                found.append((run.at, order, wire, some))
                count += some
        return [taken for _, _, wire, count in sorted(found) for taken in self._read(wire, count)]

    def _first(self, wire: str) -> LaneRun | None:
        """The next place on a wire; some are read ahead."""
        runs = self._runs[wire]
        if not runs and wire not in self._over:
            runs += lanes.runs_after(self._tx, self._rows[wire], self._loaded[wire], _AHEAD)
            if len(runs) < _AHEAD:
                self._over.add(wire)
            if runs:
                self._loaded[wire] = runs[-1].first + runs[-1].count
        return runs[0] if runs else None

    def _rest(self, wire: str, run: LaneRun, ahead: int) -> int:
        """How many of a run's values were not read."""
        return run.first + run.count - max(run.first, self._next[wire] + ahead)

    def _read(self, wire: str, count: int) -> list[Taken]:
        if not count:
            return []
        first = self._next[wire]
        self._next[wire] = first + count
        return read(self._tx, self._spec, self._rows[wire], wire, first, count)


def _formations(found: Sequence[LogRecord], *, last: bool) -> Iterator[list[LogRecord]]:
    """Records that were written together: they have the same time. The last ones may not be complete."""
    group: list[LogRecord] = []
    for item in found:
        if group and (item.at != group[0].at or "wired" in (item.kind, group[0].kind) or item.kind == "due"):
            yield group
            group = []
        group.append(item)
    if group and (last or len(found) < _BATCH or group[0].seq == found[0].seq):
        yield group


def _events(tx: Transaction, spec: Spec, item: LogRecord) -> Iterator[tuple[Event, int]]:
    """A record's events, each with the time up to which the lane's values come before it.

    Time is on record before the arrivals of its moment, that the task was free behind them.
    """
    if item.kind == "run":
        yield from ((taken.arrival, taken.arrived) for taken in taken_by(tx, spec, item))
    else:
        yield from ((event, item.at if item.kind == "free" else 0) for event in events_of(tx, spec, item))
