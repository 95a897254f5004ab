"""Role queue: takes what waits in the queues of one wire, and ends when there was nothing for a while."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from koalja_fn.addresses import inlets
from koalja_fn.errors import KoaljaError
from koalja_fn.local import spool
from koalja_fn.queues.feeding import pollers
from koalja_runtime import telling
from koalja_runtime.bells import Bells
from koalja_runtime.entrance import Entrance
from koalja_runtime.joining import Installed, Joined
from koalja_runtime.settings import Settings

_LONG = 20
_TRIES = 3


def run(settings: Settings) -> int:
    """Drain; 0 also where the wire has no queue any more, 1 where a queue or bucket can't be used."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    joined = Joined.of(settings)
    bells = Bells(settings.broker, settings.circuit)
    try:
        with ExitStack() as opened:
            return _drain(joined, bells, stop, opened)
    except KoaljaError as error:
        telling.trouble(error)
        return 1
    finally:
        bells.flush()
        joined.close()


def _drain(joined: Joined, bells: Bells, stop: threading.Event, opened: ExitStack) -> int:
    settings, installed = joined.settings, Installed(joined)
    entrance = Entrance(joined, bells, installed.plan)
    found = [inlet for inlet in inlets(entrance.circuit) if inlet.wire == settings.wire]
    folder = joined.scratch / "spool"
    spool.clear(folder)
    asked = [
        poller
        for inlet in found
        for poller in pollers(inlet, entrance, Path(folder), stop, telling.say, opened, tries=_TRIES)
    ]
    began = quiet = time.monotonic()
    wait = max(1, round(min(_LONG, settings.idle) / max(1, len(asked))))
    while asked and not stop.is_set():
        now = time.monotonic()
        if now - began > settings.request or now - quiet > settings.idle:
            break
        if sum(poller.drain(wait, settings.request - (now - began)) for poller in asked):
            quiet = time.monotonic()
    return 0
