"""Rewiring: from the state under the old wiring to one under the new, with nothing lost or used twice.

An input that is the same in both keeps its counters, its windows and what it holds back. One that is
new or changed begins afresh, at the first value that had not left a window; the caller reads those
values again (see `outlook.pending` and `outlook.held`).
"""

from __future__ import annotations

from collections.abc import Mapping

from koalja_fn.snapshots.align import Group, Pairs
from koalja_fn.snapshots.outcomes import Outcome, Superseded, Unmatched
from koalja_fn.snapshots.outlook import pending
from koalja_fn.snapshots.spec import InputSpec, Spec
from koalja_fn.snapshots.state import State, new_gate, new_pairs
from koalja_fn.snapshots.windows import Counters, at_work


def rewire(old: Spec, state: State, new: Spec, starts: Mapping[str, int], bases: Mapping[str, int]) -> State:
    """Carry a state over to a new wiring.

    `starts` gives the first position of each wire, and `bases` the first index of each merged or
    ordered input (0 where it says nothing), for inputs that are new or changed; for others both
    are ignored. What the rewiring itself did to values is reported with the next event. A
    snapshot that the new wiring makes possible at once forms with the next event: `due` says so.
    """
    kept = unchanged(old, new)
    notes: list[Outcome] = [*state.notes, *_stragglers(old, state, kept)]
    series, gates = [], []
    before = {i.name: (i, s, g) for i, s, g in zip(old.inputs, state.series, state.gates, strict=True)}
    for i in new.inputs:
        _, counters, gate = before.get(i.name, (None, None, None))
        if i.name not in kept or counters is None:
            counters = Counters.begin(bases.get(i.name, 0) if i.indexed else starts[i.wires[0]])
            counters = _remember(before.get(i.name), i, counters)
            gate = new_gate(i)
        elif new.policy == "swap" and old.policy != "swap" and not i.passive:
            counters, note = _coalesce(i, counters)
            notes += note
        series.append(counters)
        gates.append(gate)
    pairs = _pairs(old, state, new, kept)
    return State(state.now, state.formed, tuple(series), tuple(gates), pairs, tuple(notes))


def unchanged(old: Spec, new: Spec) -> frozenset[str]:
    """Names of the inputs that go on where they are.

    Values wait under align by key and elsewhere by number, so that inputs that trigger restart when
    align comes, goes or goes by another attribute.
    """
    same = set(old.inputs) & set(new.inputs)
    if "align" in (old.policy, new.policy) and (old.policy, old.align) != (new.policy, new.align):
        return frozenset(i.name for i in same if i.passive)
    return frozenset(i.name for i in same)


def _remember(
    before: tuple[InputSpec, Counters, object] | None, i: InputSpec, counters: Counters
) -> Counters:
    """Values that were in the previous snapshot are not fresh, though their windows are cut anew."""
    if before is None or i.indexed or before[0].indexed or before[0].wires != i.wires or before[0].passive:
        return counters
    return counters._replace(seen=max(counters.seen, before[1].seen))


def _coalesce(i: InputSpec, counters: Counters) -> tuple[Counters, list[Outcome]]:
    """Under swap only the newest of the windows that wait is of use."""
    (s,) = at_work([i], [counters], None)
    surplus = [s.drop() for _ in range(s.complete - 1)]
    if not surplus:
        return counters, []
    first, last = surplus[0], surplus[-1]
    return s.counters(), [Superseded(i.name, first.first, last.first + last.count - first.first)]


def _stragglers(old: Spec, state: State, kept: frozenset[str]) -> list[Outcome]:
    """Values that an aligned input can't read again, since values behind them have already left."""
    if state.pairs is None:
        return []
    first = pending(old, state)
    return [
        Unmatched(i.name, index, 1, "rewired")
        for i in old.inputs
        if not i.passive and i.name not in kept
        for index in state.pairs.unmatched(i.name)
        if index < first[i.name]
    ]


def _pairs(old: Spec, state: State, new: Spec, kept: frozenset[str]) -> Pairs | None:
    """What align remembers of inputs that go on; with other inputs than before, time begins anew."""
    before = [i.name for i in old.inputs if not i.passive]
    after = [i.name for i in new.inputs if not i.passive]
    if state.pairs is None or new.policy != "align" or not kept.intersection(after):
        return new_pairs(new)
    if set(before) == set(after) and kept.issuperset(after):
        return state.pairs
    groups = [
        _without(g, kept.intersection(after), state.now) for g in (*state.pairs.matched, *state.pairs.open)
    ]
    full = [g for g in groups if len(g.members) == len(after)]
    return Pairs(
        tuple(g for g in groups if 0 < len(g.members) < len(after)), tuple(full), state.pairs.expired
    )


def _without(group: Group, names: frozenset[str], now: int) -> Group:
    members = {name: index for name, index in group.members.items() if name in names}
    return Group(group.pair, now, members)
