"""Keeping one working process alive: the part of a container's first process, with next to no imports.

It takes in orphans, hands signals on, and starts the working process anew should that be killed.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_HEARD = (*_ENDING, signal.SIGCHLD)
_PAUSE = 1.0  # what ends again and again is not started more often


def keep(work: Callable[[], None], grace: float) -> None:
    """Have `work` done in a process of its own until SIGTERM, SIGINT or SIGQUIT ends it.

    The signal is handed on; what has not ended `grace` seconds later is killed. In the working process the
    interpreter ends after `work`.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    while True:
        began = time.monotonic()
        worker = os.fork()
        if worker == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
            work()
            sys.exit(0)
        if _watched(worker, grace):
            return
        sys.stderr.write("koalja: the working process ended; it is started anew\n")
        sys.stderr.flush()
        time.sleep(max(0.0, _PAUSE - (time.monotonic() - began)))


def _watched(worker: int, grace: float) -> bool:
    """Wait for the end of the working process; whether it was told to end."""
    until: float | None = None
    while True:
        if until is None:
            heard = signal.sigwait(_HEARD)
        else:
            info = signal.sigtimedwait(_HEARD, max(0.0, until - time.monotonic()))
            if info is None:
                os.kill(worker, signal.SIGKILL)
                until = time.monotonic() + grace
                continue
            heard = signal.Signals(info.si_signo)
        if heard != signal.SIGCHLD:
            os.kill(worker, heard)
            until = time.monotonic() + grace if until is None else until
        elif _reaped(worker):
            return until is not None


def _reaped(worker: int) -> bool:
    """Take in all children that have ended; whether the working process is among them."""
    found = False
    while True:
        try:
            child, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if child == 0:
            return found
        found = found or child == worker
