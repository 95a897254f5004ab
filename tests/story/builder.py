"""A registry filled by hand: what the engine would have written, without running anything."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from koalja_fn import ids, sqlite
from koalja_fn.engine.usual import Usual
from koalja_fn.model import AnnotatedValue
from koalja_fn.registry import connect, records, snapshots, tasks, values
from koalja_fn.registry.records import Attempt
from koalja_fn.registry.tasks import LogRecord
from koalja_fn.snapshots import Spec, fresh, spec_of
from koalja_fn.wiring import read

SECOND = 1_000_000
BEGIN = 1_782_900_000 * SECOND


class World:
    """A circuit's folder with a registry; time passes a second with each thing that happens."""

    def __init__(self, folder: Path, wiring: str, where: str = "") -> None:
        (folder / ".koalja").mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.registry = connect(where or folder / ".koalja" / "registry.db")
        if isinstance(self.registry._database, sqlite.Database):
            # A power failure would not hurt a test.
            self.registry._database._connection.execute("PRAGMA synchronous = OFF")
        circuit = read(wiring).draft
        self.circuit = circuit.name
        self.now = BEGIN
        self.specs: dict[str, Spec] = {}
        self.tasks: dict[str, int] = {}
        self.wires: dict[str, int] = {}
        self.numbers: dict[str, int] = {}
        self.registry.transact(lambda tx: self._install(tx, circuit, wiring))

    def _install(self, tx, circuit, wiring):
        self.row = tasks.keep_circuit(tx, circuit.name, wiring, self.now)
        for name in sorted(circuit.wires):
            self.wires[name] = tasks.keep_wire(tx, self.row, name)
        for task in circuit.tasks:
            spec = spec_of(task)
            state = fresh(spec, dict.fromkeys(spec.wires, 0))
            row = tasks.insert(tx, self.row, task.name, spec.to_json(), state.to_json(), None)
            body = json.dumps({"spec": spec.to_json(), "starts": {}, "bases": {}, "generation": 1})
            tasks.append(tx, row, [LogRecord(1, "wired", self.now, body=body)], {})
            records.keep_version(tx, row, f"sha256:{task.name:0<64}", task.run or "", self.now)
            for item in spec.inputs:
                for wire in item.wires:
                    tasks.keep_link(tx, row, self.wires[wire], item.name, 0, 0)
            self.tasks[task.name], self.specs[task.name], self.numbers[task.name] = row, spec, 0

    def tick(self, seconds: float = 1.0) -> int:
        """A moment later."""
        self.now += round(seconds * SECOND)
        return self.now

    def send(self, wire: str, text: str = "", *, name: str = "") -> AnnotatedValue:
        """A value arrives from outside."""
        return self.registry.transact(lambda tx: self._arrive(tx, wire, text, name))

    def _arrive(self, tx, wire, text, name):
        now = self.tick()
        head = tasks.head(tx, self.wires[wire])
        event = f"{wire}-{head}"
        value = AnnotatedValue(
            id=ids.ingested_value(self.circuit, wire, "urn:sensor", event),
            circuit=self.circuit,
            wire=wire,
            position=head,
            source="urn:sensor",
            created=now,
            arrived=now,
            digest=digest_of(text or event),
            size=len(text or event),
            type="text/plain",
            name=name,
            event_source="urn:sensor",
            event_id=event,
        )
        values.place(tx, self.wires[wire], [value])
        values.move_head(tx, self.wires[wire], head + 1, self.now)
        return value

    def form(self, task: str, **windows: tuple[int, int] | tuple[int, int, int]) -> str:
        """A snapshot forms: for each input first and last position, and how many are new (default all)."""
        return self.registry.transact(lambda tx: self._form(tx, task, windows))

    def _form(self, tx, task, windows):
        row, spec = self.tasks[task], self.specs[task]
        number = self.numbers[task]
        self.numbers[task] += 1
        named = ids.derive("snapshot", self.circuit, task, number)
        inputs = []
        for item in spec.inputs:
            if item.name not in windows:
                continue
            first, last, *new = windows[item.name]
            wire = None if item.indexed else self.wires[item.wires[0]]
            inputs.append(snapshots.InputRow(item.name, wire, first, last, (new or [last - first + 1])[0]))
            link = self.wires[item.wires[0]]
            tx.run(
                "UPDATE link SET used = ?, position = ? WHERE task = ? AND wire = ? AND used < ?",
                last + 1,
                last + 1,
                row,
                link,
                last + 1,
            )
        cause = {"wire": spec.wires[0], "position": inputs[0].last} if inputs else {}
        new = snapshots.New(named, number, cause, inputs)
        snapshots.insert(tx, tasks.lock(tx, row), self.tick(), [new])
        tx.run("UPDATE task SET formed = ? WHERE id = ?", number + 1, row)
        return named

    def feed(self, task: str, input: str, first: int, count: int, wire: str, position: int) -> None:
        """A merged input counts values of a wire."""
        run = snapshots.Run(first, count, self.wires[wire], position)
        self.registry.transact(lambda tx: snapshots.feed(tx, self.tasks[task], input, [run]))

    def fail(self, task: str, snapshot: str, *, dead: bool = False) -> None:
        """An attempt fails; for good, with `dead`."""
        self.registry.transact(lambda tx: self._attempt(tx, task, snapshot, "failed", 0.5))
        if dead:
            self._set(snapshot, "dead")

    def done(self, task: str, snapshot: str, *wires: str, seconds: float = 0.25) -> list[AnnotatedValue]:
        """The snapshot was executed and put a value on each of the wires."""
        return self.registry.transact(lambda tx: self._done(tx, task, snapshot, wires, seconds))

    def remark(self, task: str, snapshot: str, kind: str, text: str) -> None:
        """Something was remarked."""
        self.registry.transact(lambda tx: self._remark(tx, task, snapshot, kind, text))

    def _remark(self, tx, task, snapshot, kind, text):
        records.remark(tx, self.tasks[task], snapshots.by_id(tx, snapshot).rid, self.tick(), kind, text)

    def _set(self, snapshot, state):
        self.registry.transact(
            lambda tx: tx.run(
                "UPDATE snapshot SET state = ?, finished = ? WHERE id = ?", state, self.now, snapshot
            )
        )

    def _attempt(self, tx, task, snapshot, outcome, seconds):
        stored = snapshots.by_id(tx, snapshot)
        tx.run("UPDATE snapshot SET attempts = attempts + 1 WHERE rid = ?", stored.rid)
        started = self.tick()
        failed = outcome == "failed"
        records.attempted(
            tx,
            Attempt(
                task=self.tasks[task],
                snapshot=stored.rid,
                attempt=stored.attempts + 1,
                version=f"sha256:{task:0<64}",
                started=started,
                ended=self.tick(seconds),
                outcome=outcome,
                reason="exit" if failed else "",
                status=3 if failed else 0,
                stderr="Traceback\nKeyError: 'wind'\n" if failed else "",
                size_in=100,
                size_out=10,
            ),
        )
        return stored.rid

    def _done(self, tx, task, snapshot, wires, seconds):
        rid = self._attempt(tx, task, snapshot, "done", seconds)
        tx.run("UPDATE snapshot SET state = 'done', finished = ? WHERE rid = ?", self.now, rid)
        usual, _ = Usual.from_json(records.usual(tx, self.tasks[task])).with_execution(
            seconds, 100, 10, self.now
        )
        records.keep_usual(tx, self.tasks[task], usual.to_json())
        made = []
        for wire in wires:
            head = tasks.head(tx, self.wires[wire])
            value = AnnotatedValue(
                id=ids.output_value(snapshot, wire, 0),
                circuit=self.circuit,
                wire=wire,
                position=head,
                source=f"/circuits/{self.circuit}/tasks/{task}",
                created=self.now,
                arrived=self.now,
                digest=digest_of(f"{snapshot}{wire}"),
                size=10,
                type="application/json",
                snapshot=snapshot,
                version=f"sha256:{task:0<64}",
                hops=1,
            )
            values.place(tx, self.wires[wire], [replace(value, arrived=self.tick(0))], rid)
            values.move_head(tx, self.wires[wire], head + 1, self.now)
            made.append(value)
        return made

    def pass_over(self, task: str, input: str, first: int, last: int, reason: str = "superseded") -> None:
        """Values of an input are in no snapshot."""
        wire = self.wires.get(input)
        self.registry.transact(
            lambda tx: tasks.pass_over(tx, self.tasks[task], self.tick(), input, wire, first, last, reason)
        )

    def read(self, step, *args):
        """Ask a story."""
        return self.registry.read(lambda tx: step(tx, *args))


def digest_of(text: str) -> str:
    """The digest of a payload."""
    import hashlib

    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


WEATHER = """\
[weather]
(wind[10/2], temp passive) average (mean)
    policy = swap
    run    = ./average.py {wind} {temp}
    rate   = 5/s
(mean) report (page)
"""


def weather(folder: Path, where: str = "") -> World:
    """Twelve readings, one of the temperature, two means, of which the first took two attempts; a page."""
    world = World(folder, WEATHER, where)
    world.send("temp", name="temp-1.txt")
    for _ in range(12):
        world.send("wind")
    first = world.form("average", wind=(0, 9), temp=(0, 0, 0))
    second = world.form("average", wind=(2, 11, 2), temp=(0, 0, 0))
    world.fail("average", first)
    world.done("average", first, "mean")
    world.remark("average", first, "remark", "look up a name")
    world.done("average", second, "mean")
    page = world.form("report", mean=(0, 0))
    world.done("report", page, "page")
    dead = world.form("report", mean=(1, 1))
    world.fail("report", dead, dead=True)
    return world
