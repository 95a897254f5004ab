"""Run a process to its end: wait for it, for the clock and for a cancel; then end all that it started.

Knows nothing of inputs and outputs. The process's pid stays unused by others until it is reaped, which
is done last, so that signals to its group reach nobody else.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from koalja_fn.program.cancel import Cancel
from koalja_fn.program.contract import Reason
from koalja_fn.program.orphans import Orphans
from koalja_fn.program.starting import Process

# How often sizes are looked at: soon at first, since a flood fills a disk at 1 GB/s.
_FIRST_LOOK = 0.05
_LATER_LOOK = 0.2


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended. `why` is empty where it ended by itself, `clean` where nothing of it is left."""

    why: Reason
    message: str
    status: int | None
    signal: int | None
    seconds: float
    cpu: float
    clean: bool


def run(
    process: Process,
    out: str,
    orphans: Orphans,
    *,
    started: float,
    timeout: float | None,
    stop: Cancel | None,
    grace: float,
    look: Callable[[], str],
) -> Ended:
    """Wait for `process`, which leads its session, and end what is left of it.

    `started` is when, by the monotonic clock. `look` is called now and then; if it returns a message,
    the program has gone too far.
    """
    fd, pid = -1, process.pid
    try:
        fd = os.pidfd_open(pid)
        why, message = _wait(fd, started, timeout, stop, look)
        if why is not Reason.NONE:
            _end(pid, fd, grace)
    finally:
        if fd >= 0:
            os.close(fd)
        _signal(pid, signal.SIGKILL)  # what is left of the group; the leader is gone, but not reaped
        state, cpu = process.reap()
    seconds = time.monotonic() - started
    clean = orphans.end_of(pid, out)
    by = os.WTERMSIG(state) if os.WIFSIGNALED(state) else None
    status = os.WEXITSTATUS(state) if os.WIFEXITED(state) else None
    return Ended(why, message, status, by, seconds, cpu, clean)


def _wait(
    fd: int, started: float, timeout: float | None, stop: Cancel | None, look: Callable[[], str]
) -> tuple[Reason, str]:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if stop is not None:
        poll.register(stop.fileno(), select.POLLIN)
    pause = _FIRST_LOOK
    while True:
        left = None if timeout is None else timeout - (time.monotonic() - started)
        until = pause if left is None else min(pause, left)
        ready = {ready for ready, _ in poll.poll(max(0, int(until * 1000) + 1))}
        if fd in ready:
            return Reason.NONE, ""
        if ready:
            return Reason.CANCELLED, "was cancelled"
        if left is not None and timeout is not None and time.monotonic() - started >= timeout:
            return Reason.TIMEOUT, f"took longer than its timeout of {timeout:g} s"
        message = look()
        if message:
            return Reason.OUTPUTS, message
        pause = _LATER_LOOK


def _end(pid: int, fd: int, grace: float) -> None:
    """Ask the group to end; insist after `grace` seconds."""
    _signal(pid, signal.SIGTERM)
    _signal(pid, signal.SIGCONT)  # one that was stopped can't hear
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if not poll.poll(int(grace * 1000)):
        _signal(pid, signal.SIGKILL)


def _signal(group: int, number: signal.Signals) -> None:
    # Not permitted: all that is left runs as another user, by a set-user-id bit.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
