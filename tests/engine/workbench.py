"""A circuit whose steps a test takes one by one: arrive, form, claim, complete, fail, lose; no processes.

The registry, the store and the engine's steps are the real ones. Time passes only as the test says.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from koalja_fn import ids, sqlite
from koalja_fn.engine import backlog, claiming, forming, letters
from koalja_fn.engine.arriving import Intake, Offer, Receipt
from koalja_fn.engine.auditing import audit
from koalja_fn.engine.claiming import Claim, Ending
from koalja_fn.engine.installing import Change, discard, install
from koalja_fn.engine.lineage import lineage_of
from koalja_fn.engine.plans import CircuitPlan, TaskPlan
from koalja_fn.model import AnnotatedValue
from koalja_fn.program.locating import Located
from koalja_fn.registry import connect, snapshots, tasks, values
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.snapshots import Stored
from koalja_fn.store import FileStore
from koalja_fn.wiring import read, render
from tests.postgres.schemas import empty_registry

SECOND = 1_000_000
BEGIN = 1_782_900_000 * SECOND


class Workbench:
    """A folder with a registry and a store, wired as `wiring` says; `where` is another registry."""

    def __init__(self, folder: Path, wiring: str, where: str = "") -> None:
        self.folder = folder
        self.where = where
        (folder / ".koalja").mkdir(parents=True, exist_ok=True)
        self.now = BEGIN
        self.rung: list[set[str]] = []
        self.remembered: dict[str, Any] = {}
        self._open()
        self.wire(wiring)

    def _open(self) -> None:
        self.registry = connect(self.where or self.folder / ".koalja/registry.db")
        self.registry.clock = self.clock  # type: ignore[method-assign]  # time is the test's
        if isinstance(self.registry._database, sqlite.Database):
            # A power failure would not hurt a test.
            self.registry._database._connection.execute("PRAGMA synchronous = OFF")
        self.store = FileStore(self.folder / ".koalja/objects")
        if self.registry.file is not None:
            self.store.join(self.registry.file)  # as `koalja-fn run` does

    def close(self) -> None:
        self.store.close()
        self.registry.close()

    def reopen(self) -> None:
        """As after a restart: nothing is remembered but what is in the registry."""
        self.close()
        self.remembered.clear()
        self._open()
        self.wire(self.text)

    def clock(self) -> int:
        self.now += 1
        return self.now

    def tick(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)

    def wire(self, text: str, discards: Iterable[str] = ()) -> list[tuple[str, str]]:
        """Wire the circuit up, or rewire it; return what changed as (task, what)."""
        reading = read(text, file="bench.koalja", default_name="bench")
        assert reading.circuit is not None, "\n".join(render(f) for f in reading.findings)
        circuit = reading.circuit
        codes = {
            t.name: Located(t.name, ("cat",), self.folder, None, (), f"sha256:{t.name:0<64}", False)
            for t in circuit.tasks
        }
        done = self.transact(lambda tx: install(tx, self.clock(), circuit, self.folder, codes, text))
        self.text = text
        self.plan: CircuitPlan = done.plan
        self.intake = Intake(self.registry, self.store, self.plan, self.rung.append)
        changes: list[Change] = [*done.changes]
        for name in discards:
            changes.append(
                self.transact(lambda tx, name=name: discard(tx, self.clock(), circuit.name, name))  # type: ignore[misc]
            )
        self.changes = changes
        return [(change.task, change.what) for change in changes]

    # The steps

    def send(self, wire: str, *texts: str, **more: Any) -> list[Receipt]:
        """Values arrive on a wire, all in one batch."""
        return self.intake.accept([Offer(wire, text.encode(), **more) for text in texts])

    def send_many(self, wire: str, count: int) -> list[Receipt]:
        """Values arrive that nobody will read: they share a payload."""
        return self.intake.accept([Offer(wire, b"-") for _ in range(count)])

    def form(self, *names: str) -> int:
        """Form what can be formed now, of these tasks or of all; return how many snapshots."""
        formed = 0
        for name in names or self.plan.tasks:
            more = True
            while more:
                formation = self.form_step(name)
                formed += formation.formed
                more = formation.more
        return formed

    def form_step(self, name: str) -> forming.Formation:
        """One transaction of forming."""
        formation = self.transact(
            lambda tx: forming.form(tx, self.clock, self.task(name), self.remembered.get(name))
        )
        if formation.remembered is not None:
            self.remembered[name] = formation.remembered
        return formation

    def claim(self, name: str, owner: str = "me", most: int = 1000, lease: float = 30.0) -> list[Claim]:
        return self.transact(
            lambda tx: claiming.claim(tx, self.clock(), self.plan, self.task(name), owner, most, lease)
        )

    def complete(self, claim: Claim, outputs: Mapping[str, Sequence[str]] | None = None) -> set[str]:
        """Commit an execution; without `outputs` each output wire gets what `cat` would say."""
        members = self.registry.read(lambda tx: snapshots.members(tx, claim.rid))
        if outputs is None:
            said = "".join(self.store.read(v.digest).decode() for m in members for v in m.values)
            outputs = {wire: [said] for wire in claim.plan.task.output_wires}
        ending = Ending(claim.plan.code.version, values=self._values(claim, members, outputs))
        return self.transact(lambda tx: set(claiming.complete(tx, self.clock, self.plan, claim, ending)))

    def _values(
        self, claim: Claim, members: Sequence[Any], outputs: Mapping[str, Sequence[str]]
    ) -> list[AnnotatedValue]:
        lineage = lineage_of(members)
        found = []
        for wire in sorted(outputs):
            stored = self.store.put_many([text.encode() for text in outputs[wire]])
            for index, payload in enumerate(stored):
                named = ids.output_value(claim.id, wire, index)
                found.append(
                    AnnotatedValue(
                        id=named,
                        circuit=self.plan.circuit.name,
                        wire=wire,
                        position=0,
                        source=f"/circuits/{self.plan.circuit.name}/tasks/{claim.plan.name}",
                        created=self.now,
                        arrived=self.now,
                        digest=payload.digest,
                        size=payload.size,
                        type="text/plain",
                        snapshot=claim.id,
                        version=claim.plan.code.version,
                        key=lineage.key or named,
                        index=index,
                        hops=lineage.hops,
                        attributes=lineage.attributes,
                    )
                )
        return found

    def fail(self, claim: Claim, *, permanent: bool = False) -> int | None:
        """The attempt failed; return when the next one is due."""
        ending = Ending(claim.plan.code.version, reason="exit", status=1, permanent=permanent)
        return self.transact(lambda tx: claiming.fail(tx, self.clock(), claim, ending))

    def release(self, claim: Claim) -> None:
        self.transact(lambda tx: claiming.release(tx, self.clock(), claim))

    def lose_expired(self) -> list[str]:
        """As the sweep does: take up claims whose lease is over; return their snapshots' ids."""

        def sweep(tx: Transaction) -> list[str]:
            found = []
            for plan in self.plan.tasks.values():
                for snapshot in snapshots.expired(tx, plan.id, self.clock()):
                    claiming.lose(tx, self.clock(), plan, snapshot)
                    found.append(snapshot.id)
            return found

        return self.transact(sweep)

    def retry(self, *rids: int) -> list[int]:
        return self.transact(lambda tx: letters.retry(tx, self.clock(), rids))

    def skip(self, *rids: int) -> list[int]:
        return self.transact(lambda tx: letters.skip(tx, self.clock(), rids, "a test"))

    def work_off(self, rounds: int = 1000) -> None:
        """Form, claim and complete until nothing more can happen at this moment."""
        for _ in range(rounds):
            formed = self.form()
            claims = [claim for name in self.plan.tasks for claim in self.claim(name)]
            for claim in claims:
                self.complete(claim)
            if not formed and not claims:
                return
        raise AssertionError("it does not come to an end")

    # Questions

    def task(self, name: str) -> TaskPlan:
        return self.plan.tasks[name]

    def transact(self, step: Any) -> Any:
        return self.registry.transact(step)

    def ask(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        return self.registry.read(lambda tx: tx.all(sql, *params))

    def change(self, sql: str, *params: Any) -> int:
        """Do damage."""
        return int(self.registry.transact(lambda tx: tx.run(sql, *params)))

    def snapshots(self, name: str) -> list[dict[str, list[int]]]:
        """The task's snapshots in order: for each input the positions of its values, counted from 0."""

        def look(tx: Transaction) -> list[dict[str, list[int]]]:
            rows = tx.all(
                "SELECT s.rid FROM snapshot s JOIN task t ON t.id = s.task"
                " WHERE t.name = ? ORDER BY s.number",
                name,
            )
            return [
                {m.input: [v.position for v in m.values] for m in snapshots.members(tx, rid)}
                for (rid,) in rows
            ]

        return self.registry.read(look)

    def texts(self, name: str) -> list[str]:
        """The task's snapshots as the payloads of their values, inputs apart by a bar."""

        def look(tx: Transaction) -> list[list[list[str]]]:
            rows = tx.all(
                "SELECT s.rid FROM snapshot s JOIN task t ON t.id = s.task"
                " WHERE t.name = ? ORDER BY s.number",
                name,
            )
            return [[[v.digest for v in m.values] for m in snapshots.members(tx, rid)] for (rid,) in rows]

        return [
            "|".join("".join(self.store.read(d).decode() for d in some) for some in inputs)
            for inputs in self.registry.read(look)
        ]

    def states(self, name: str) -> dict[str, int]:
        rows = self.ask("SELECT s.state FROM snapshot s JOIN task t ON t.id = s.task WHERE t.name = ?", name)
        return dict(Counter(state for (state,) in rows))

    def snapshot(self, name: str, number: int = 0) -> Stored:
        """The snapshot's row as it is now."""

        def look(tx: Transaction) -> Stored:
            row = tx.one(
                "SELECT s.rid FROM snapshot s JOIN task t ON t.id = s.task WHERE t.name = ? AND s.number = ?",
                name,
                number,
            )
            assert row is not None
            found = snapshots.by_rid(tx, row[0])
            assert found is not None
            return found

        return self.registry.read(look)

    def on(self, wire: str) -> list[AnnotatedValue]:
        """The values of a wire."""
        row = self.wires()[wire]
        return self.registry.read(lambda tx: values.between(tx, row, 0, 1 << 40))

    def said(self, wire: str) -> list[str]:
        """The payloads of a wire."""
        return [self.store.read(value.digest).decode() for value in self.on(wire)]

    def wires(self) -> dict[str, int]:
        return dict(self.ask("SELECT name, id FROM wire"))

    def passed(self, name: str) -> list[tuple[str, int, int, str]]:
        """What was passed over on record: input, first, last, reason."""
        return self.ask(
            "SELECT p.input, p.first, p.last, p.reason FROM passed p JOIN task t ON t.id = p.task"
            " WHERE t.name = ? ORDER BY p.id",
            name,
        )

    def waiting(self, name: str) -> dict[str, int]:
        """How many values of each input wait, as the backlog counts them."""
        return self.registry.read(lambda tx: backlog.waiting(tx, self.task(name)))

    def wrong(self, *, payloads: bool = True) -> list[str]:
        """What auditing finds."""
        verify = self.store.verify if payloads else None
        return self.registry.read(
            lambda tx: list(audit(tx, tasks.circuit_id(tx, self.plan.circuit.name) or 0, verify))
        )


@contextmanager
def workbench(text: str, kind: str = "sqlite") -> Iterator[Workbench]:
    """A workbench on a disk that forgets: fsync costs nothing there. `kind` is the registry's database."""
    memory = Path("/dev/shm")
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None))
        where = stack.enter_context(empty_registry()) if kind == "postgres" else ""
        bench = Workbench(Path(name), text, where)
        stack.callback(bench.close)
        yield bench


def fence(claim: Claim, by: int) -> Claim:
    """The claim as somebody with another fence would hold it."""
    return replace(claim, fence=claim.fence + by)
