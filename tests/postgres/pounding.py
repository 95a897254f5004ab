"""A process that does to one circuit, together with others, whatever a runtime may do, at random."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable
from pathlib import Path

from koalja_fn import ids
from koalja_fn.engine import claiming, forming, installing
from koalja_fn.engine.arriving import Intake, Offer
from koalja_fn.engine.claiming import Claim, Ending, Fenced
from koalja_fn.engine.lineage import lineage_of
from koalja_fn.engine.plans import CircuitPlan, TaskPlan
from koalja_fn.model import AnnotatedValue
from koalja_fn.program.locating import Located
from koalja_fn.registry import Registry, connect, snapshots
from koalja_fn.registry.registry import Transaction
from koalja_fn.store import FileStore
from koalja_fn.wiring import read

LEASE = 0.4
HOUR = 3_600_000_000

WIRING = """
[many]
    backoff = 1ms
    retries = 1000

(in) fan (left, right)
    concurrency = 2

(left) each (same)
    order = strict

(left[3]) triple (threes)

(right[5/2]) slide (fives)
    concurrency = 3

(left, right) join (pairs)
    concurrency = 4

(threes + fives) both (all)

(pairs[2-4]) some (packs)
"""
CIRCUIT = read(WIRING, file="many.koalja").circuit


class Worker:
    """One process's view of the circuit; it sends `most` values. `skew`: how far its clock is off, µs."""

    def __init__(self, where: str, folder: Path, seed: int, most: int = 0, skew: int = 0) -> None:
        self.registry: Registry = connect(where)
        database = self.registry._database
        now: Callable[[], int] = database.now
        database.now = lambda: now() + skew  # type: ignore[method-assign]
        self.store = FileStore(folder / "objects")
        self.chance = random.Random(seed)
        self.name = f"w{seed}"
        self.sent = 0
        self.most = most
        self.acknowledged = folder / f"{self.name}.acknowledged"
        self.claims: list[Claim] = []
        self.plan: CircuitPlan = self.registry.transact(lambda tx: self._install(tx, folder)).plan
        self.intake = Intake(self.registry, self.store, self.plan, lambda _: None)

    def _install(self, tx: Transaction, folder: Path) -> installing.Installed:
        assert CIRCUIT is not None
        codes = {
            t.name: Located(t.name, ("cat",), folder, None, (), f"sha256:{t.name:0<64}", False)
            for t in CIRCUIT.tasks
        }
        return installing.install(tx, self.registry.clock(), CIRCUIT, folder, codes, WIRING)

    def act(self) -> None:
        """Do something."""
        deed = self.chance.choices(
            [self.send, self.form, self.claim, self.end, self.sweep, self.renew], [3, 6, 6, 8, 1, 1]
        )[0]
        deed()

    def send(self) -> None:
        """Values arrive; what was acknowledged is written down."""
        if self.sent >= self.most:
            return
        names = [f"{self.name}-{self.sent + n}" for n in range(self.chance.randint(1, 5))]
        self.sent += len(names)
        offers = [Offer("in", f"{n};".encode(), event_source="/pound", event_id=n) for n in names]
        self.intake.accept(offers)
        with open(self.acknowledged, "a") as file:
            file.write("".join(f"{n};\n" for n in names))
        if self.chance.random() < 0.1:
            assert all(receipt.duplicate for receipt in self.intake.accept(offers))

    def form(self) -> None:
        """Form what can be formed of a task."""
        plan = self.any_task()
        self.registry.transact(lambda tx: forming.form(tx, self.registry.clock, plan))

    def claim(self) -> None:
        """Claim, for a task or all that it may run."""
        plan = self.any_task()
        most = self.chance.choice([1, 1, 10])

        def step(tx: Transaction) -> list[Claim]:
            found = claiming.claim(tx, self.registry.clock(), self.plan, plan, self.name, most, LEASE)
            assert snapshots.running(tx, plan.id) <= plan.task.concurrency
            return found

        self.claims += self.registry.transact(step)

    def end(self) -> None:
        """End a claim: mostly well."""
        if not self.claims:
            return
        claim = self.claims.pop(self.chance.randrange(len(self.claims)))
        luck = self.chance.random()
        try:
            if luck < 0.8:
                self.complete(claim, follow=self.chance.random() < 0.5)
            elif luck < 0.9:
                ending = Ending(claim.plan.code.version, reason="exit", status=1)
                self.registry.transact(lambda tx: claiming.fail(tx, self.registry.clock(), claim, ending))
            elif luck < 0.95:
                self.registry.transact(lambda tx: claiming.release(tx, self.registry.clock(), claim))
        except Fenced:
            pass

    def complete(self, claim: Claim, *, follow: bool) -> None:
        """Commit what `cat` would say, to each output."""
        members = self.registry.peek(lambda tx: snapshots.members(tx, claim.rid))
        said = "".join(self.store.read(v.digest).decode() for m in members for v in m.values)
        (stored,) = self.store.put_many([said.encode()])
        lineage, now = lineage_of(members), self.registry.clock()
        made = [
            AnnotatedValue(
                id=ids.output_value(claim.id, wire, 0),
                circuit=self.plan.circuit.name,
                wire=wire,
                position=0,
                source=f"/circuits/many/tasks/{claim.plan.name}",
                created=now,
                arrived=now,
                digest=stored.digest,
                size=stored.size,
                type="text/plain",
                snapshot=claim.id,
                version=claim.plan.code.version,
                key=lineage.key or ids.output_value(claim.id, wire, 0),
                hops=lineage.hops,
            )
            for wire in claim.plan.task.output_wires
        ]
        ending = Ending(claim.plan.code.version, values=made)

        def step(tx: Transaction) -> list[Claim]:
            claiming.complete(tx, self.registry.clock, self.plan, claim, ending)
            now = self.registry.clock()
            return claiming.claim(tx, now, self.plan, claim.plan, self.name, 1, LEASE) if follow else []

        self.claims += self.registry.transact(step)

    def sweep(self, ahead: int = 0) -> None:
        """Take up claims whose lease is over, of all tasks in one step."""

        def step(tx: Transaction) -> None:
            for plan in self.plan.tasks.values():
                now = self.registry.clock() + ahead
                for snapshot in snapshots.expired(tx, plan.id, now):
                    claiming.lose(tx, now, plan, snapshot)

        self.registry.transact(step)

    def renew(self) -> None:
        """Extend the leases of what runs here."""

        def step(tx: Transaction) -> None:
            for claim in self.claims:
                snapshots.renew(tx, claim.rid, claim.fence, self.registry.clock() + round(LEASE * 1e6))

        self.registry.transact(step)

    def any_task(self) -> TaskPlan:
        return self.chance.choice(list(self.plan.tasks.values()))

    def work_off(self) -> None:
        """Bring all to an end, alone, as if an hour had passed."""
        self.sweep(HOUR)
        busy = True
        while busy:
            busy = False
            for plan in self.plan.tasks.values():
                claims, formed = self.registry.transact(lambda tx, p=plan: self._form_and_claim(tx, p))  # type: ignore[misc]
                busy = busy or bool(claims or formed)
                for claim in claims:
                    self.complete(claim, follow=False)

    def _form_and_claim(self, tx: Transaction, plan: TaskPlan) -> tuple[list[Claim], int]:
        formed = forming.form(tx, self.registry.clock, plan).formed
        now = self.registry.clock() + HOUR
        return claiming.claim(tx, now, self.plan, plan, self.name, 1000, 60.0), formed


def pound(where: str, folder: str, seed: int, most: int) -> None:
    """Work until killed; what goes wrong is written down."""
    try:
        skew = random.Random(seed).randint(-50_000, 50_000)
        worker = Worker(where, Path(folder), seed, most, skew)
        while True:
            worker.act()
    except BaseException:
        (Path(folder) / f"w{seed}.trouble").write_text(traceback.format_exc())
        raise
