"""Ports for servers that are started, killed and started again at the same place.

A port that the kernel picks (bind to 0) is of the range from which it also picks the near ends of
connections: between a server's death and its return any client on this machine may sit on it.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket

_PICK = random.Random(os.getpid())
_given: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 below the kernel's own range; never the same twice in one process."""
    while True:
        port = _PICK.randrange(12_000, 32_000)
        if port in _given:
            continue
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            _given.add(port)
            return port
