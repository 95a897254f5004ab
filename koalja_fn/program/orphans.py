"""End what a program leaves running, also what it moved to a session of its own.

The wrapper is a *subreaper*: processes whose parent has gone become its children, in the list of its
first thread, where they are found for 16 µs an execution. Whose they are is told by their session,
else by $KOALJA_OUT in the environment they were started with. Looking through all of /proc instead
costs 2.5 ms, and a pid namespace for each program needs rights that users do not have.

Not found is a process that cleared its environment *and* left its session. A wrapper that is
killed takes no program along (PR_SET_PDEATHSIG would need a helper program at 0.7 ms an
execution); `end_stale` ends those that a dead wrapper left, before anything else is started.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

_SUBREAPER = 36
_ROUNDS = 100
_PATIENCE_MS = 2_000
# A zombie that cannot be told apart is left to whoever else may wait for it, but not for ever.
_ZOMBIE_SECONDS = 60.0
_ZOMBIES = 1_000


class Orphans:
    """The processes that programs left behind; safe to call from several threads."""

    def __init__(self) -> None:
        self._zombies: dict[int, float] = {}
        self._become_subreaper()

    def end_of(self, leader: int, out: str) -> bool:
        """End what is left of a program whose leader has gone; return whether all of it is.

        `leader` led its session, `out` was its $KOALJA_OUT.
        """
        for _ in range(_ROUNDS):
            mine = [pid for pid in adopted() if self._is_of(pid, leader, out)]
            if not mine:
                return True
            for pid in mine:
                end(pid)
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
        return False

    def _is_of(self, pid: int, leader: int, out: str) -> bool:
        state, session = _state(pid)
        if session == leader:
            return True
        if state == "Z":
            self._reap_later(pid, session)
            return False
        return f"KOALJA_OUT={out}".encode() in _environ(pid)

    def _reap_later(self, pid: int, session: int) -> None:
        if session == os.getsid(0):
            return  # started by this process for another purpose
        now = time.monotonic()
        if len(self._zombies) > _ZOMBIES:
            self._zombies.clear()  # most have long been reaped by others
        if now - self._zombies.setdefault(pid, now) > _ZOMBIE_SECONDS:
            self._zombies.pop(pid, None)
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)

    @staticmethod
    def _become_subreaper() -> None:
        import ctypes

        # Where it fails (not Linux), what left its session stays: no reason not to run.
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def adopted() -> list[int]:
    """Children of this process's first thread: those whose parent has gone, and its own."""
    own = os.getpid()
    try:
        fd = os.open(f"/proc/self/task/{own}/children", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return [pid for pid in _all() if _parent(pid) == own]
    try:
        listed = b""
        while more := os.read(fd, 65536):
            listed += more
    finally:
        os.close(fd)
    return [int(pid) for pid in listed.split()]


def end(pid: int) -> None:
    """Kill a process and wait until it is no longer running."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll(_PATIENCE_MS)
    finally:
        os.close(fd)


def end_stale(folder: str) -> int:
    """End all processes that were started with a $KOALJA_OUT below `folder`; return how many."""
    mark = f"KOALJA_OUT={folder}/".encode()
    ended = 0
    for _ in range(_ROUNDS):
        found = [pid for pid in _all() if any(v.startswith(mark) for v in _environ(pid))]
        if not found:
            break
        for pid in found:
            end(pid)
        ended += len(found)
    return ended


def _all() -> Iterator[int]:
    own = os.getpid()
    with suppress(OSError):
        for name in os.listdir("/proc"):  # noqa: PTH208
            if name.isdigit() and int(name) != own:
                yield int(name)


def _environ(pid: int) -> list[bytes]:
    """The variables a process was started with; none if it has gone or is another user's."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def _state(pid: int) -> tuple[str, int]:
    """A process's state and session; empty and 0 if it has gone."""
    fields = _stat(pid)
    return (fields[0], int(fields[3])) if fields else ("", 0)


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _stat(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name, in brackets, may hold anything; what counts follows its last bracket.
            return file.read().rpartition(b") ")[2].decode("ascii").split()
    except OSError:
        return []
