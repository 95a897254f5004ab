"""Polling: messages become values, and are deleted only when these are durable.

A message whose deletion was lost comes again and is known by its id. One that is refused is left to the
queue: after as many tries as its redrive policy allows it goes where that says. What is wrong for now (no
room, no store) holds messages back, and keeps them from others, until it is mended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from koalja_fn.engine.arriving import Offer, Receipt
from koalja_fn.errors import Conflict, Full, KoaljaError, NotFound, Refused, RegistryError, StoreError
from koalja_fn.local.offering import offers_of
from koalja_fn.model import Circuit
from koalja_fn.queues.client import MOST, SqsQueue
from koalja_fn.queues.fetching import Fetcher
from koalja_fn.queues.messages import TEXT, Message, events_of
from koalja_fn.queues.notices import Notice, notices_of

T = TypeVar("T")

LONG = 20
"""Seconds that SQS keeps a poll open while there is nothing."""

_LONGEST_PAUSE = 30.0
_MOST_SAID = 10_000


class Intake(Protocol):
    """The part of a way in that is used here."""

    @property
    def circuit(self) -> Circuit:
        """The circuit whose wires these are."""

    def accept(self, offers: Sequence[Offer]) -> list[Receipt]:
        """Put values on wires, all or none; durable when it returns."""


@dataclass
class _Done:
    """What became of a batch. `groups` are those of a FIFO queue in which a message was refused."""

    taken: list[Message] = field(default_factory=list)
    refused: list[Message] = field(default_factory=list)
    later: list[Message] = field(default_factory=list)
    groups: set[str] = field(default_factory=set)


class Poller:
    """Takes what comes in one queue for one wire.

    `tries` is how often something that may come right is tried before it is raised; 0 for ever.
    """

    def __init__(
        self,
        queue: SqsQueue,
        wire: str,
        intake: Intake,
        fetcher: Fetcher,
        stop: threading.Event,
        say: Callable[[str], None],
        *,
        tries: int = 0,
    ) -> None:
        self.queue = queue
        self._wire = wire
        self._intake = intake
        self._fetcher = fetcher
        self._stop = stop
        self._say = say
        self._tries = tries
        self._said: set[str] = set()
        self._refused: set[str] = set()
        self._handling = threading.Lock()
        self._single = False

    def drain(self, wait: int, most: float = float("inf")) -> int:
        """Take what there is until a poll of `wait` seconds finds nothing new; how many messages were taken.

        Raises:
            StoreError, RegistryError: A queue, a bucket or the registry can't be used, after several tries.
        """
        taken, until = 0, time.monotonic() + most
        while not self._stop.is_set() and time.monotonic() < until:
            messages = self._received(wait)
            if all(one.id in self._refused for one in messages):  # none, or what was refused a moment ago
                self.queue.hold(messages, self.queue.visibility)
                break
            taken += self._handle(messages)
        return taken

    def serve(self) -> None:
        """Take whatever comes, until `stop`."""
        while not self._stop.is_set():
            messages = self._received(LONG)
            with self._handling:
                if self._stop.is_set():
                    self.queue.hold(messages, 0)
                elif messages:
                    self._handle(messages)

    def settle(self, seconds: float) -> None:
        """After `stop`: wait for what is being handled; then nothing is asked of the intake any more."""
        if self._handling.acquire(timeout=seconds):
            self._handling.release()

    def _handle(self, messages: Sequence[Message]) -> int:
        """Take a batch; how many of its messages were taken."""
        done = _Done()
        try:
            with self._held(messages):
                self._sort(messages, done)
                if done.taken:
                    self._delete(done.taken)
        except BaseException:
            self.queue.hold(messages, 0)
            raise
        # Of a FIFO queue's group nothing comes before what was refused; and what is given back untried should
        # not come again with it, since that counts for its own redrive: then one comes at a time.
        self._single = bool(done.groups)
        later = self.queue.visibility if done.groups else 0
        self.queue.hold(done.refused, self.queue.visibility)
        self.queue.hold(done.later, later)
        return len(done.taken)

    def _received(self, wait: int) -> list[Message]:
        most = 1 if self._single else MOST
        return self._patiently(lambda: self.queue.receive(wait, most)) or []

    def _sort(self, messages: Sequence[Message], done: _Done) -> None:
        """Make values of messages, in their order; those with small payloads share a transaction."""
        small: list[tuple[Message, list[Offer]]] = []
        for message in messages:
            if self._stop.is_set() or message.group in done.groups:
                done.later.append(message)
                continue
            offers = self._attempt(partial(self._offers, message))
            if isinstance(offers, list) and not any(isinstance(one.payload, Path) for one in offers):
                small.append((message, offers))
                continue
            self._together(small, done)
            small = []
            self._alone(message, offers, done)
        self._together(small, done)

    def _together(self, found: Sequence[tuple[Message, list[Offer]]], done: _Done) -> None:
        everything = [offer for _, offers in found for offer in offers]
        receipts = self._attempt(partial(self._intake.accept, everything)) if everything else []
        if isinstance(receipts, KoaljaError):
            for message, offers in found:
                self._alone(message, offers, done)
        else:
            (done.later if receipts is None else done.taken).extend(message for message, _ in found)

    def _alone(self, message: Message, offers: list[Offer] | KoaljaError | None, done: _Done) -> None:
        if message.group in done.groups:  # in a FIFO queue nothing of a group goes before what it refused
            _drop(offers)
            offers = None
        if isinstance(offers, list):
            waiting: list[list[Offer]] = [offers]

            def accept() -> list[Receipt]:
                now = waiting.pop() if waiting else self._offers(message)  # files are gone after a try
                try:
                    return self._intake.accept(now) if now else []
                finally:
                    _drop(now)

            receipts = self._attempt(accept)
        else:
            receipts = offers
        if isinstance(receipts, KoaljaError):
            self._refuse(message, receipts)
            done.refused.append(message)
            done.groups |= {message.group} - {""}
        else:
            (done.later if receipts is None else done.taken).append(message)

    def _offers(self, message: Message) -> list[Offer]:
        """What a message offers; nothing where it tells of objects that are not there any more."""
        notices = notices_of(message.body)
        if notices is not None:
            return self._objects(notices)
        untyped = self._intake.circuit.wires[self._wire].type or TEXT
        return offers_of(events_of(message, self.queue.queue, untyped), self._wire)

    def _objects(self, notices: Sequence[Notice]) -> list[Offer]:
        found: list[Offer] = []
        try:
            for notice in notices:
                offer = self._fetcher.offer(notice)
                if offer is not None:
                    found.append(offer)
        except BaseException:
            _drop(found)
            raise
        return found

    def _delete(self, messages: Sequence[Message]) -> None:
        try:
            self.queue.delete(messages)
        except StoreError as error:
            self._once(f"{error}\n  what was taken comes again, and is known then")

    def _refuse(self, message: Message, error: KoaljaError) -> None:
        self._refused.add(message.id)
        then = "then it goes where the queue's redrive policy says"
        if not self.queue.redrives:
            then = "the queue has no redrive policy, so that it comes again and again"
        self._once(f"{self.queue.queue}: message {message.id} is refused and stays there; {then}\n  {error}")

    def _attempt(self, step: Callable[[], list[T]]) -> list[T] | KoaljaError | None:
        """Do a step; the error where it is refused for good, None where the end came before it was done."""
        try:
            return self._patiently(step)
        except (Refused, Conflict, NotFound) as error:
            return error

    def _patiently(self, step: Callable[[], list[T]]) -> list[T] | None:
        """Do a step as often as it takes, while something may come right; None where `stop` came first."""
        tries, pause = 0, 1.0
        while not self._stop.is_set():
            try:
                return step()
            except Full as full:
                self._once(f"{self.queue.queue} waits: {full.what}")
                self._stop.wait(max(full.retry_after, 0.05))
            except (StoreError, RegistryError) as error:
                tries += 1
                if tries == self._tries:
                    raise
                self._once(str(error))
                self._stop.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
        return None

    @contextmanager
    def _held(self, messages: Sequence[Message]) -> Iterator[None]:
        """Keep messages from others for as long as the block takes."""
        done = threading.Event()

        def hold() -> None:
            while not done.wait(self.queue.held / 3):
                self.queue.hold(messages, self.queue.held)

        thread = threading.Thread(target=hold, name="queue-hold", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _once(self, text: str) -> None:
        if text not in self._said and len(self._said) < _MOST_SAID:
            self._said.add(text)
            self._say(text)


def _drop(offers: list[Offer] | KoaljaError | None) -> None:
    """Remove the files of offers that nobody took."""
    for offer in offers if isinstance(offers, list) else ():
        if isinstance(offer.payload, Path):
            offer.payload.unlink(missing_ok=True)
