"""Recording what the snapshot core made of arrivals: log, snapshots, what was passed over, positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from koalja_fn import ids
from koalja_fn.engine.plans import TaskPlan
from koalja_fn.engine.taking import Taken
from koalja_fn.registry import snapshots, tasks, values
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.snapshots import New, Run
from koalja_fn.registry.tasks import LinkRow, LogRecord, TaskRow
from koalja_fn.snapshots import (
    Admitted,
    Arrival,
    Event,
    Formed,
    Outcome,
    Skipped,
    State,
    Superseded,
    Time,
    Unmatched,
    Window,
)

# A longer state is written only after enough records to be worth it; the log's tail is replayed instead.
_SMALL_STATE = 2048
_RECORDS_PER_CHECKPOINT = 200

# Events that went into the core together, and what came of them.
Pass = tuple[Sequence[Event], Sequence[Outcome]]


@dataclass(frozen=True, slots=True)
class Step:
    """All that one formation knows: the task's row and links before it, and the core's state after it."""

    plan: TaskPlan
    row: TaskRow
    links: list[LinkRow]
    taken: list[Taken]
    now: int
    state: State
    due: int | None


def record(tx: Transaction, step: Step, passes: Sequence[Pass]) -> int:
    """Write what happened; return the number of the log's last record."""
    plan, row = step.plan, step.row
    events = [event for some, _ in passes for event in some]
    outcomes = [outcome for _, some in passes for outcome in some]
    records = _records(events, row.log_head, step.now)
    head = row.log_head + len(records)
    tasks.append(tx, plan.id, records, plan.wires)
    _write_feed(tx, plan, outcomes)
    formed = [
        (outcome, some_events[outcome.cause])
        for some_events, some_outcomes in passes
        for outcome in some_outcomes
        if isinstance(outcome, Formed)
    ]
    if formed:
        _write_snapshots(tx, step, formed)
    _write_passed(tx, step, outcomes)
    _move_links(tx, step, outcomes)
    text = step.state.to_json() if _worth_writing(row, head) else None
    tasks.advance(tx, plan.id, head, row.formed + len(formed), step.due, text, step.now)
    return head


def _worth_writing(row: TaskRow, head: int) -> bool:
    """Whether to write the state: always while it is small, else after records enough to pay for it."""
    size = len(row.state)
    return size <= _SMALL_STATE or head - row.state_at >= max(_RECORDS_PER_CHECKPOINT, size // 64)


def _records(events: Sequence[Event], seq: int, now: int) -> list[LogRecord]:
    """Log records for the events: neighbours on one wire become one run."""
    records: list[LogRecord] = []
    for event in events:
        if not isinstance(event, Arrival):
            seq += 1
            records.append(LogRecord(seq, "time" if isinstance(event, Time) else "free", now))
            continue
        last = records[-1] if records else None
        if last and last.wire == event.wire and last.last == event.position - 1:
            records[-1] = LogRecord(last.seq, "run", now, event.wire, last.first, event.position)
        else:
            seq += 1
            records.append(LogRecord(seq, "run", now, event.wire, event.position, event.position))
    return records


def _write_feed(tx: Transaction, plan: TaskPlan, outcomes: Sequence[Outcome]) -> None:
    runs: dict[str, list[Run]] = {}
    for outcome in outcomes:
        if not isinstance(outcome, Admitted):
            continue
        some = runs.setdefault(outcome.input, [])
        wire = plan.wires[outcome.wire]
        last = some[-1] if some else None
        if last and last.wire == wire and last.position + last.count == outcome.position:
            some[-1] = Run(last.first, last.count + 1, wire, last.position)
        else:
            some.append(Run(outcome.index, 1, wire, outcome.position))
    for name, some in runs.items():
        snapshots.feed(tx, plan.id, name, some)


def _write_snapshots(tx: Transaction, step: Step, formed: Sequence[tuple[Formed, Event]]) -> None:
    known = {(t.arrival.wire, t.arrival.position): t.id for t in step.taken}
    rows = [
        _new(tx, step, known, number, outcome, cause)
        for number, (outcome, cause) in enumerate(formed, step.row.formed)
    ]
    snapshots.insert(tx, step.row, step.now, rows)


def _new(
    tx: Transaction,
    step: Step,
    known: dict[tuple[str, int], str],
    number: int,
    formed: Formed,
    cause: Event,
) -> New:
    plan, row = step.plan, step.row
    ranges = [_range(tx, plan, known, window) for window in formed.windows]
    return New(
        ids.snapshot(plan.circuit, plan.name, row.epoch, row.generation, ranges),
        number,
        _cause(cause),
        [
            snapshots.InputRow(w.input, plan.wire_of(w.input), w.first, w.first + w.count - 1, w.fresh)
            for w in formed.windows
        ],
    )


def _range(tx: Transaction, plan: TaskPlan, known: dict[tuple[str, int], str], window: Window) -> ids.Range:
    last = window.first + window.count - 1
    wire = plan.wire_of(window.input)
    if wire is None:
        edges = [
            next(snapshots.feed_runs(tx, plan.id, window.input, index, index))[:2]
            for index in (window.first, last)
        ]
        first_id, last_id = (values.id_at(tx, w, position) for w, position in edges)
    else:
        name = plan.first_wire(window.input)
        first_id = known.get((name, window.first)) or values.id_at(tx, wire, window.first)
        last_id = first_id
        if last != window.first:
            last_id = known.get((name, last)) or values.id_at(tx, wire, last)
    return ids.Range(window.input, first_id, last_id, window.count, window.first)


def _cause(event: Event) -> dict[str, object]:
    if isinstance(event, Arrival):
        return {"wire": event.wire, "position": event.position}
    if isinstance(event, Time):
        return {"time": event.at}
    return {"free": True}


def _write_passed(tx: Transaction, step: Step, outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        if isinstance(outcome, Superseded | Unmatched):
            reason = "superseded" if isinstance(outcome, Superseded) else outcome.reason
            last = outcome.first + outcome.count - 1
            wire = step.plan.wire_of(outcome.input)
            tasks.pass_over(tx, step.plan.id, step.now, outcome.input, wire, outcome.first, last, reason)
        elif isinstance(outcome, Skipped):
            text = f"sequence of {outcome.source}: nothing between {outcome.after} and {outcome.until}"
            tasks.pass_over(tx, step.plan.id, step.now, outcome.input, None, 0, -1, "gap", text)


def _move_links(tx: Transaction, step: Step, outcomes: Sequence[Outcome]) -> None:
    """Move each link behind what was read; count for each input what was used and what was passed over."""
    positions = {t.arrival.wire: t.arrival.position + 1 for t in step.taken}
    used, passed = _usage(step, outcomes)
    for link in step.links:
        position = positions.get(link.name, link.position)
        mine = step.plan.first_wire(link.input) == link.name
        settled = link.settled + (passed.get(link.input, 0) if mine else 0)
        now_used = used.get(link.input, link.used) if mine else link.used
        if (position, now_used, settled) != (link.position, link.used, link.settled):
            tasks.move_link(tx, step.plan.id, link.wire, position, now_used, settled)


def _usage(step: Step, outcomes: Sequence[Outcome]) -> tuple[dict[str, int], dict[str, int]]:
    """For each input: the first index in no window yet, and how many values no snapshot will have."""
    used = {link.input: link.used for link in step.links if step.plan.first_wire(link.input) == link.name}
    before = dict(used)
    formed: dict[str, int] = {}
    aligned = step.plan.spec.policy == "align"
    for outcome in outcomes:
        if isinstance(outcome, Formed):
            ranges = [(w.input, w.first, w.count) for w in outcome.windows]
            for w in outcome.windows:
                formed[w.input] = formed.get(w.input, 0) + w.fresh
        elif isinstance(outcome, Superseded | Unmatched):
            ranges = [(outcome.input, outcome.first, outcome.count)]
        else:
            continue
        for name, first, count in ranges:
            used[name] = used[name] + count if aligned else max(used[name], first + count)
    # Below 0 where a snapshot has values of a sliding window that was superseded, and counted, before.
    passed = {name: used[name] - before[name] - formed.get(name, 0) for name in used}
    return used, passed
