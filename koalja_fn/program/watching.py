"""Look now and then at how much a running program has written."""

from __future__ import annotations

import time

from koalja_fn.program import outputs
from koalja_fn.program.contract import Limits
from koalja_fn.program.logs import Log
from koalja_fn.program.scratch import Slot, allocated

# Walking through many files takes time: never more than a hundredth of it.
_WALK_EVERY = 1.0
_SHARE = 100


class Watch:
    """Bounds the logs, and tells when outputs and scratch files have gone beyond the limit."""

    def __init__(self, slot: Slot, stdout: Log, stderr: Log, limits: Limits) -> None:
        self._slot = slot
        self._stdout = stdout
        self._stderr = stderr
        self._limits = limits
        self._next_walk = time.monotonic() + _WALK_EVERY

    def look(self) -> str:
        """Return a message if the program has gone too far."""
        self._stderr.look()
        self._stdout.look()
        if self._stdout.size > self._limits.outputs:
            return outputs.too_large(self._limits)
        began = time.monotonic()
        if began >= self._next_walk:
            written = allocated(self._slot.out) + allocated(self._slot.work)
            ended = time.monotonic()
            self._next_walk = ended + max(_WALK_EVERY, (ended - began) * _SHARE)
            if written > self._limits.outputs:
                return outputs.too_large(self._limits)
        return ""
