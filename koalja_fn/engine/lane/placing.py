"""Where the values of a lane stand: each output takes the place of the output of the same snapshot.

Values that come to a lane's wire carry the time of the place that they take as the time of their arrival, so
that whoever merges wires by time sees them where the old ones were. `created` says when they were made.
Likewise a snapshot of a lane counts as finished at the time of its place, by which the next recompute goes;
its attempts say when it was run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from koalja_fn import ids
from koalja_fn.engine import claiming
from koalja_fn.engine.claiming import Claim, Ending, Fenced
from koalja_fn.engine.plans import TaskPlan
from koalja_fn.model import AnnotatedValue
from koalja_fn.registry import caching, lanes, purging, snapshots, tasks, values
from koalja_fn.registry.lanes import LaneRun, LaneWire, Pair, Recompute
from koalja_fn.registry.registry import Transaction


class Placing:
    """The outputs of one task of a lane; `task` is the row of the live one."""

    def __init__(
        self, recompute: Recompute, plan: TaskPlan, task: int, wires: Mapping[str, LaneWire]
    ) -> None:
        self._recompute = recompute
        self._plan = plan
        self._task = task
        self._wires = [wires[name] for name in plan.task.output_wires if name in wires]

    def complete(self, tx: Transaction, now: int, claim: Claim, ending: Ending, pair: Pair, at: int) -> None:
        """Commit an execution; outputs on wires that are in no lane are dropped: their old values stand.

        Raises:
            Fenced: The claim was lost; nothing is written.
            Purged: Some of its payloads are purged, or were; nothing is written.
        """
        tasks.hold(tx, claim.plan.id)
        if not snapshots.finish(tx, claim.rid, claim.fence, "done", at):
            raise Fenced
        purging.spare(tx, claiming.named(ending))
        claiming.settle(tx, claim.plan, claim.rid, 1)
        self._place_all(tx, ending.values, pair, at, "again")
        claiming.record(tx, now, claim, ending, "done")
        if ending.key:
            caching.keep(tx, ending.key, claim.rid)

    def keep(self, tx: Transaction, pair: Pair) -> None:
        """What the old snapshot came to is what this one comes to: nothing that goes into it differs."""
        assert pair.old is not None
        tasks.hold(tx, self._plan.id)
        lanes.settle_as(tx, pair.rid, pair.old_state, pair.old_finished, 1)
        claiming.settle(tx, self._plan, pair.rid, 1)
        lanes.copy_attempts(tx, pair.old, pair.rid, self._plan.id)
        rows = {wire.name: wire.old for wire in self._wires}
        made = [v for v in values.made_by(tx, pair.old) if v.wire in rows]
        copies = [self._copy(value) for value in made]
        self._place_all(tx, copies, pair, pair.old_finished, "kept")
        lanes.resolve(tx, self._recompute.id, pair.id, "kept")

    def leave(self, tx: Transaction, pair: Pair, state: str, now: int) -> None:
        """End a snapshot without an execution and without outputs: given up, or a service's."""
        tasks.hold(tx, self._plan.id)
        lanes.settle_as(tx, pair.rid, state, pair.old_finished or now, 0)
        claiming.settle(tx, self._plan, pair.rid, 1)

    def look(self, tx: Transaction, wire: LaneWire, until: int) -> None:
        """Bring what others have put on the old wire below position `until` to the new one."""
        row = tx.one(
            "SELECT looked FROM lane_wire WHERE recompute = ? AND old = ?", self._recompute.id, wire.old
        )
        looked = int(row[0]) if row else 0
        if until <= looked:
            return
        for position in lanes.outsiders(tx, wire.old, self._task, looked, until):
            (value,) = values.between(tx, wire.old, position, position)
            copy = self._copy(value)
            self._put(tx, wire, [copy], None, value.arrived, LaneRun(0, 1, position, False, value.arrived))
            lanes.supersede(tx, self._recompute.id, "value", [("kept", value.id, copy.id)])
        lanes.looked(tx, self._recompute.id, wire.new, until)

    def look_on(self, tx: Transaction) -> None:
        """At the cut: bring what others have put behind the last output."""
        for wire in self._wires:
            self.look(tx, wire, wire.until)

    def _place_all(
        self, tx: Transaction, made: Sequence[AnnotatedValue], pair: Pair, at: int, how: str
    ) -> None:
        for wire in self._wires:  # in the order of their names: that is how wires are locked
            old = lanes.first_output(tx, wire.old, pair.old) if pair.old is not None else None
            outputs = [value for value in made if value.wire == wire.name]
            self._pair(tx, wire, outputs, pair, how)
            if not outputs:
                continue
            slot, time = old or (lanes.position_at(tx, wire.old, at), at)
            last = lanes.last_run(tx, wire.new)
            slot = max(slot, last.slot if last else 0)
            self.look(tx, wire, slot)
            run = LaneRun(0, len(outputs), slot, old is None, time)
            self._put(tx, wire, outputs, pair.rid, time, run)

    def _put(
        self,
        tx: Transaction,
        wire: LaneWire,
        outputs: Sequence[AnnotatedValue],
        snapshot: int | None,
        at: int,
        run: LaneRun,
    ) -> None:
        end = values.hold(tx, [wire.new])[wire.new]
        claiming.place(tx, lambda: at, wire.new, end, list(outputs), snapshot)
        lanes.add_run(tx, wire.new, replace(run, first=end.head))

    def _pair(
        self, tx: Transaction, wire: LaneWire, made: Sequence[AnnotatedValue], pair: Pair, how: str
    ) -> None:
        """What stood at the same index of the same snapshot's outputs."""
        old = {}
        if pair.old is not None:
            old = {v.index: v.id for v in values.made_by(tx, pair.old) if v.wire == wire.name}
        new = {v.index: v.id for v in made}
        rows = []
        for index in sorted(old.keys() | new.keys()):
            was, now = old.get(index, ""), new.get(index, "")
            rows.append((how if was and now else "gone" if was else "extra", was, now))
        lanes.supersede(tx, self._recompute.id, "value", rows)

    def _copy(self, value: AnnotatedValue) -> AnnotatedValue:
        """The same value for the lane's wire: one value has one place, so the copy has an id of its own."""
        return replace(value, id=ids.derive("kept", self._recompute.epoch, value.id))


def times(found: Sequence[Pair]) -> list[tuple[int, Pair]]:
    """Snapshots in the order in which their outputs are placed, each with its time.

    That is the order in which the old ones were finished; one without counterpart is placed behind the one
    that formed before it.
    """
    last = 0
    keyed = []
    for pair in found:
        if pair.old is not None:
            last = pair.old_finished
            keyed.append((last, pair))
        else:
            last = max(last, pair.formed)
            keyed.append((last, pair))
    return sorted(keyed, key=lambda one: (one[0], one[1].number))
