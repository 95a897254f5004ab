"""A circuit's folder, opened for work: wiring read, registry brought in line, payloads at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from koalja_fn.engine.arriving import Intake
from koalja_fn.engine.installing import Change, discard, install
from koalja_fn.engine.plans import CircuitPlan
from koalja_fn.errors import WiringError
from koalja_fn.local.holding import hold
from koalja_fn.local.opening import Payloads, choose_payloads, open_payloads, open_registry
from koalja_fn.program.folder import Opened, open_circuit
from koalja_fn.program.freshness import Freshness
from koalja_fn.registry import Registry
from koalja_fn.store import Store


@dataclass(frozen=True)
class Workplace:
    """What running a circuit needs. `changes` is what differs from when it was last opened.

    `endpoint` is the server of the wiring's queues and buckets, where it is not Amazon's.
    """

    opened: Opened
    folder: Path
    state: Path
    registry: Registry
    store: Store
    plan: CircuitPlan
    changes: tuple[Change, ...]
    endpoint: str | None = None
    freshness: Freshness | None = None

    def intake(self, ring: Callable[[set[str]], None] = lambda _: None) -> Intake:
        """The way in."""
        return Intake(self.registry, self.store, self.plan, ring)


@contextmanager
def open_workplace(
    path: Path,
    *,
    patience: float = 0.0,
    discards: tuple[str, ...] = (),
    payloads: Payloads | None = None,
    endpoint: str | None = None,
) -> Iterator[Workplace]:
    """Open a circuit's folder for oneself alone; nobody else forms or runs while it is open.

    `payloads` says where they are to lie from now on, if not in the folder.

    Raises:
        WiringError: The wiring has errors; all findings are in it.
        Busy: Another process has the folder, and still has after `patience` seconds.
        NotFound: No circuit there, or no such removed task to discard.
        UsageError: Its payloads lie in another place already.
    """
    opened = open_circuit(path)
    if opened.circuit is None:
        raise findings_error(opened)
    circuit = opened.circuit
    fresh = Freshness(opened, path)
    folder = opened.folder.resolve()
    with hold(folder, patience) as state:
        if payloads is not None:
            choose_payloads(state, payloads)
        registry = open_registry(folder)
        try:
            store = open_payloads(folder, registry)
        except BaseException:
            registry.close()
            raise
        try:
            text = opened.file.read_text() if opened.file else ""
            done = registry.transact(
                lambda tx: install(tx, registry.clock(), circuit, folder, opened.located, text)
            )
            dropped = tuple(
                registry.transact(lambda tx, name=name: discard(tx, registry.clock(), circuit.name, name))  # type: ignore[misc]
                for name in discards
            )
            changes = done.changes + dropped
            yield Workplace(opened, folder, state, registry, store, done.plan, changes, endpoint, fresh)
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
