"""Ports on loopback: a free one, and whether a process listens on one.

Whether somebody listens is read from the kernel's table, not tried: a connection that nobody meant would be a
request without a word to a small server. Where /proc/net has no such table a connection is tried.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

_LISTEN = "0A"


def _written(family: int, address: str) -> str:
    """An address as the kernel's tables write it: words of 32 bits, each in the machine's order."""
    packed = socket.inet_pton(family, address)
    return "".join(f"{word:08X}" for word in struct.unpack(f"={len(packed) // 4}I", packed))


# Where a socket listens that 127.0.0.1 leads to.
_OURS = frozenset(
    {
        _written(socket.AF_INET, "127.0.0.1"),
        _written(socket.AF_INET, "0.0.0.0"),  # noqa: S104  # others do; we don't
        _written(socket.AF_INET6, "::ffff:127.0.0.1"),
        _written(socket.AF_INET6, "::"),
    }
)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int, session: int) -> bool:
    """Whether a process of that session accepts connections at the port.

    The port may have been taken by a stranger meanwhile, so it matters who listens there.
    """
    inodes = set(_listening(port))
    if not inodes:
        return False
    return "" in inodes or any(inodes & _sockets(pid) for pid in _of_session(session))


def is_taken(port: int) -> bool:
    """Whether anybody accepts connections at the port."""
    return any(True for _ in _listening(port))


def _listening(port: int) -> Iterator[str]:
    """Inodes of the sockets that listen at the port; an empty one where no table says."""
    known = False
    for table in ("tcp", "tcp6"):
        with suppress(OSError), open(f"/proc/self/net/{table}") as file:
            known = True
            next(file)
            for line in file:
                fields = line.split()
                address, _, number = fields[1].rpartition(":")
                if fields[3] == _LISTEN and int(number, 16) == port and address in _OURS:
                    yield fields[9]
    if not known and _answers(port):
        yield ""


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _of_session(session: int) -> Iterator[int]:
    """Processes of a session, its leader first."""
    yield session
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit() and int(name) != session:
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                if int(file.read().rpartition(b") ")[2].split()[3]) == session:
                    yield int(name)


def _sockets(pid: int) -> set[str]:
    """Inodes of the sockets that a process has open."""
    found = set()
    with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            with suppress(OSError):
                link = os.readlink(entry.path)  # noqa: PTH115
                if link.startswith("socket:["):
                    found.add(link[8:-1])
    return found
