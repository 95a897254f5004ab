"""Forming: new arrivals go through the snapshot core, and what comes of it is written, in one transaction.

What was consumed is appended to the task's log, which is the core's only input: with it the same
snapshots form again, whoever replays it (DESIGN, section 7).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from koalja_fn import ids
from koalja_fn.engine.plans import TaskPlan
from koalja_fn.engine.recording import Step, record
from koalja_fn.engine.replaying import Remembered, current_state
from koalja_fn.engine.taking import take
from koalja_fn.registry import snapshots, tasks
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.snapshots import New
from koalja_fn.registry.tasks import LogRecord, TaskRow
from koalja_fn.snapshots import Event, Formed, Free, Outcome, Time, advance, due, eager

# Values that one transaction takes up at most: enough to amortise, few enough not to hold others up.
_BATCH = 2000


@dataclass(frozen=True, slots=True)
class Formation:
    """What one formation did; `due` is when time alone may do something to the task."""

    formed: int
    more: bool
    due: int | None
    remembered: Remembered | None


class Stale(Exception):
    """The task was rewired, or a recompute has put another row in its place: plans of before form no more."""


def form(
    tx: Transaction, clock: Callable[[], int], plan: TaskPlan, remembered: Remembered | None = None
) -> Formation:
    """Take up what has arrived for the task and what time has brought, and write the snapshots that form.

    `remembered` spares reading the core's state where it is still the last one.

    Raises:
        Stale: The task has another generation than the plan, or is not in the circuit any more.
    """
    row, links = tasks.lock_with_links(tx, plan.id)
    if row.generation != plan.generation or row.retired:
        raise Stale(plan.name)
    if not plan.streams:
        return _form_scheduled(tx, max(clock(), row.latest), plan, row)
    taken, more = take(tx, plan.spec, links, _BATCH)
    now = max(clock(), row.latest)
    state = current_state(tx, plan.spec, row, remembered)
    events: list[Event] = []
    waiting_for = due(plan.spec, state)
    if (plan.spec.timed and taken) or (waiting_for is not None and waiting_for <= now):
        events.append(Time(now))
    events += [t.arrival for t in taken]
    state, outcomes = advance(plan.spec, state, events) if events else (state, [])
    formed = sum(isinstance(outcome, Formed) for outcome in outcomes)
    freed = plan.spec.elastic and not formed and _idle(tx, plan.id) and eager(plan.spec, state)
    freed_outcomes: list[Outcome] = []
    if freed:
        state, freed_outcomes = advance(plan.spec, state, [Free()])
        formed += sum(isinstance(outcome, Formed) for outcome in freed_outcomes)
    when = due(plan.spec, state)
    if events or freed:
        step = Step(plan, row, links, taken, now, state, when)
        head = record(tx, step, [(events, outcomes), ([Free()] if freed else [], freed_outcomes)])
        return Formation(formed, more, when, Remembered(head, state, row.id))
    return Formation(0, more, when, Remembered(row.log_head, state, row.id))


def _idle(tx: Transaction, task: int) -> bool:
    """Whether the task has nothing running and nothing ready."""
    return snapshots.running(tx, task) == 0 and snapshots.next_due(tx, task) is None


def _form_scheduled(tx: Transaction, now: int, plan: TaskPlan, row: TaskRow) -> Formation:
    """A task without inputs has a snapshot for each instant; missed instants are made up for by one."""
    if row.due is None or row.due > now or plan.task.every is None:
        return Formation(0, False, row.due, None)
    instant = row.due
    every = max(1, round(plan.task.every * 1_000_000))
    following = instant + every * ((now - instant) // every + 1)
    tasks.append(tx, plan.id, [LogRecord(row.log_head + 1, "due", instant)], {})
    named = ids.scheduled_snapshot(plan.circuit, plan.name, row.epoch, row.generation, instant)
    snapshots.insert(tx, row, now, [New(named, row.formed, {"time": instant}, [])])
    tasks.advance(tx, plan.id, row.log_head + 1, row.formed + 1, following, None, now)
    return Formation(1, False, following, None)
