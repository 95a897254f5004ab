"""A session: one run of a circuit on this machine, from the first value to the summary."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from koalja_fn.engine import backlog
from koalja_fn.engine.arriving import Intake
from koalja_fn.engine.executing import Executed, Executor
from koalja_fn.engine.plans import CircuitPlan
from koalja_fn.engine.running import Engine
from koalja_fn.engine.serving import services_of
from koalja_fn.engine.sinking import Sinks
from koalja_fn.engine.tidying import Tidying
from koalja_fn.errors import KoaljaError
from koalja_fn.local.display import Display
from koalja_fn.local.ghosting import ghosts_of, store_of
from koalja_fn.local.recomputing import Hands
from koalja_fn.local.updating import Updating
from koalja_fn.local.workplace import Workplace
from koalja_fn.lookups import Proxy
from koalja_fn.model import AnnotatedValue
from koalja_fn.program.calling import Caller
from koalja_fn.registry import records, snapshots, tasks, values
from koalja_fn.registry.registry import Transaction

RUN_FILE = "run.json"
# What goes on being wrong, such as a full disk, is met each second, but told less often.
_TROUBLE_AGAIN = 60.0


@dataclass(frozen=True, slots=True)
class Talk:
    """Whom a session tells: of each attempt that ended, and of trouble in the engine itself."""

    ended: Callable[[Executed], None]
    trouble: Callable[[BaseException], None]
    say: Callable[[str], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Counts:
    """A task's snapshots by state, and values that wait for it."""

    task: str
    waiting: int
    ready: int
    running: int
    done: int
    dead: int


class Session:
    """The engine of a workplace with its sinks and its way in."""

    def __init__(self, workplace: Workplace, talk: Talk, *, jobs: int) -> None:
        self.workplace = workplace
        registry, store, plan = workplace.registry, workplace.store, workplace.plan
        self._talk = talk
        self._caller = Caller(store, workplace.state / "scratch")
        self.services = services_of(registry, lambda: Proxy(store, registry.clock), self._caller, plan)
        executor = Executor(registry, store, self._caller, plan, self.services)
        self.engine = Engine(
            registry,
            executor,
            plan,
            jobs=jobs,
            ended=self._ended,
            trouble=talk.trouble,
            services=self.services,
            say=talk.say,
            freshness=workplace.freshness,
            moved=self._moved,
        )
        hands = Hands(registry, store, self._caller, self.services, workplace.freshness)
        self.updating = Updating(hands, self.engine, jobs, talk.say, talk.trouble)
        self.sinks = Sinks(
            registry,
            store,
            plan,
            talk.trouble,
            endpoint=workplace.endpoint,
            bring=lambda value: executor.rebirth.bring([value]),
        )
        self.tidying = Tidying(registry, store, plan, talk.trouble)
        self.intake: Intake = workplace.intake(self.ring)
        self.ghosts = ghosts_of(registry, plan, store_of(workplace.folder, workplace.state))
        self.executed = 0
        self.unserved: Mapping[str, str] = {}
        self._before = registry.read(self._heads)

    def start(self) -> None:
        """Begin."""
        self.engine.start()
        self.sinks.start()
        self.tidying.start()

    def serve(self) -> None:
        """Go on until stopped: what was asked for meanwhile, such as a recompute, is done, too."""
        self.updating.start()

    def ring_all(self) -> None:
        """There may be something new anywhere."""
        self.engine.ring_all()
        self.updating.ring()

    def ring(self, wires: set[str]) -> None:
        """There is something new on these wires."""
        self.engine.ring(wires)
        self.sinks.ring(wires)

    def stop(self) -> None:
        """End cleanly: programs ended and given back, sinks written, scratch cleared.

        Which services had no process then, and why, is in `unserved`.
        """
        if self.services is not None:
            self.unserved = self.services.waiting()
        self.tidying.stop()
        self.updating.stop()
        self.engine.stop()
        self.sinks.stop()
        self._caller.close()

    def announce(self, url: str) -> None:
        """Leave word where this session listens, for `send` and others."""
        note = {"url": url, "pid": os.getpid(), "circuit": self.workplace.plan.circuit.name}
        path = self.workplace.state / RUN_FILE
        temporary = path.with_suffix(".part")
        temporary.write_text(json.dumps(note))
        temporary.replace(path)

    def retract(self) -> None:
        """Take that word back."""
        (self.workplace.state / RUN_FILE).unlink(missing_ok=True)

    def counts(self) -> list[Counts]:
        """The tasks and what they have before them, in the order of the file."""
        from koalja_fn.registry import overview

        plan = self.workplace.plan

        def look(tx: Transaction) -> list[Counts]:
            rows = {row.name: row for row in overview.tasks(tx, plan.id)}
            return [
                Counts(
                    name,
                    sum(backlog.waiting(tx, task).values()),
                    rows[name].ready,
                    rows[name].running,
                    rows[name].done,
                    rows[name].dead,
                )
                for name, task in plan.tasks.items()
            ]

        return self.workplace.registry.read(look)

    def new_values(self) -> dict[str, list[AnnotatedValue]]:
        """For each wire, the values that came since the session began."""
        wires = self.workplace.plan.wires

        def look(tx: Transaction) -> dict[str, list[AnnotatedValue]]:
            now = self._heads(tx)
            return {
                name: values.between(tx, row, self._before[name], now[name] - 1)
                for name, row in sorted(wires.items())
            }

        return self.workplace.registry.read(look)

    def latest(self, most: int) -> dict[str, tuple[int, list[AnnotatedValue]]]:
        """For each wire, how many values came since the session began, and the last of these."""
        wires = self.workplace.plan.wires

        def look(tx: Transaction) -> dict[str, tuple[int, list[AnnotatedValue]]]:
            found = {}
            for name, head in self._heads(tx).items():
                first = max(self._before[name], head - most)
                found[name] = (head - self._before[name], values.between(tx, wires[name], first, head - 1))
            return found

        return self.workplace.registry.read(look)

    def totals(self) -> dict[str, int]:
        """How many values each wire has."""
        return self.workplace.registry.read(self._heads)

    def failures(self) -> list[dict[str, Any]]:
        """Dead letters of the circuit's tasks."""
        plans = self.workplace.plan.tasks.values()
        return self.workplace.registry.read(
            lambda tx: [letter for plan in plans for letter in _dead_letters(tx, plan.id, plan.name)]
        )

    def _moved(self, plan: CircuitPlan) -> None:
        """A recompute has put other rows in the places of tasks and wires."""
        self.workplace = replace(self.workplace, plan=plan)
        self.sinks.move(plan)
        if self.services is not None:
            self.services.renew(plan, self.services.elsewhere)
        heads = self.workplace.registry.read(self._heads)
        self._before = {name: min(head, heads[name]) for name, head in self._before.items()}

    def _heads(self, tx: Transaction) -> dict[str, int]:
        return {name: tasks.head(tx, row) for name, row in sorted(self.workplace.plan.wires.items())}

    def _ended(self, executed: Executed) -> None:
        self.executed += 1
        if executed.wires:
            self.sinks.ring(executed.wires)
        self._talk.ended(executed)


def session_of(workplace: Workplace, display: Display, *, jobs: int | None = None) -> Session:
    """A session that tells a display; `jobs` programs at once, else four for each core."""

    told: dict[str, float] = {}

    def trouble(error: BaseException) -> None:
        text = str(error) if isinstance(error, KoaljaError) else f"unexpected: {error!r}"
        now = time.monotonic()
        if now - told.get(text, -math.inf) >= _TROUBLE_AGAIN:
            told[text] = now
            display.say(text)

    return Session(workplace, Talk(display.ended, trouble, display.say), jobs=places(jobs))


def places(jobs: int | None) -> int:
    """How many programs may run at once: as many as were asked for, else four for each core."""
    return jobs or 4 * len(os.sched_getaffinity(0))


def _dead_letters(tx: Transaction, task: int, name: str) -> list[dict[str, Any]]:
    found = []
    for snapshot in snapshots.dead(tx, task):
        last = records.last_attempt(tx, snapshot.rid)
        found.append(
            {
                "task": name,
                "snapshot": snapshot.id,
                "attempts": snapshot.attempts,
                "reason": last.reason if last else "",
                "status": last.status if last else None,
                "message": last.message if last else "",
                "stderr": last.stderr if last else "",
            }
        )
    return found


def summary(session: Session, path_of: Callable[[str], str]) -> Mapping[str, Any]:
    """What a session did, for programs: for each wire its new values with id, path and digest."""
    found = session.new_values()
    return {
        "circuit": session.workplace.plan.circuit.name,
        "executions": session.executed,
        "wires": {
            wire: [
                {
                    "id": value.id,
                    "path": path_of(value.digest),
                    "digest": value.digest,
                    "size": value.size,
                    "type": value.type,
                    "name": value.name,
                    "position": value.position + 1,
                }
                for value in some
            ]
            for wire, some in found.items()
        },
        "totals": session.totals(),
        "failures": session.failures(),
    }
