"""Looking: whether anything that decides what a circuit is, or what was made, is not what it was.

This is all that a `make` with nothing to do runs, so it imports next to nothing.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Set as AbstractSet
from typing import Any

from koalja_fn import __version__
from koalja_fn.pull.stamps import unchanged
from koalja_fn.wiring.names import normalised

_FORMAT = 2


def surroundings(path: str) -> list[Any]:
    """What else decides: this program's version, where programs are looked for, and whose registry it is."""
    return [_FORMAT, __version__, list(sys.version_info[:3]), path, os.environ.get("PATH", ""), named_home()]


def named_home() -> str:
    """Which registry and store the environment names, as a digest: an address may have a password in it."""
    registry = os.environ.get("KOALJA_REGISTRY")
    if not registry:
        return ""
    servers = ("KOALJA_STORE", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    named = [registry, *(os.environ.get(name, "") for name in servers)]
    return hashlib.sha256("\0".join(named).encode("utf-8", "surrogateescape")).hexdigest()[:24]


def listing(folder: str) -> list[str]:
    """The names in a folder that are part of a task's code."""
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return []
    return sorted(name for name in names if not name.startswith("."))


def candidates(folder: str, tasks: AbstractSet[str]) -> list[str]:
    """The names in the circuit's folder that could be a wiring, a task's program, or a module."""
    return [
        name
        for name in listing(folder)
        if name.endswith((".koalja", ".py")) or {normalised(name), normalised(_stem(name))} & tasks
    ]


def still(watched: dict[str, Any]) -> bool:
    """Whether nothing that was watched has changed."""
    if not unchanged(watched["files"]):
        return False
    folder, tasks, names = watched["circuit"]
    if candidates(folder, set(tasks)) != names:
        return False
    return all(listing(folder) == names for folder, names in watched["folders"].items())


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name
