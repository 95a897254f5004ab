"""A circuit's folder, opened for work: wiring read, registry brought in line, payloads at hand."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from koalja_fn.engine.arriving import Intake
from koalja_fn.engine.installing import Change, discard, install
from koalja_fn.engine.plans import CircuitPlan
from koalja_fn.errors import Busy, StoreError, WiringError
from koalja_fn.local.opening import open_registry, state_folder
from koalja_fn.program.folder import Opened, open_circuit
from koalja_fn.registry import Registry
from koalja_fn.store import FileStore


@dataclass(frozen=True)
class Workplace:
    """What running a circuit needs. `changes` is what differs from when it was last opened."""

    opened: Opened
    folder: Path
    state: Path
    registry: Registry
    store: FileStore
    plan: CircuitPlan
    changes: tuple[Change, ...]

    def intake(self, ring: Callable[[set[str]], None] = lambda _: None) -> Intake:
        """The way in."""
        return Intake(self.registry, self.store, self.plan, ring)


@contextmanager
def open_workplace(
    path: Path, *, patience: float = 0.0, discards: tuple[str, ...] = ()
) -> Iterator[Workplace]:
    """Open a circuit's folder for oneself alone; nobody else forms or runs while it is open.

    Raises:
        WiringError: The wiring has errors; all findings are in it.
        Busy: Another process has the folder, and still has after `patience` seconds.
        NotFound: No circuit there, or no such removed task to discard.
    """
    opened = open_circuit(path)
    if opened.circuit is None:
        raise findings_error(opened)
    circuit = opened.circuit
    folder = opened.folder.resolve()
    state = state_folder(folder)
    _make(state)
    with _lock(state, patience):
        registry = open_registry(folder)
        store = FileStore(state / "objects")
        try:
            text = opened.file.read_text() if opened.file else ""
            done = registry.transact(
                lambda tx: install(tx, registry.clock(), circuit, folder, opened.located, text)
            )
            dropped = tuple(
                registry.transact(lambda tx, name=name: discard(tx, registry.clock(), circuit.name, name))  # type: ignore[misc]
                for name in discards
            )
            yield Workplace(opened, folder, state, registry, store, done.plan, done.changes + dropped)
        finally:
            store.close()
            registry.close()


def findings_error(opened: Opened) -> WiringError:
    """All errors of a wiring as one."""
    from koalja_fn.wiring import render

    errors = [finding for finding in opened.findings if finding.severity == "error"]
    return WiringError("\n".join(render(finding) for finding in errors) or "the wiring can't be read")


@contextmanager
def open_intake(path: Path) -> Iterator[Intake]:
    """The way in of a folder in which nothing runs: what it accepts waits for the next run.

    Raises:
        Busy: A run has the folder; it takes values over HTTP.
    """
    with open_workplace(path, patience=5.0) as workplace:
        yield workplace.intake()


def _make(state: Path) -> None:
    try:
        state.mkdir(exist_ok=True)
        ignore = state / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
    except OSError as error:
        raise StoreError(
            f"can't make {state}",
            why=error.strerror or str(error),
            cure="run in a folder that you may write to, on a disk with room",
        ) from error


def _lock_file(state: Path) -> TextIO:
    try:
        return open(state / "lock", "a+")
    except OSError as error:
        raise StoreError(
            f"can't write to {state}",
            why=error.strerror or str(error),
            cure="run it as the user whose folder this is, or copy the folder without .koalja",
        ) from error


@contextmanager
def _lock(state: Path, patience: float) -> Iterator[None]:
    """Hold the folder; the lock goes with the process, however it ends."""
    with _lock_file(state) as file:
        until = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    file.seek(0)
                    holder = file.read().strip()
                    raise Busy(
                        f"{state.parent} is in use by another koalja-fn",
                        why=f"process {holder} has it" if holder else "",
                        cure="send values to it with `koalja-fn send`, or stop it first",
                    ) from None
                time.sleep(0.05)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
