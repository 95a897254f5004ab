"""The names by which programs on this machine reach it, and nobody else."""

from __future__ import annotations

from collections.abc import Collection

LOOPBACK = frozenset(("localhost", "127.0.0.1", "[::1]"))


def is_own(host: str, hosts: Collection[str] = LOOPBACK) -> bool:
    """Whether a Host header, with or without a port, has one of these names."""
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return name.lower() in hosts
