"""Beside its other work, a `run` makes old results again: of code that was edited, or as it is told.

A recompute that `koalja-fn recompute` has begun in the registry, or that a process has left, is taken up
here, since here are the programs, and the services that they ask. Where a task says `on-update = recompute`,
one is begun as soon as its code has been other code for a second.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from koalja_fn.engine.executing import Executed
from koalja_fn.engine.lane.beginning import Options, prospect
from koalja_fn.engine.lane.driving import Usurped
from koalja_fn.engine.plans import CircuitPlan
from koalja_fn.engine.running import Engine
from koalja_fn.errors import Busy
from koalja_fn.local.recomputing import Ears, Hands, askers, await_services, begun, driven, unfinished
from koalja_fn.program.cancel import Cancel
from koalja_fn.registry import lanes, services
from koalja_fn.registry.lanes import Recompute
from koalja_fn.registry.registry import Transaction

_LOOK = 1.0
# After trouble, such as a full disk.
_REST = 10.0

_Seen = dict[str, str | int | None]


class Updating:
    """A thread that looks once a second whether there is a recompute to be done, and does it.

    Args:
        hands: What programs are run with.
        engine: Works on the same circuit; it is told when a recompute is in force.
        jobs: How many programs of a recompute may run at once, beside the engine's.
        say: Called with what a person should know.
        trouble: Called with what went wrong; it is tried again.
    """

    def __init__(
        self,
        hands: Hands,
        engine: Engine,
        jobs: int,
        say: Callable[[str], None],
        trouble: Callable[[BaseException], None],
    ) -> None:
        self._hands = hands
        self._engine = engine
        self._jobs = jobs
        self._say = say
        self._trouble = trouble
        self._cancel = Cancel()
        self._bell = threading.Event()
        self._among = [n for n, one in engine.circuit.tasks.items() if one.task.on_update == "recompute"]
        self._handled = self._last = self._seen(engine.circuit)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="updating", daemon=True)
        self._thread.start()

    def ring(self) -> None:
        """There may be one to be done now."""
        self._bell.set()

    def stop(self) -> None:
        """End; a recompute that is under way is gone on with by the next run."""
        self._cancel.set()
        self._bell.set()
        if self._thread is not None:
            self._thread.join()
        self._cancel.close()

    def _run(self) -> None:
        while not self._cancel.is_set:
            rest = _LOOK
            try:
                self._look()
            except (Busy, Usurped):
                pass  # somebody else is at it
            except Exception as error:
                self._trouble(error)
                rest = _REST
            self._bell.wait(rest)
            self._bell.clear()

    def _look(self) -> None:
        plan = self._engine.circuit
        found = unfinished(self._hands.registry, plan) or self._asked_for(plan)
        if found is None:
            return
        self._say(f"recompute {found.epoch} is under way; values are taken meanwhile")
        if self._hands.services is not None and not Options.from_json(found.options).replay_lookups:
            await_services(self._hands.services, askers(plan, found), lambda: self._cancel.is_set)
        ears = Ears(lambda _: None, self._ended, self._say)
        if driven(self._hands, plan, found, ears, self._cancel, self._jobs):
            self._engine.ring_all()
            self._say(f"recompute {found.epoch} is in force")

    def _asked_for(self, plan: CircuitPlan) -> Recompute | None:
        """What `on-update` asks for, once what was seen new has stayed so for a look."""
        if not self._among:
            return None
        seen, before = self._seen(plan), self._last
        self._last = seen
        if seen in (self._handled, None) or seen != before:
            return None
        registry = self._hands.registry
        wanted = registry.read(lambda tx: prospect(tx, plan, among=self._among))
        self._handled = seen
        for one in wanted.tasks:
            self._say(f"recompute: {one.task}: {one.why}")
        return begun(registry, plan, wanted) if wanted.tasks else None

    def _seen(self, plan: CircuitPlan) -> _Seen | None:
        """What decides: versions of code, and the snapshots that services run on; None where that changes."""
        found: _Seen = {}
        for name in self._among:
            one = plan.tasks[name]
            if one.task.service:
                row = one.id
                found[name] = self._hands.registry.read(lambda tx, row=row: _running_on(tx, row))  # type: ignore[misc]
                if found[name] is None:
                    return None
                continue
            freshness = self._hands.freshness
            if freshness is not None and not freshness.is_fresh(one.code):
                self._engine.ring_tasks([name])  # it looks at the code, and knows it from then on
                return None
            found[name] = one.code.version
        return found

    def _ended(self, executed: Executed) -> None:
        if executed.outcome in ("failed", "dead") and not self._cancel.is_set:
            why = executed.ending.message or executed.ending.reason
            self._say(f"recompute: {executed.claim.plan.name}: {why}")


def _running_on(tx: Transaction, service: int) -> int | None:
    """Row of a service's newest snapshot where its process is up."""
    newest = lanes.newest_of_service(tx, service)
    done = services.newest(tx, service, "done")
    return newest if done is not None and done.rid == newest else None
