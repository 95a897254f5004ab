"""Sinking: values of wires with `to` are written out, each at least once and under its own name.

A sink is a link of its own with its own position. Writing a value again gives the same file, so a crash
between the write and the record of it does no harm.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from koalja_fn.engine.plans import CircuitPlan
from koalja_fn.errors import StoreError
from koalja_fn.model import SINK_FIELDS, AnnotatedValue, is_address
from koalja_fn.registry import Registry, tasks, values
from koalja_fn.registry.registry import Transaction
from koalja_fn.store import Store

_BATCH = 100
_LOOK = 1.0
_LONGEST_NAME = 255
_FIELD = re.compile(r"\{(\w+)\}")


def target(pattern: str, folder: Path, value: AnnotatedValue) -> Path:
    """Where a `to` pattern puts a value: {id}, {wire}, {name}, {position} (from 1), {digest}, {key}.

    A folder (`outbox/`) gets each value under its id. What comes from the value never leads to another
    folder: slashes in it become `_`.
    """
    texts = {
        "id": value.id,
        "wire": value.wire,
        "name": value.name or value.id,
        "position": f"{value.position + 1:06d}",
        "digest": value.digest.removeprefix("sha256:"),
        "key": value.key,
    }

    def fill(found: re.Match[str]) -> str:
        return _harmless(texts[found[1]]) if found[1] in SINK_FIELDS else found[0]

    parts = (_FIELD.sub(fill, part) for part in Path(pattern + "{id}" * pattern.endswith("/")).parts)
    return folder.joinpath(*(_short(part, value.id) for part in parts))


def _short(part: str, id: str) -> str:
    """A name that a file system takes; one that was cut stays the value's own by its id."""
    data = os.fsencode(part)
    if len(data) <= _LONGEST_NAME:
        return part
    return data[: _LONGEST_NAME - 13].decode(errors="ignore") + "~" + id[:12]


def _harmless(text: str) -> str:
    safe = re.sub(r"[/\\\0]", "_", text)
    return safe if safe.strip(".") else "_"


class Sinks:
    """Writes what comes on wires with `to`, in a thread of its own."""

    def __init__(
        self,
        registry: Registry,
        store: Store,
        circuit: CircuitPlan,
        trouble: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        self._registry = registry
        self._store = store
        self._circuit = circuit
        self._trouble = trouble
        sinks = {name: wire.sink for name, wire in circuit.circuit.wires.items() if wire.sink}
        self._wires = {name: sink for name, sink in sinks.items() if not is_address(sink)}
        self._later = {name: sink for name, sink in sinks.items() if is_address(sink)}
        self._bell = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; does nothing where no wire has a sink."""
        for name, sink in self._later.items():
            what = f"wire {name}: to = {sink} is not supported yet; its values are kept, not written there"
            self._trouble(StoreError(what))
        if self._wires:
            self._thread = threading.Thread(target=self._serve, name="sinks", daemon=True)
            self._thread.start()

    def ring(self, wires: Iterable[str]) -> None:
        """There may be something new on these wires."""
        if not self._wires.keys().isdisjoint(wires):
            self._bell.set()

    def stop(self) -> None:
        """Write what is there already, and end."""
        self._stopping = True
        self._bell.set()
        if self._thread is not None:
            self._thread.join()

    def flush(self) -> None:
        """Write all that is there.

        Raises:
            StoreError: A file can't be written.
        """
        trouble: StoreError | None = None
        for name, pattern in self._wires.items():
            try:
                while self._write_some(name, pattern):
                    pass
            except StoreError as error:  # other wires need not wait
                trouble = trouble or error
        if trouble is not None:
            raise trouble

    def _serve(self) -> None:
        while True:
            stopping = self._stopping
            try:
                self.flush()
            except Exception as error:
                self._trouble(error)
            if stopping:
                return
            self._bell.wait(_LOOK)
            self._bell.clear()

    def _write_some(self, name: str, pattern: str) -> bool:
        wire = self._circuit.wires[name]

        def waiting(tx: Transaction) -> tuple[int, list[AnnotatedValue]]:
            sunk = tasks.sunk(tx, wire)
            return sunk, values.between(tx, wire, sunk, sunk + _BATCH - 1)

        sunk, found = self._registry.read(waiting)
        for value in found:
            if not value.ghost:
                self._write(value, target(pattern, self._circuit.folder, value))
        if found:
            self._registry.transact(lambda tx: tasks.move_sink(tx, wire, sunk + len(found)))
        return len(found) == _BATCH

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
