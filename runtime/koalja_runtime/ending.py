"""Roles that end by themselves: a job, a drained queue, one sweep, a console that nobody uses any more."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from koalja_runtime.settings import Settings

_LOOK = 5.0
_LAST = 15.0


def run(settings: Settings) -> int:
    """Do what the role says; the exit status."""
    return {"job": _job, "queue": _queue, "sweep": _sweep, "console": _console}[settings.role](settings)


def _job(settings: Settings) -> int:
    """Run one ready snapshot, if there is one. A failed attempt is on record: the job has ended well."""
    from koalja_fn.engine.working import Span, Worker
    from koalja_runtime import telling
    from koalja_runtime.bells import Bells
    from koalja_runtime.joining import Bench, Joined

    joined = Joined.of(settings)
    bench = Bench(joined)
    bells = Bells(settings.broker, settings.circuit)
    worker = Worker(
        joined.registry,
        bench.post,
        bells,
        places=1,
        lease=settings.lease,
        ended=telling.ended,
        trouble=telling.trouble,
    )

    def stop(*_: object) -> None:
        worker.stop()
        timer = threading.Timer(max(1.0, settings.grace - _LAST), worker.give_back)
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGTERM, stop)
    try:
        worker.work_once(Span(time.monotonic(), float("inf")))
        bells.flush()
    finally:
        worker.close()
        bench.close()
        joined.close()
    return 0


def _queue(settings: Settings) -> int:
    """Take what waits in the queues of a wire."""
    from koalja_runtime import queueing

    return queueing.run(settings)


def _sweep(settings: Settings) -> int:
    """Ring for what nobody rang for, and write what nobody wrote."""
    from koalja_fn.engine import sweeping, tidying
    from koalja_fn.engine.sinking import Sinks
    from koalja_fn.errors import StoreError
    from koalja_runtime import telling
    from koalja_runtime.bells import Bells
    from koalja_runtime.joining import Joined

    joined = Joined.of(settings)
    bells = Bells(settings.broker, settings.circuit)
    try:
        attached, _ = joined.attached({}, Path("/"))
        for task, count in sweeping.sweep(joined.registry, attached.plan).items():
            bells.call(task, count)
        bells.flush()
        try:
            Sinks(joined.registry, joined.store, attached.plan, files=False).flush()
        except StoreError as error:  # it waits for the next sweep
            telling.trouble(error)
        tidying.tidy(joined.registry, joined.store, attached.plan)
    finally:
        joined.close()
    return 0


def _console(settings: Settings) -> int:
    """Wait for commands that others start in this container; end after a while without one."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    used = time.monotonic()
    while not ended.wait(min(_LOOK, settings.idle / 3)):
        if _others():
            used = time.monotonic()
        if time.monotonic() - used > settings.idle:
            break
    return 0


def _others() -> bool:
    """Whether other processes run here; a container's first process sees only its own container's."""
    me = {os.getpid(), os.getppid()}
    return any(name.isdigit() and int(name) not in me for name in os.listdir("/proc"))  # noqa: PTH208
