"""Serving: a first process that keeps a working one (`keeping`), which serves by `koalja_fn.web`.

The role service alone is served by gunicorn (`streaming`), since its answers are streamed.
"""

from __future__ import annotations

import codecs
import gc
import os
import select
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koalja_fn.web import Server
from koalja_runtime.front import Front
from koalja_runtime.keeping import keep
from koalja_runtime.settings import BESIDES, LAST, Settings

if TYPE_CHECKING:
    from koalja_fn.web import Body

_IDLE = 620.0  # longer than any client of ours keeps an idle connection
_LARGEST_HEAD = 65_536
_LARGEST_BODY = 1 << 30
_BACKLOG = 2048
_LOOK = 1.0


def serve(settings: Settings) -> int:
    """Serve until SIGTERM; the exit status."""
    # Werkzeug looks up the codec 'idna'. Two first requests at a time may break its import, and
    # CPython remembers the failure for the rest of the process.
    codecs.lookup("idna")
    "x".encode("idna")
    gc.freeze()  # the working process shares these pages, so long as nobody writes to them
    gc.enable()
    if settings.role == "service":
        from koalja_runtime.streaming import Served

        Served(settings).run()
        return 0
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    keep(lambda: _work(settings, listener), settings.grace)
    return 0


def _work(settings: Settings, listener: socket.socket) -> None:
    """Serve until a signal ends it, or whoever keeps this process is gone; what is under way is answered."""
    keeper = os.getppid()
    front = Front(settings)
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)  # a signal ends the wait below at once
    told: list[int] = []

    def end(number: int, _: Any) -> None:
        """SIGTERM: what is under way goes on, while there is time; SIGINT, SIGQUIT: end soon."""
        told.append(number)
        front.drain(max(1.0, settings.grace - LAST) if number == signal.SIGTERM else 0.0)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, end)
    server = Server(
        front,
        spool=lambda: _spooled(Path(settings.scratch) / "spool"),
        body=_LARGEST_BODY,
        headers=_LARGEST_HEAD,
        listener=listener,
        threads=settings.places + BESIDES,
        express=front,
        idle=_IDLE,
    )
    server.start()
    front.warm_up()
    while not told and os.getppid() == keeper:
        select.select([ended], [], [], _LOOK)
    server.drain(settings.grace)
    front.close()


def _spooled(folder: Path) -> Body:
    from koalja_fn.local.spool import Spooled  # who serves doorbells needs none

    return Spooled(folder)
