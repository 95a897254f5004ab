"""Questions about a state: what time would change, what the task would do if it were free,
and which values it has not done with."""

from __future__ import annotations

from collections.abc import Mapping

from koalja_fn.snapshots.advance import Work
from koalja_fn.snapshots.spec import Spec
from koalja_fn.snapshots.state import State


def due(spec: Spec, state: State) -> int | None:
    """The next time (microseconds) at which `Time` would change anything, `eager` included.

    The present or an earlier time means that something can happen at once, as after a rewiring.
    """
    work = Work(spec, state)
    times = [s.lapses() for s in work.series]
    if spec.within is not None:
        times += [g.lapses(spec.within) for g in work.gates if g is not None]
        times.append(work.align.expires() if work.align else None)
    if work.policy.ready() and work.rate_allows():
        times.append(state.now)
    elif not work.rate_allows() and (work.policy.ready() or work.policy.early()):
        times.append((state.formed or 0) + (spec.interval or 0))
    return min((t for t in times if t is not None), default=None)


def eager(spec: Spec, state: State) -> bool:
    """Whether `Free` would form a snapshot now."""
    work = Work(spec, state)
    return work.rate_allows() and (work.policy.ready() or bool(work.policy.early()))


def pending(spec: Spec, state: State) -> Mapping[str, int]:
    """For each input, the first index that has not yet left a window: where new windows begin.

    A value has left when the window after it is next, or, on a passive input, when a newer window took
    the place of its own. Under align values leave out of order: it is the first index from which on
    none has left; see `rewiring.stragglers` for what waits before it.
    """
    first = {}
    for i, s in zip(spec.inputs, state.series, strict=True):
        first[i.name] = s.latest[0] if i.passive and s.latest else s.first
        if state.pairs is not None and not i.passive:
            start = s.next
            for index in reversed(state.pairs.unmatched(i.name)):
                if index != start - 1:
                    break
                start = index
            first[i.name] = start
    return first


def needed(spec: Spec, state: State) -> Mapping[str, int]:
    """For each input, the first index that a snapshot may still use: payloads from there on are kept."""
    first = dict(pending(spec, state))
    for i, s in zip(spec.inputs, state.series, strict=True):
        if state.pairs is not None and not i.passive:
            first[i.name] = min([s.next, *state.pairs.unmatched(i.name)[:1]])
        elif spec.policy == "swap" and s.latest:
            first[i.name] = min(s.latest[0], s.first)
    return first


def held(spec: Spec, state: State) -> Mapping[str, tuple[tuple[str, int], ...]]:
    """For each ordered input, the values that wait for their turn: (wire, position), in sequence order.

    They have no index yet. When such an input restarts, they are to be read again.
    """
    return {
        i.name: tuple((h.value.wire, h.value.position) for items in gate.held.values() for h in items)
        for i, gate in zip(spec.inputs, state.gates, strict=True)
        if gate is not None
    }
