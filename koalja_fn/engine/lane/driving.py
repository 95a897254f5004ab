"""Who drives a recompute: one process at a time, by a lease in the registry.

Whoever takes over from one that is gone has the next fence. Each transaction of a lane looks first whether
its driver still has the last one, so that two never write to a lane, whatever their clocks and pauses are.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from koalja_fn.engine.claiming import SECOND
from koalja_fn.errors import Busy
from koalja_fn.registry import Registry, lanes
from koalja_fn.registry.registry import Transaction

LEASE = 30.0


class Usurped(Exception):
    """Somebody else drives the recompute, or it has come to its end: nothing is written any more."""

    why = "another process has taken it over"


class Driver:
    """One process's turn at a recompute, which is known by its row."""

    def __init__(self, registry: Registry, recompute: int) -> None:
        self._registry = registry
        self._recompute = recompute
        self._owner = f"{os.uname().nodename}:{os.getpid()}:{time.time_ns()}"
        self._fence = 0

    def take(self, tx: Transaction) -> None:
        """Become the driver.

        Raises:
            Busy: Another process drives it.
            Usurped: It has come to its end.
        """
        now, tenure = self._registry.clock(), lanes.hold(tx, self._recompute)
        if tenure.state != "open":
            raise Usurped
        if tenure.owner and tenure.lease > now and not _is_gone(tenure.owner):
            host, pid, _ = tenure.owner.split(":")
            left = (tenure.lease - now) / SECOND
            raise Busy(
                "the recompute is under way already",
                why=f"process {pid} on {host} is at it",
                cure=f"wait for it; if it is gone, try again in {left:.0f} seconds",
            )
        self._fence = tenure.fence + 1
        self._renew(tx, now)

    def check(self, tx: Transaction) -> None:
        """See that we are the driver, and stay it until the transaction ends.

        Raises:
            Usurped: We are not.
        """
        tenure = lanes.hold(tx, self._recompute)
        if (tenure.state, tenure.fence) != ("open", self._fence):
            raise Usurped

    def beat(self, tx: Transaction) -> None:
        """Go on for another while."""
        self.check(tx)
        self._renew(tx, self._registry.clock())

    def leave(self, tx: Transaction) -> None:
        """Let others drive."""
        tenure = lanes.hold(tx, self._recompute)
        if tenure.fence == self._fence:
            lanes.drive(tx, self._recompute, "", 0, self._fence)

    def _renew(self, tx: Transaction, now: int) -> None:
        lanes.drive(tx, self._recompute, self._owner, now + round(LEASE * SECOND), self._fence)


def is_driven(tx: Transaction, recompute: int, now: int) -> bool:
    """Whether somebody drives a recompute who is not known to be gone."""
    tenure = lanes.hold(tx, recompute)
    return bool(tenure.owner) and tenure.lease > now and not _is_gone(tenure.owner)


def _is_gone(owner: str) -> bool:
    """Whether a driver is known to be no more: it ended on this machine, or was an earlier try of ours."""
    host, pid, _ = owner.split(":")
    if host != os.uname().nodename:
        return False
    return int(pid) == os.getpid() or not runs(int(pid))


def runs(pid: int) -> bool:
    """Whether there is such a process on this machine that has not ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in "ZX"
