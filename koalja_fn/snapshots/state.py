"""All that a task remembers between two events: counters, and what is inherently held back.

A `State` is never changed once it has been returned; `advance` works on copies of its parts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from koalja_fn.snapshots.align import Pairs
from koalja_fn.snapshots.ordering import Gate
from koalja_fn.snapshots.spec import InputSpec, Spec
from koalja_fn.snapshots.windows import Counters


@dataclass(frozen=True, slots=True)
class State:
    """What became of the events so far.

    `now` is the last recorded time, `formed` that of the last snapshot. `series` and `gates` are by
    input; a gate is there for an ordered one, `pairs` under align.
    """

    now: int
    formed: int | None
    series: tuple[Counters, ...]
    gates: tuple[Gate | None, ...]
    pairs: Pairs | None

    def to_json(self) -> str:
        """Write it as text; equal states give equal text."""
        data = [
            self.now,
            self.formed,
            self.series,
            [g and g.dump() for g in self.gates],
            self.pairs and self.pairs.dump(),
        ]
        return json.dumps(data, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> State:
        """Read what `to_json` wrote."""
        now, formed, series, gates, pairs = json.loads(text)
        return cls(
            now,
            formed,
            tuple(Counters.load(s) for s in series),
            tuple(None if g is None else Gate.load(g) for g in gates),
            None if pairs is None else Pairs.load(pairs),
        )


def fresh(spec: Spec, starts: Mapping[str, int]) -> State:
    """Begin: each wire at its first position in `starts`; merged and ordered inputs count from 0."""
    return State(
        now=0,
        formed=None,
        series=tuple(Counters.begin(0 if i.indexed else starts[i.wires[0]]) for i in spec.inputs),
        gates=tuple(new_gate(i) for i in spec.inputs),
        pairs=new_pairs(spec),
    )


def new_gate(i: InputSpec) -> Gate | None:
    """A gate for an ordered input, none for another."""
    return Gate({}, {}) if i.ordered else None


def new_pairs(spec: Spec) -> Pairs | None:
    """The memory of `align`, where that is the policy."""
    return Pairs() if spec.policy == "align" else None
