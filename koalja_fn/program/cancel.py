"""A flag that threads wait for together with processes: once set, it stays set."""

from __future__ import annotations

import os


class Cancel:
    """Set by one thread, polled by many. `fileno` is readable once it is set."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._set = False

    def set(self) -> None:
        """Cancel all calls that were given this flag; safe in a signal handler."""
        self._set = True
        os.eventfd_write(self._fd, 1)

    @property
    def is_set(self) -> bool:
        """Whether it was set."""
        return self._set

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._fd

    def close(self) -> None:
        """Let go of the descriptor; no call may be under way."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
