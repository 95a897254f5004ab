"""A recompute over a registry and a store that others work on, with the programs of a folder.

The circuit is installed there, and whoever works on it goes on; when the lane takes the live tasks' place
they see that it was installed anew. The code here has to be the deployed code, since that is what goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from koalja_fn.engine.attaching import Attached, attach
from koalja_fn.engine.lane.beginning import Options
from koalja_fn.engine.plans import CircuitPlan, asked_wires
from koalja_fn.errors import UsageError
from koalja_fn.local.opening import open_payloads, open_registry, shared
from koalja_fn.local.recomputing import Ears, Hands, driven, ended, part_of
from koalja_fn.local.workplace import findings_error
from koalja_fn.plain import plain_circuit
from koalja_fn.program.calling import Caller
from koalja_fn.program.cancel import Cancel
from koalja_fn.program.folder import open_circuit
from koalja_fn.registry import Registry
from koalja_fn.registry.lanes import Recompute
from koalja_fn.store import Store


@dataclass(frozen=True, slots=True)
class Sharing:
    """What is shared, and the circuit as it is installed there, with the code of a folder."""

    registry: Registry
    store: Store
    attached: Attached

    @property
    def plan(self) -> CircuitPlan:
        """The circuit's plan."""
        return self.attached.plan

    def check(self, part: Iterable[str], *, replayed: bool) -> None:
        """See that the programs that would be run are here.

        Raises:
            UsageError: One is not, or asks a service.
        """
        for name in part:
            one = self.plan.tasks[name]
            if one.task.service:
                continue
            if not self.attached.current(name):
                raise UsageError(
                    f"the code of task {name} is not the deployed one",
                    why=f"here is {one.code.version}, deployed is {self.attached.versions[name]}",
                    cure="koalja-fn deploy it first, or take the folder that was deployed",
                )
            if asked_wires(one) and not replayed:
                raise UsageError(
                    f"task {name} asks services, and those run elsewhere",
                    cure="--replay-lookups answers from the record, or recompute --cluster CIRCUIT",
                )

    def recompute(self, found: Recompute, ears: Ears, stop: Cancel, jobs: int) -> Recompute | None:
        """Bring a recompute to its end; None where stopped before.

        Raises:
            Busy: Another process is at it.
            UsageError: A program is not here.
        """
        self.check(part_of(self.plan, found), replayed=Options.from_json(found.options).replay_lookups)
        with TemporaryDirectory(prefix="koalja-") as scratch:
            caller = Caller(self.store, Path(scratch))
            try:
                hands = Hands(self.registry, self.store, caller, None, None)
                done = driven(hands, self.plan, found, ears, stop, jobs)
            finally:
                caller.close()
        return ended(self.registry, self.plan, found) if done else None


@contextmanager
def open_shared(path: Path) -> Iterator[Sharing]:
    """What the environment names, with the circuit and the code of a folder.

    Raises:
        WiringError: The wiring has errors.
        NotFound: The circuit is not installed there.
        UsageError: It is wired otherwise there.
    """
    opened = open_circuit(path)
    if opened.circuit is None:
        raise findings_error(opened)
    circuit, folder, where = opened.circuit, opened.folder.resolve(), shared()
    assert where is not None
    with closing(open_payloads(where)) as store, closing(open_registry(where)) as registry:
        attached = registry.read(lambda tx: attach(tx, circuit.name, opened.located, folder))
        if plain_circuit(attached.plan.circuit) != plain_circuit(circuit):
            raise UsageError(
                f"circuit {circuit.name} is wired otherwise in the shared registry",
                cure="koalja-fn deploy it first, or take the folder that was deployed",
            )
        yield Sharing(registry, store, attached)
