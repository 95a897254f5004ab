"""Whatever happens to whatever circuit, in whatever order: nothing lost, nothing twice."""

from __future__ import annotations

import os
from typing import Any

from circuit_strategies import circuits, happenings
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from workbench import Workbench, workbench

from koalja_fn.engine import backlog
from koalja_fn.engine.arriving import Offer
from koalja_fn.engine.claiming import Claim, Fenced
from koalja_fn.engine.plans import TaskPlan
from koalja_fn.engine.replaying import current_state
from koalja_fn.errors import Full
from koalja_fn.registry import snapshots, tasks
from koalja_fn.registry.registry import Transaction
from koalja_fn.snapshots import InputSpec, pending
from koalja_fn.wiring import read

EXAMPLES = int(os.environ.get("KOALJA_EXAMPLES", "60"))


class History:
    """What was done to a workbench, and what must be true of it therefore."""

    def __init__(self, bench: Workbench, wirings: list[str]) -> None:
        self.bench = bench
        self.wirings = wirings
        self.claims: list[Claim] = []
        self.accepted: dict[str, list[str]] = {}
        self.committed: dict[str, int] = {}
        self.sequence = 0
        self.rewired = self.drained = False

    def happen(self, what: str, *args: Any) -> None:
        getattr(self, what.replace(" ", "_"))(*args)

    def send(self, wire: str, count: int, salt: int) -> None:
        offers = []
        for n in range(count):
            self.sequence += 1
            # Neighbours change places, numbers are left out, some have none.
            place = self.sequence ^ 1 if salt % 3 else self.sequence + salt
            sequence = "" if salt % 7 == 6 else str(place)
            offers.append(
                Offer(
                    wire,
                    f"{wire}{self.sequence};".encode(),
                    event_source=f"/s{(salt + n) % 2}",
                    event_id=str(self.sequence),
                    sequence=sequence,
                )
            )
        if wire not in self.bench.plan.wires:
            return
        try:
            receipts = self.bench.intake.accept(offers)
        except Full:
            return
        self.accepted.setdefault(wire, []).extend(receipt.id for receipt in receipts)
        again = self.bench.intake.accept(offers) if not self.is_full(wire) else []
        assert all(receipt.duplicate for receipt in again)

    def send_to(self, which: int, count: int, salt: int) -> None:
        wires = sorted(self.bench.plan.wires)
        self.send(wires[which % len(wires)], count, salt)

    def is_full(self, wire: str) -> bool:
        return self.bench.registry.read(
            lambda tx: backlog.full_reader(tx, self.bench.plan, {wire}) is not None
        )

    def form(self, which: int) -> None:
        self.bench.form(self.task(which))

    def form_all(self) -> None:
        self.bench.form()

    def task(self, which: int) -> str:
        names = list(self.bench.plan.tasks)
        return names[which % len(names)]

    def claim(self, which: int, most: int) -> None:
        name = self.task(which)
        self.claims += self.bench.claim(name, f"owner-{which}", most, lease=20.0)
        running = self.bench.states(name).get("running", 0)
        # Whoever had more places before the rewiring keeps them.
        limit = 1 if self.bench.task(name).task.strict else self.bench.task(name).task.concurrency
        assert running <= max(limit, 3)

    def take(self, which: int) -> Claim | None:
        return self.claims.pop(which % len(self.claims)) if self.claims else None

    def complete(self, which: int, count: int) -> None:
        claim = self.take(which)
        if claim is None:
            return
        made = {wire: [f"{claim.id[:6]}.{n};" for n in range(count)] for wire in claim.plan.task.output_wires}
        try:
            self.bench.complete(claim, made)
        except Fenced:
            event("fenced")
            return
        assert claim.id not in self.committed
        self.committed[claim.id] = count

    def fail(self, which: int, permanent: bool) -> None:
        claim = self.take(which)
        if claim is not None:
            try:
                self.bench.fail(claim, permanent=permanent)
            except Fenced:
                event("fenced")

    def release(self, which: int) -> None:
        claim = self.take(which)
        if claim is not None:
            self.bench.release(claim)

    def tick(self, seconds: float) -> None:
        self.bench.tick(seconds)

    def lose(self) -> None:
        self.bench.lose_expired()

    def dead(self) -> list[int]:
        return [
            rid for (rid,) in self.bench.ask("SELECT rid FROM snapshot WHERE state = 'dead' ORDER BY rid")
        ]

    def retry(self, which: int) -> None:
        dead = self.dead()
        if dead:
            self.bench.retry(dead[which % len(dead)])

    def skip(self, which: int) -> None:
        dead = self.dead()
        if dead:
            self.bench.skip(dead[which % len(dead)])

    def reopen(self) -> None:
        self.bench.reopen()

    def rewire(self, which: int, discarding: bool) -> None:
        text = self.wirings[which % len(self.wirings)]
        self.rewired = True
        self.bench.remembered.clear()
        self.bench.wire(text)
        if discarding:
            rows = self.bench.ask("SELECT name FROM task WHERE retired = 1 ORDER BY name")
            if rows:
                event("discarded")
                self.bench.wire(text, [rows[which % len(rows)][0]])

    # What must be true

    def drain(self) -> None:
        """Bring everything to an end: no claim is left, time goes on, and nothing new is made."""
        self.drained = True
        self.bench.tick(100)
        self.bench.lose_expired()
        for _ in range(60):
            self.bench.form()
            for name in self.bench.plan.tasks:
                for claim in self.bench.claim(name):
                    self.bench.complete(claim, {})
                    self.committed[claim.id] = 0
            self.bench.tick(30)

    def check(self) -> None:
        assert self.bench.wrong(payloads=False) == []
        self.check_counts()
        for wire, ids in self.accepted.items():
            # Others may have put values between them, but none is missing, none is twice, none has moved.
            there = [value.id for value in self.bench.on(wire) if not value.snapshot]
            assert there == ids
        made: dict[str, int] = dict.fromkeys(self.committed, 0)
        for (snapshot,) in self.bench.ask("SELECT s.id FROM value v JOIN snapshot s ON s.rid = v.snapshot"):
            made[snapshot] += 1
        assert made == self.committed
        done = {row[0] for row in self.bench.ask("SELECT id FROM snapshot WHERE state = 'done'")}
        assert done == set(self.committed)

    def check_counts(self) -> None:
        """What the backlog counts is what a count of all rows gives."""
        for plan in self.bench.plan.tasks.values():
            counted = self.bench.waiting(plan.name)
            for item in plan.spec.inputs:
                if item.passive:
                    assert item.name not in counted
                    continue
                exact = self.count(plan.id, item.wires)
                # Snapshots from before a rewiring are counted roughly until they are done.
                if not self.rewired:
                    assert counted[item.name] == exact, (plan.name, item)
                elif self.drained:
                    assert counted[item.name] <= exact + self.reused(plan, item), (plan.name, item)

    def count(self, task: int, wires: tuple[str, ...]) -> int:
        """Values of these wires that are in no finished snapshot and were not passed over."""
        rows = self.bench.wires()
        waiting = set()
        for wire in wires:
            ((start, head),) = self.bench.ask(
                "SELECT l.start, w.head FROM link l JOIN wire w ON w.id = l.wire"
                " WHERE l.task = ? AND l.wire = ? AND l.retired = 0",
                task,
                rows[wire],
            )
            waiting |= {(rows[wire], position) for position in range(start, head)}
        finished = self.members(task, "s.state IN ('done', 'dead', 'skipped')")
        unfinished = self.members(task, "s.state IN ('ready', 'running')")
        passed = set()
        for input_, wire, first, last in self.bench.ask(
            "SELECT input, wire, first, last FROM passed WHERE task = ?", task
        ):
            passed |= self.places(task, input_, wire, first, last)
        # A sliding window that was superseded may share values with the one that took its place.
        return len(waiting - finished - (passed - unfinished))

    def members(self, task: int, which: str) -> set[tuple[int, int]]:
        """The values in the task's snapshots of which this is true."""
        found = set()
        for input_, wire, first, last in self.bench.ask(
            "SELECT i.input, i.wire, i.first, i.last"
            f" FROM snapshot_input i JOIN snapshot s ON s.rid = i.snapshot WHERE i.task = ? AND {which}",
            task,
        ):
            found |= self.places(task, input_, wire, first, last)
        return found

    def reused(self, plan: TaskPlan, item: InputSpec) -> int:
        """Values that wait for a window and were in one of the old wiring, too: at most these many."""

        def look(tx: Transaction) -> int:
            (row,) = (row for row in tasks.of_circuit(tx, self.bench.plan.id) if row.id == plan.id)
            state = current_state(tx, plan.spec, row, None)
            first = pending(plan.spec, state)[item.name]
            if item.indexed:
                return snapshots.next_feed_index(tx, plan.id, item.name) - first
            return tasks.head(tx, plan.wires[item.wires[0]]) - first

        return self.bench.registry.read(look)

    def places(self, task: int, name: str, wire: int | None, first: int, last: int) -> set[tuple[int, int]]:
        if wire is not None:
            return {(wire, position) for position in range(first, last + 1)}
        runs = self.bench.registry.read(lambda tx: list(snapshots.feed_runs(tx, task, name, first, last)))
        return {(row, position) for row, begin, end in runs for position in range(begin, end + 1)}


def is_valid(text: str) -> bool:
    return read(text, file="random.koalja").circuit is not None


def whatever_happens(examples: int) -> Any:
    """Wirings that follow one another, and what happens to them."""
    own = settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.filter_too_much,
            HealthCheck.data_too_large,
        ],
    )
    stories = given(
        st.integers(1, 4).flatmap(
            lambda count: st.lists(circuits(count).filter(is_valid), min_size=1, max_size=3)
        ),
        st.lists(happenings, min_size=5, max_size=60),
    )
    return lambda test: own(stories(test))


@whatever_happens(EXAMPLES)
def test_whatever_happens_nothing_is_lost_and_nothing_is_done_twice(
    wirings: list[str], story: list[tuple[Any, ...]]
) -> None:
    keep_the_promises("sqlite", wirings, story)


@whatever_happens(max(1, EXAMPLES // 4))
def test_whatever_happens_in_postgresql_nothing_is_lost_and_nothing_is_done_twice(
    wirings: list[str], story: list[tuple[Any, ...]]
) -> None:
    keep_the_promises("postgres", wirings, story)


def keep_the_promises(kind: str, wirings: list[str], story: list[tuple[Any, ...]]) -> None:
    assume(wirings)
    with workbench(wirings[0], kind) as bench:
        history = History(bench, wirings)
        for what, *args in story:
            history.happen(what, *args)
        history.check()
        history.drain()
        history.check()
        for name in bench.plan.tasks:
            assert not set(bench.states(name)) & {"running"}
        for plan in bench.plan.tasks.values():
            rows = bench.ask(
                "SELECT w.name FROM link l JOIN wire w ON w.id = l.wire"
                " WHERE l.task = ? AND l.retired = 0 AND l.position <> w.head",
                plan.id,
            )
            assert rows == [], f"{plan.name} has not read all of {rows}"
