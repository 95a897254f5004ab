"""Sinking: values of wires with `to` are written out, each at least once and under its own name.

A sink is a link of its own with its own position. Writing a value again gives the same file or object, so a
crash between the write and the record of it does no harm. Each wire is written by itself: a bucket that does
not answer holds up nobody else.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from koalja_fn.addresses import check_sink
from koalja_fn.engine.naming import is_purged
from koalja_fn.engine.plans import CircuitPlan
from koalja_fn.engine.targets import target
from koalja_fn.errors import StoreError
from koalja_fn.model import AnnotatedValue, is_address
from koalja_fn.registry import Registry, tasks, values
from koalja_fn.registry.registry import Transaction
from koalja_fn.store import Store
from koalja_fn.store.outlet import Outlet

_BATCH = 100
_LOOK = 1.0
_LONGEST_PAUSE = 30.0
_TICK = 0.1
_AT_ONCE = 8


class Sinks:
    """Writes what comes on wires with `to`, each in a thread of its own.

    `endpoint` is the server of buckets whose address names none; else what the environment says. Without
    `files` those that name files are left out. `bring` makes a purged payload again: a `to` that came later
    has all values of its wire to write.
    """

    def __init__(
        self,
        registry: Registry,
        store: Store,
        circuit: CircuitPlan,
        trouble: Callable[[BaseException], None] = lambda _: None,
        *,
        endpoint: str | None = None,
        files: bool = True,
        bring: Callable[[AnnotatedValue], object] | None = None,
    ) -> None:
        self._bring = bring
        self._registry = registry
        self._store = store
        self._circuit = circuit
        self._trouble = trouble
        sinks = {name: wire.sink for name, wire in circuit.circuit.wires.items() if wire.sink}
        self._outlets = {
            name: Outlet(check_sink(sink), endpoint) for name, sink in sinks.items() if is_address(sink)
        }
        self._wires = sinks if files else {name: sinks[name] for name in self._outlets}
        self._bells = {name: threading.Event() for name in sinks}
        self._stopping = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin; does nothing where no wire has a sink."""
        for name in self._wires:
            thread = threading.Thread(target=self._serve, args=(name,), name=f"sink-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def ring(self, wires: Iterable[str]) -> None:
        """There may be something new on these wires."""
        for name in self._bells.keys() & set(wires):
            self._bells[name].set()

    def stop(self) -> None:
        """Write what is there already, and end."""
        self._stopping = True
        for bell in self._bells.values():
            bell.set()
        for thread in self._threads:
            thread.join()
        self.close()

    def move(self, circuit: CircuitPlan) -> None:
        """A recompute has put other rows in the places of wires: those are written out from now on."""
        self._circuit = circuit
        for bell in self._bells.values():
            bell.set()

    def close(self) -> None:
        """Let go of connections."""
        for outlet in self._outlets.values():
            outlet.close()

    def flush(self) -> None:
        """Write all that is there.

        Raises:
            StoreError: Something can't be written; other wires did not wait for it.
        """
        if not self._wires:
            return
        with ThreadPoolExecutor(max(1, min(_AT_ONCE, len(self._wires)))) as pool:
            troubles = list(pool.map(self._flush_one, self._wires))
        if found := [trouble for trouble in troubles if trouble is not None]:
            raise found[0]

    def _flush_one(self, name: str) -> StoreError | None:
        try:
            while self._write_some(name):
                pass
        except StoreError as error:
            return error
        return None

    def _serve(self, name: str) -> None:
        """Write a wire's values until the end; what can't be written is tried again, less and less often."""
        pause, said = _LOOK, ""
        while True:
            stopping = self._stopping
            self._bells[name].clear()
            try:
                while self._write_some(name):
                    pass
                pause, said = _LOOK, ""
            except Exception as error:
                if str(error) != said or stopping:
                    self._trouble(error)
                pause, said = min(2 * pause, _LONGEST_PAUSE), str(error)
            if stopping:
                return
            if said:
                self._rest(pause)
            else:
                self._bells[name].wait(_LOOK)

    def _rest(self, seconds: float) -> None:
        """Wait after a failure, whatever rings, but for the end."""
        until = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < until:
            time.sleep(min(_TICK, seconds))

    def _write_some(self, name: str) -> bool:
        wire = self._circuit.wires[name]
        outlet = self._outlets.get(name)

        def waiting(tx: Transaction) -> tuple[int, list[AnnotatedValue]]:
            sunk = tasks.sunk(tx, wire)
            return sunk, values.between(tx, wire, sunk, sunk + _BATCH - 1)

        sunk, found = self._registry.read(waiting)
        written = sunk
        try:
            for value in found:
                if not value.ghost:
                    self._deliver(name, outlet, value)
                written += 1
        finally:
            if written > sunk:
                self._registry.transact(lambda tx: tasks.move_sink(tx, wire, written))
        return len(found) == _BATCH

    def _deliver(self, name: str, outlet: Outlet | None, value: AnnotatedValue) -> None:
        """Write a value; a purged one is made again first, or passed over and told where it can't be."""
        try:
            self._put_out(name, outlet, value)
        except StoreError:
            if not is_purged(self._registry, value.digest):
                raise
            if self._brought(value):
                self._put_out(name, outlet, value)

    def _brought(self, value: AnnotatedValue) -> bool:
        try:
            if self._bring is None:
                raise StoreError(f"value {value.id[:12]} of wire {value.wire} is not written: it is purged")
            self._bring(value)
        except StoreError as error:
            self._trouble(error)
            return False
        return True

    def _put_out(self, name: str, outlet: Outlet | None, value: AnnotatedValue) -> None:
        if outlet is not None:
            outlet.write(value, partial(self._store.open, value.digest))
        else:
            self._write(value, target(self._wires[name], self._circuit.folder, value))

    def _write(self, value: AnnotatedValue, path: Path) -> None:
        temporary = path.with_name(f".{value.id[:24]}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
            with self._store.open(value.digest) as source, open(temporary, "xb") as copy:
                while block := source.read(1 << 20):
                    copy.write(block)
                copy.flush()
                os.fsync(copy.fileno())
            temporary.replace(path)
        except OSError as error:
            raise StoreError(
                f"{path}: can't write a value of wire {value.wire}",
                why=error.strerror or str(error),
                cure="make room, or mend `to` in the wiring; it is tried again",
            ) from error
