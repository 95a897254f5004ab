"""Advancing a task by events: the one place where gates, windows, policies, rate and time meet.

For each value: its gate (if ordered) lets it in, its input's series takes it in, and if that
completed a window, the policy is told and snapshots form while one is ready and the rate allows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from koalja_fn.snapshots.align import Align
from koalja_fn.snapshots.all_new import AllNew
from koalja_fn.snapshots.events import Arrival, Event, Free, Time
from koalja_fn.snapshots.outcomes import Admitted, Formed, Outcome, Skipped
from koalja_fn.snapshots.policy import Policy
from koalja_fn.snapshots.spec import Spec
from koalja_fn.snapshots.state import State
from koalja_fn.snapshots.swap import Swap
from koalja_fn.snapshots.windows import at_work


def advance(spec: Spec, state: State, events: Iterable[Event]) -> tuple[State, list[Outcome]]:
    """Take in events, in order; return the state after them and what came of them, in order.

    A list of events comes to the same as each by itself, save that `Formed.cause` counts from the
    list's beginning. `state` is not changed.
    """
    work = Work(spec, state)
    for cause, event in enumerate(events):
        work.cause = cause
        if not cause:
            work.outcomes += work.policy.settle()
        kind = type(event)
        if kind is Arrival:
            work.arrive(event)  # type: ignore[arg-type]  # two comparisons less than a match
        elif kind is Time:
            work.pass_time(event.at)  # type: ignore[union-attr]
        else:
            assert kind is Free, f"not an event: {event!r}"
            work.be_free()
    return work.state(), work.outcomes


class Work:
    """A working copy of a state, changed in place."""

    def __init__(self, spec: Spec, state: State) -> None:
        self.spec = spec
        self.now = state.now
        self.formed = state.formed
        self.series = at_work(spec.inputs, state.series, spec.within)
        self.gates = [g and g.copy() for g in state.gates]
        self.align = Align(self.series, state.pairs, spec.within) if state.pairs is not None else None
        self.policy: Policy = self.align or (Swap if spec.policy == "swap" else AllNew)(self.series)
        self.cause = 0
        self.outcomes: list[Outcome] = []

    def state(self) -> State:
        """The state as it is now."""
        return State(
            self.now,
            self.formed,
            tuple([s.counters() for s in self.series]),
            tuple(self.gates),
            self.align.pairs() if self.align else None,
        )

    def arrive(self, value: Arrival) -> None:
        """A value came."""
        number = self.spec.route[value.wire]
        gate = self.gates[number]
        if gate is not None:
            for let_in in gate.pass_on(value, self.now):
                self._from_gate(number, let_in)
            return
        self._admit(number, value)

    def pass_time(self, at: int) -> None:
        """It is `at`: what is over is over, and what had to wait may form."""
        self.now = max(self.now, at)
        for number, s in enumerate(self.series):
            if s.lapsed(self.now):
                self._shut(number)
        self.form()
        if self.spec.within is None:
            return
        if self.align is not None:
            self.outcomes += self.align.expire(self.now)
        for number, gate in enumerate(self.gates):
            if gate is not None and gate.held:
                for let_in in gate.lapse(self.now, self.spec.within):
                    self._from_gate(number, let_in)

    def be_free(self) -> None:
        """The task has nothing to do: windows may close early if that forms a snapshot."""
        if self.rate_allows() and not self.policy.ready():
            for s in self.policy.early():
                self._shut(self.series.index(s))
        self.form()

    def rate_allows(self) -> bool:
        """Whether enough time has gone by since the last snapshot."""
        interval = self.spec.interval
        return interval is None or self.formed is None or self.formed + interval <= self.now

    def form(self) -> None:
        """Form the snapshots that are ready, as far as the rate allows."""
        while self.policy.ready() and self.rate_allows():
            self.outcomes.append(Formed(self.policy.take(), self.cause))
            self.formed = self.now

    def _from_gate(self, number: int, let_in: Arrival | Skipped) -> None:
        if isinstance(let_in, Skipped):
            self.outcomes.append(replace(let_in, input=self.spec.inputs[number].name))
        else:
            self._admit(number, let_in)

    def _admit(self, number: int, value: Arrival) -> None:
        s = self.series[number]
        if s.indexed:
            self.outcomes.append(Admitted(s.name, s.next, value.wire, value.position))
        elif value.position != s.next:
            raise ValueError(f"wire {value.wire}: position {value.position} came where {s.next} was due")
        if s.add(self.now):
            self._completed(number, value)
            self.form()

    def _shut(self, number: int) -> None:
        self.series[number].shut()
        self._completed(number, None)

    def _completed(self, number: int, value: Arrival | None) -> None:
        s = self.series[number]
        if s.passive:
            s.take()
        else:
            self.outcomes += self.policy.completed(number, value, self.now)
