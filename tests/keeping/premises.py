"""A circuit's folder in which tests run, make and purge; its programs note each time they run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from koalja_fn.engine.arriving import Offer
from koalja_fn.engine.auditing import audit
from koalja_fn.engine.executing import Executed
from koalja_fn.local.opening import open_payloads, open_registry
from koalja_fn.local.session import Session, Talk
from koalja_fn.local.workplace import open_workplace
from koalja_fn.model import AnnotatedValue
from koalja_fn.program.cancel import Cancel
from koalja_fn.pull.asking import Answer, Options, ask
from koalja_fn.registry import tasks, values


class Premises:
    """The folder, what ran in it (`ran`), and what a run told (`ended`, `troubles`)."""

    def __init__(self, folder: Path, wiring: str, **programs: str) -> None:
        self.folder = folder
        self.ended: list[Executed] = []
        self.troubles: list[BaseException] = []
        self.log = folder.parent / f"{folder.name}.log"
        folder.mkdir(parents=True)
        self.log.write_text("")
        self.wire(wiring)
        for name, body in programs.items():
            self.program(name, body)

    def wire(self, text: str) -> None:
        (self.folder / "c.koalja").write_text("[c]\n" + text)

    def program(self, name: str, body: str) -> None:
        path = self.folder / name
        path.write_text(f'#!/bin/sh\necho "$KOALJA_TASK" >> {self.log}\n{body}\n')
        path.chmod(0o755)

    @contextmanager
    def running(self) -> Iterator[Session]:
        """A run of the circuit."""
        with open_workplace(self.folder) as place:
            session = Session(place, Talk(self.ended.append, self.troubles.append), jobs=4)
            session.start()
            try:
                yield session
            finally:
                session.stop()

    def run(self, **sent: str | list[str]) -> None:
        """Run until idle; first these texts arrive on these wires."""
        with self.running() as session:
            for wire, texts in sent.items():
                some = [texts] if isinstance(texts, str) else texts
                session.intake.accept([Offer(wire, text.encode(), type="text/plain") for text in some])
            over = time.monotonic() + 60
            assert session.engine.wait_until_idle(lambda: time.monotonic() > over), "never idle"
        assert not self.troubles, self.troubles

    def make(self, *wires: str, **options: bool) -> Answer:
        stop = Cancel()
        try:
            return ask(self.folder, wires, Options(2, **options), stop)
        finally:
            stop.close()

    def ran(self) -> list[str]:
        """Tasks whose programs ran since the last call, sorted."""
        found = sorted(self.log.read_text().split())
        self.log.write_text("")
        return found

    def on(self, wire: str) -> list[AnnotatedValue]:
        """The values of a wire."""
        registry = open_registry(self.folder)
        try:
            row = registry.read(lambda tx: tasks.wires(tx, tasks.circuit_id(tx, "c") or 0))[wire]
            return registry.read(lambda tx: values.between(tx, row, 0, 1 << 40))
        finally:
            registry.close()

    def said(self, wire: str) -> list[str]:
        """The payloads of a wire."""
        store = open_payloads(self.folder)
        try:
            return [store.read(value.digest).decode() for value in self.on(wire)]
        finally:
            store.close()

    def wrong(self) -> list[str]:
        """What auditing finds, payloads included."""
        registry, store = open_registry(self.folder), open_payloads(self.folder)
        try:
            return registry.read(lambda tx: list(audit(tx, tasks.circuit_id(tx, "c") or 0, store.verify)))
        finally:
            store.close()
            registry.close()
