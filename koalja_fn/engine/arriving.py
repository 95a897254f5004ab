"""Arriving: values from outside get their place on a wire, each once, durable before it is acknowledged."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from koalja_fn import ids
from koalja_fn.engine import backlog
from koalja_fn.engine.attaching import moved
from koalja_fn.engine.naming import bring_back
from koalja_fn.engine.plans import CircuitPlan, TaskPlan
from koalja_fn.errors import Conflict, Full, KoaljaError, NotFound, StoreError
from koalja_fn.model import AnnotatedValue, Circuit
from koalja_fn.registry import Registry, purging, records, values
from koalja_fn.registry.purging import Purged
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.values import End
from koalja_fn.store import Store, Stored, Within

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Offer:
    """A value that somebody offers to a wire.

    `payload` is the bytes, or a spooled file which the intake takes. `event_source` and `event_id` are
    the event's identity; where both are empty it gets a fresh, time-ordered one. `created` is the
    source's clock, µs since 1970.
    """

    wire: str
    payload: bytes | Path
    event_source: str = ""
    event_id: str = ""
    type: str = "application/octet-stream"
    created: int | None = None
    name: str = ""
    sequence: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of an offer: its value's id and place; `duplicate` where it was there already."""

    id: str
    wire: str
    position: int
    digest: str
    size: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An offer whose payload is stored and whose id is known."""

    offer: Offer
    stored: Stored
    id: str


class Moved(Exception):
    """Another row stands for a wire by now: a recompute has put it there."""


class Intake:
    """The way in: what it accepts is durable, all of a call or none of it.

    `ring` is called with the names of wires that have new values, after the commit.
    """

    def __init__(
        self, registry: Registry, store: Store, plan: CircuitPlan, ring: Callable[[set[str]], None]
    ) -> None:
        self._registry = registry
        self._store = store
        self._plan = plan
        self._ring = ring

    @property
    def circuit(self) -> Circuit:
        """The circuit whose wires these are."""
        return self._plan.circuit

    def accept(self, offers: Sequence[Offer]) -> list[Receipt]:
        """Put values on wires; return once they are durable.

        Raises:
            NotFound: The circuit has no such wire.
            Conflict: An event has the identity of an earlier one, but another payload.
            Full: A reader has as many values waiting as its backlog allows; send the same again later.
            StoreError: No room for the payload.
        """
        for offer in offers:
            if offer.wire not in self._plan.wires:
                raise NotFound(
                    f"circuit {self.circuit.name} has no wire {offer.wire!r}",
                    cure=f"one of: {', '.join(sorted(self._plan.wires))}",
                )
        self._refuse_if_full({offer.wire for offer in offers})
        stored, within = self._put(offers)
        candidates = [self._candidate(offer, one) for offer, one in zip(offers, stored, strict=True)]
        again = [offer.payload for offer in offers]
        try:
            receipts = self._in_place(partial(self._arrived, candidates, within, again))
        except ConflictingEvent as conflict:
            self._registry.transact(partial(self._refuse, conflict))
            raise conflict.error() from None
        fresh = {receipt.wire for receipt in receipts if not receipt.duplicate}
        if fresh:
            self._ring(fresh)
        return receipts

    def accept_together(self, offers: Sequence[Offer]) -> list[Receipt | None]:
        """Put values of several senders on wires in one transaction; return once they are durable.

        None stands for what was not taken and has to be offered alone, for then its sender is told why:
        what is in conflict with an earlier event, whatever goes to a wire whose readers limit their backlog,
        and all of them where store or registry are in trouble. The wires are ones of the circuit.
        """
        alone = _limited(self._plan, {offer.wire for offer in offers})
        told: list[Receipt | None] = [None] * len(offers)
        try:
            numbers = [n for n, offer in enumerate(offers) if offer.wire not in alone]
            some = [offers[n] for n in numbers]
            stored, within = self._put(some)
            candidates = {
                n: self._candidate(offer, one) for n, offer, one in zip(numbers, some, stored, strict=True)
            }
            receipts = self._placed(candidates, within, [offer.payload for offer in some])
        except KoaljaError:
            return told
        for n, receipt in receipts.items():
            told[n] = receipt
        fresh = {receipt.wire for receipt in receipts.values() if not receipt.duplicate}
        if fresh:
            self._ring(fresh)
        return told

    def _placed(
        self, candidates: dict[int, _Candidate], within: Within | None, again: Sequence[bytes | Path]
    ) -> dict[int, Receipt]:
        """Place all but those that are in conflict; by the numbers that they have."""
        while candidates:
            rest = list(candidates.values())
            try:
                receipts = self._in_place(partial(self._arrived, rest, within, again))
            except ConflictingEvent as conflict:
                candidates = {n: one for n, one in candidates.items() if one is not conflict.candidate}
            else:
                return dict(zip(candidates, receipts, strict=True))
        return {}

    def _arrived(
        self,
        candidates: Sequence[_Candidate],
        within: Within | None,
        again: Sequence[bytes | Path],
        plan: CircuitPlan,
    ) -> list[Receipt]:
        return self._named(lambda tx: arrive(tx, self._registry.clock, plan, candidates, within), again)

    def observe(self, wire: str, path: Path, *, name: str | None = None) -> Receipt | None:
        """Take a file of an in-tray that is new, or has changed since it was last seen.

        The number of the observed change makes the event's id, so that a file that comes back with
        an older content is a new value, and one that was only touched is none. `name` is what the
        file is known by: its path from the circuit's folder.

        Raises:
            FileNotFoundError: The file is gone.
            Conflict: Somebody else has sent an event with the file's identity; the file is seen by now.
            Full: A reader's backlog is full; look again later.
        """
        known_as = _as_text(name or str(path))
        return self._in_place(lambda plan: self._observed(plan, wire, path, known_as))

    def _observed(self, plan: CircuitPlan, wire: str, path: Path, known_as: str) -> Receipt | None:
        row = plan.wires[wire]
        status = path.stat()
        stamp = (status.st_size, status.st_mtime_ns, status.st_ino)
        seen = self._registry.read(lambda tx: records.seen(tx, row, known_as))
        if seen and seen.stamp == stamp:
            return None
        stored = self._store.put_file(path)
        if seen and seen.digest == stored.digest:
            now_seen = records.Seen(*stamp, stored.digest, seen.changes)
            self._registry.transact(lambda tx: records.see(tx, row, known_as, now_seen))
            return None
        changes = (seen.changes if seen else 0) + 1
        offer = Offer(
            wire,
            path,
            event_source=f"/files/{known_as}",
            event_id=str(changes),
            type=self._type_of(wire, path),
            created=status.st_mtime_ns // 1000,
            name=path.name,
        )
        candidate = self._candidate(offer, stored)

        def see(tx: Transaction) -> None:
            records.see(tx, row, known_as, records.Seen(*stamp, stored.digest, changes))

        def step(tx: Transaction) -> list[Receipt]:
            see(tx)
            return arrive(tx, self._registry.clock, plan, [candidate])

        def refuse(tx: Transaction, conflict: ConflictingEvent) -> None:
            see(tx)
            self._refuse(conflict, tx)

        try:
            receipt = self._named(step, [path])[0]
        except ConflictingEvent as conflict:
            self._registry.transact(partial(refuse, conflict=conflict))
            raise conflict.error() from None
        self._ring({wire})
        return receipt

    def _in_place(self, step: Callable[[CircuitPlan], T]) -> T:
        """Do something by the plan; again where a recompute has put other rows in its places meanwhile."""
        while True:
            plan = self._plan
            try:
                return step(plan)
            except Moved:
                self._plan = self._registry.read(partial(moved, plan=plan))

    def _named(
        self, step: Callable[[Transaction], list[Receipt]], again: Sequence[bytes | Path]
    ) -> list[Receipt]:
        """Run a step that names payloads; those that are being purged are stored again.

        Raises:
            StoreError: One went that nobody here has any more; the sender has it.
        """
        while True:
            try:
                return self._registry.transact(step)
            except Purged as purged:
                lost = set(bring_back(self._registry, self._store, purged.digests))
            if lost:
                lost -= {self._store.put_bytes(one).digest for one in again if isinstance(one, bytes)}
                lost -= {
                    self._store.put_file(one).digest
                    for one in again
                    if isinstance(one, Path) and one.exists()
                }
            if lost:
                raise StoreError(
                    "a payload was purged while it came in",
                    why="the same bytes were here before, and nobody needed them",
                    cure="send it again",
                )

    def _refuse(self, conflict: ConflictingEvent, tx: Transaction) -> None:
        conflict.write(tx, self._registry.clock(), self._plan.id)

    def _refuse_if_full(self, wires: set[str]) -> None:
        """Refuse before a payload is stored; the transaction looks again."""
        if all(reader.task.backlog is None for reader in self._plan.readers(wires)):
            return
        full = self._registry.read(lambda tx: backlog.full_reader(tx, self._plan, wires))
        if full is not None:
            raise _full(full)

    def _type_of(self, wire: str, path: Path) -> str:
        from koalja_fn.program.naming import media_type

        return self.circuit.wires[wire].type or media_type(path.name)

    def _put(self, offers: Sequence[Offer]) -> tuple[list[Stored], Within | None]:
        """Store the payloads, small ones with the transaction that names them where the store can do that."""
        small = [offer.payload for offer in offers if isinstance(offer.payload, bytes)]
        put, within = self._store.put_within(small)
        each = iter(put)
        stored = [
            next(each) if isinstance(offer.payload, bytes) else self._store.put_file(offer.payload, take=True)
            for offer in offers
        ]
        return stored, within

    def _candidate(self, offer: Offer, stored: Stored) -> _Candidate:
        circuit = self.circuit.name
        identity = self.circuit.wires[offer.wire].identity
        if identity == "content":
            return _Candidate(offer, stored, ids.derive("content", circuit, offer.wire, stored.digest))
        if identity == "none" or not (offer.event_source or offer.event_id):
            drawn = ids.fresh_event_id(time.time_ns() // 1000, os.urandom(10))
            return _Candidate(
                offer, stored, ids.ingested_value(circuit, offer.wire, offer.event_source, drawn)
            )
        value = ids.ingested_value(circuit, offer.wire, offer.event_source, offer.event_id)
        return _Candidate(offer, stored, value)


@dataclass
class ConflictingEvent(Exception):
    """An event with the identity of an earlier one but another payload."""

    candidate: _Candidate
    kept: str

    def write(self, tx: Transaction, now: int, circuit: int) -> None:
        """Keep it on record, for `failures`."""
        offer = self.candidate.offer
        records.refuse(
            tx,
            records.Refusal(
                offer.wire,
                now,
                self.candidate.id,
                offer.event_source,
                offer.event_id,
                self.candidate.stored.digest,
                self.kept,
                "same event id, other content",
            ),
            circuit,
        )

    def error(self) -> Conflict:
        """As the sender sees it."""
        offer = self.candidate.offer
        return Conflict(
            f"event {offer.event_id!r} of {offer.event_source!r} came to wire {offer.wire} before,"
            " with another content",
            why=f"kept {self.kept}, refused {self.candidate.stored.digest}",
            cure="give each event an id of its own; for senders that count anew say `identity = content`"
            f" or `identity = none` under `wire {offer.wire}`",
        )


def _limited(plan: CircuitPlan, wires: set[str]) -> set[str]:
    """Those of the wires that have a reader with a limited backlog."""
    if all(reader.task.backlog is None for reader in plan.readers(wires)):
        return set()
    return {wire for wire in wires if any(reader.task.backlog is not None for reader in plan.readers({wire}))}


def _full(plan: TaskPlan) -> Full:
    return Full(
        f"task {plan.name} has {plan.task.backlog} values waiting, as many as its backlog allows",
        cure="send the same again later",
    )


def arrive(
    tx: Transaction,
    clock: Callable[[], int],
    plan: CircuitPlan,
    candidates: Sequence[_Candidate],
    within: Within | None = None,
) -> list[Receipt]:
    """Place values on their wires; those that are there already keep their place.

    `within` puts payloads that are to be durable with them (`Store.put_within`). The wires are locked
    first: whoever else places values there waits, and finds these.

    Raises:
        ConflictingEvent: An id is known with another digest; nothing is placed.
        Full: A reader's backlog is full; nothing is placed.
        Moved: The plan is one of before a recompute; nothing is placed.
        Purged: A payload is purged, or was; nothing is placed.
    """
    wires = sorted({c.offer.wire for c in candidates})
    sparing = purging.watch(tx, [c.stored.digest for c in candidates])
    ends, known = values.hold_and_look(tx, [plan.wires[wire] for wire in wires], [c.id for c in candidates])
    if any(end.circuit != plan.id for end in ends.values()):
        raise Moved
    full = backlog.full_reader(tx, plan, wires)
    if full is not None:
        raise _full(full)
    sparing()
    receipts: dict[int, Receipt] = {}
    for wire in wires:
        mine = {n: c for n, c in enumerate(candidates) if c.offer.wire == wire}
        receipts |= _arrive_on(tx, clock, plan, wire, ends[plan.wires[wire]], mine, known)
    if within is not None:
        within(tx)
    return [receipts[n] for n in range(len(candidates))]


def _arrive_on(
    tx: Transaction,
    clock: Callable[[], int],
    plan: CircuitPlan,
    wire: str,
    end: End,
    candidates: Mapping[int, _Candidate],
    known: Mapping[str, tuple[str, int]],
) -> dict[int, Receipt]:
    row = plan.wires[wire]
    head, latest = end.head, end.latest
    receipts: dict[int, Receipt] = {}
    placed: dict[str, AnnotatedValue] = {}
    for number, candidate in candidates.items():
        stored = candidate.stored
        here = placed.get(candidate.id)
        there = (here.digest, here.position) if here else known.get(candidate.id)
        if there and there[0] != stored.digest:
            raise ConflictingEvent(candidate, there[0])
        if there:
            position = there[1]
        else:
            position, head = head, head + 1
            latest = max(clock(), latest + 1)
            placed[candidate.id] = _value(plan, candidate, position, latest)
        receipts[number] = Receipt(
            candidate.id, wire, position, stored.digest, stored.size, duplicate=there is not None
        )
    if placed:
        values.place(tx, row, placed.values())
        values.move_head(tx, row, head, latest)
    return receipts


def _as_text(name: str) -> str:
    """A file's name as text: bytes that are no UTF-8 as \\x.."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _value(plan: CircuitPlan, candidate: _Candidate, position: int, now: int) -> AnnotatedValue:
    offer = candidate.offer
    return AnnotatedValue(
        id=candidate.id,
        circuit=plan.circuit.name,
        wire=offer.wire,
        position=position,
        source=offer.event_source or "/hand",
        created=now if offer.created is None else offer.created,
        arrived=now,
        digest=candidate.stored.digest,
        size=candidate.stored.size,
        type=offer.type,
        name=_as_text(offer.name),
        key=candidate.id,
        event_source=offer.event_source,
        event_id=offer.event_id,
        sequence=offer.sequence,
        attributes=offer.attributes,
    )
