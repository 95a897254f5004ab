"""Rewiring: from the state under the old wiring to one under the new, with nothing lost or used twice.

An input that is the same in both keeps its counters, its windows and what it holds back. One that is
new or changed begins afresh, at the first value that had not left a window; the caller reads those
values again (see `outlook.pending` and `outlook.held`).
"""

from __future__ import annotations

from collections.abc import Mapping

from koalja_fn.snapshots.align import Group, Pairs
from koalja_fn.snapshots.outcomes import Unmatched
from koalja_fn.snapshots.outlook import pending
from koalja_fn.snapshots.spec import InputSpec, Spec
from koalja_fn.snapshots.state import State, new_gate, new_pairs
from koalja_fn.snapshots.windows import Counters


def rewire(old: Spec, state: State, new: Spec, starts: Mapping[str, int], bases: Mapping[str, int]) -> State:
    """Carry a state over to a new wiring.

    `starts` gives the first position of each wire, and `bases` the first index of each merged or
    ordered input (0 where it says nothing), for inputs that are new or changed; for others both
    are ignored. A snapshot that the new wiring makes possible at once forms with the next event,
    whichever it is: `due` and `eager` say so.
    """
    kept = unchanged(old, new)
    before = {i.name: (i, s, g) for i, s, g in zip(old.inputs, state.series, state.gates, strict=True)}
    series, gates = [], []
    for i in new.inputs:
        was = before.get(i.name)
        if was is not None and i.name in kept:
            series.append(was[1])
            gates.append(was[2])
            continue
        begun = Counters.begin(bases.get(i.name, 0) if i.indexed else starts[i.wires[0]])
        if was is not None and state.pairs is None:
            begun = _remember(was[0], was[1], i, begun)
        series.append(begun)
        gates.append(new_gate(i))
    return State(state.now, state.formed, tuple(series), tuple(gates), _pairs(old, state, new, kept))


def unchanged(old: Spec, new: Spec) -> frozenset[str]:
    """Names of the inputs that go on where they are.

    Values wait under align by key and elsewhere by number, so that inputs that trigger restart when
    align comes, goes or goes by another attribute.
    """
    same = set(old.inputs) & set(new.inputs)
    if "align" in (old.policy, new.policy) and (old.policy, old.align) != (new.policy, new.align):
        return frozenset(i.name for i in same if i.passive)
    return frozenset(i.name for i in same)


def stragglers(old: Spec, state: State, new: Spec) -> list[Unmatched]:
    """Values that a rewiring leaves behind, in the old wiring's numbering, for the record.

    An aligned input that restarts can't read again what waits for a partner while values behind it
    have left already: those would be used twice.
    """
    if state.pairs is None:
        return []
    kept = unchanged(old, new)
    first = pending(old, state)
    return [
        Unmatched(i.name, index, 1, "rewired")
        for i in old.inputs
        if not i.passive and i.name not in kept
        for index in state.pairs.unmatched(i.name)
        if index < first[i.name]
    ]


def _remember(was: InputSpec, before: Counters, i: InputSpec, begun: Counters) -> Counters:
    """Values that were in the previous snapshot are not fresh, though their windows are cut anew."""
    if i.indexed or was.indexed or was.wires != i.wires or was.passive:
        return begun
    return begun._replace(seen=max(begun.seen, before.seen))


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
