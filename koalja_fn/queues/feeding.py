"""The queues of a circuit: drained once, or followed in threads until the end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from koalja_fn.addresses import Inlet, inlets
from koalja_fn.queues.client import SqsQueue
from koalja_fn.queues.fetching import Fetcher
from koalja_fn.queues.polling import Intake, Poller

_ONCE = 2  # seconds without a message after which a queue is drained
_TRIES = 3
_SETTLE = 10.0

Say = Callable[[str], None]


def drain(intake: Intake, spool: Path, stop: threading.Event, say: Say, endpoint: str | None = None) -> int:
    """Take what there is in all queues of a circuit; how many messages were taken.

    Raises:
        StoreError: A queue or a bucket can't be used.
    """
    with ExitStack() as opened:
        found = [
            poller
            for inlet in inlets(intake.circuit)
            for poller in pollers(inlet, intake, spool, stop, say, opened, endpoint, tries=_TRIES)
        ]
        return sum(poller.drain(_ONCE) for poller in found)


def feed(intake: Intake, spool: Path, say: Say, endpoint: str | None = None) -> Feeders:
    """Take whatever comes in the queues of a circuit, in threads, until `close`."""
    return Feeders(intake, spool, say, endpoint)


def pollers(
    inlet: Inlet,
    intake: Intake,
    spool: Path,
    stop: threading.Event,
    say: Say,
    opened: ExitStack,
    endpoint: str | None = None,
    *,
    tries: int = 0,
) -> list[Poller]:
    """A poller for each queue of a wire; `opened` closes what they use."""
    wire = intake.circuit.wires[inlet.wire]
    fetcher = Fetcher(inlet, wire, spool, say, endpoint)
    opened.callback(fetcher.close)
    found = []
    for queue in inlet.queues:
        asked = SqsQueue(queue, endpoint)
        opened.callback(asked.close)
        found.append(Poller(asked, inlet.wire, intake, fetcher, stop, say, tries=tries))
    return found


class Feeders:
    """The threads behind `feed`."""

    def __init__(self, intake: Intake, spool: Path, say: Say, endpoint: str | None) -> None:
        self._stop = threading.Event()
        self._opened = ExitStack()
        self._pollers = [
            poller
            for inlet in inlets(intake.circuit)
            for poller in pollers(inlet, intake, spool, self._stop, say, self._opened, endpoint)
        ]
        self._say = say
        for poller in self._pollers:
            name = f"koalja-{poller.queue.queue.name}"
            threading.Thread(target=self._serve, args=(poller,), name=name, daemon=True).start()

    def close(self) -> None:
        """End. What is being handled is finished; a poll that is under way is left to itself."""
        self._stop.set()
        for poller in self._pollers:
            poller.settle(_SETTLE)
        self._opened.close()

    def _serve(self, poller: Poller) -> None:
        while not self._stop.is_set():
            try:
                poller.serve()
            except Exception as error:  # the thread must live: a way in that dies silently holds up data
                if not self._stop.is_set():
                    self._say(f"{poller.queue.queue}: {type(error).__name__}: {error}")
                self._stop.wait(1)
