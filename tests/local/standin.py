"""An intake in memory, for what has to be tried thousands of times or made to fail at will."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from koalja_fn import ids
from koalja_fn.engine.arriving import Offer, Receipt
from koalja_fn.errors import Conflict, KoaljaError
from koalja_fn.model import Circuit, Input, Output, Task, Wire


def circuit(**sources: str) -> Circuit:
    """`(in, other) work (out)` in circuit `demo`; a keyword gives a wire its `from`."""
    task = Task("work", (Input("in", ("in",)), Input("other", ("other",))), (Output("out"),))
    wires = {
        name: Wire(name, source=sources.get(name), type="application/json" if name == "other" else None)
        for name in ("in", "other", "out")
    }
    return Circuit("demo", (task,), wires)


class MemoryIntake:
    """Keeps what it accepts. `before` is called first, and may raise."""

    def __init__(self, plan: Circuit | None = None) -> None:
        self.circuit = plan or circuit()
        self.offers: list[Offer] = []
        self.payloads: list[bytes] = []
        self.before: Callable[[], None] = lambda: None
        self.calls = 0
        self._known: dict[str, tuple[str, int]] = {}
        self._seen: dict[tuple[str, str], str] = {}
        self._changes: dict[tuple[str, str], int] = {}
        self._drawn = itertools.count()
        self._lock = threading.Lock()

    def accept(self, offers: Sequence[Offer]) -> list[Receipt]:
        self.calls += 1
        self.before()
        with self._lock:
            return [self._one(offer) for offer in offers]

    def accept_together(self, offers: Sequence[Offer]) -> list[Receipt | None]:
        told: list[Receipt | None] = []
        for offer in offers:
            try:
                told.append(self.accept([offer])[0])
            except KoaljaError:
                told.append(None)
        return told

    def observe(self, wire: str, path: Path, *, name: str | None = None) -> Receipt | None:
        assert not path.is_symlink(), "the store follows no links"
        data = path.read_bytes()
        key = (wire, name or str(path))
        if self._seen.get(key) == data.hex():
            return None
        self._changes[key] = change = self._changes.get(key, 0) + 1
        receipt = self.accept([Offer(wire, data, f"/files/{key[1]}", str(change), name=path.name)])[0]
        self._seen[key] = data.hex()
        return receipt

    def _one(self, offer: Offer) -> Receipt:
        assert offer.wire in self.circuit.wires
        data = offer.payload if isinstance(offer.payload, bytes) else offer.payload.read_bytes()
        if isinstance(offer.payload, Path):
            offer.payload.unlink()
        event = offer.event_id or f"drawn-{next(self._drawn)}"
        value = ids.ingested_value("demo", offer.wire, offer.event_source, event)
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        known = self._known.get(value)
        if known and known[0] != digest:
            raise Conflict(f"event {event} came before, with another content")
        if not known:
            self._known[value] = (digest, sum(o.wire == offer.wire for o in self.offers))
            self.offers.append(offer)
            self.payloads.append(data)
        return Receipt(value, offer.wire, self._known[value][1], digest, len(data), known is not None)
