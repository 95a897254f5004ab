"""Keeps the wrapper's credentials from the programs that it runs.

A program gets a clean environment, but it runs as the same user, who could read its parent's
/proc/PID/environ and memory. So the block that the kernel shows there is overwritten, and the process
says that it may not be looked into (PR_SET_DUMPABLE): for other processes of the same user its files in
/proc are root's then. Both hold for what is forked from it; a program that is started is free of them.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from contextlib import suppress

_PR_SET_DUMPABLE = 4
_ENV_START, _ENV_END = 47, 48  # fields 50 and 51 of /proc/PID/stat, counted behind the name


def hide(environ: MutableMapping[str, str]) -> None:
    """Overwrite the environment that others see of this process, and keep others from looking into it.

    `environ` is os.environ: what it says stays, but for the registry's address.
    """
    environ.pop("KOALJA_REGISTRY", None)
    for name, text in list(environ.items()):
        environ[name] = text  # the C library gets a copy of its own, before the block is cleared
    with suppress(OSError, ValueError, IndexError):  # a kernel without these files shows nothing either
        _clear()
    _forbid_looking()


def _clear() -> None:
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[_ENV_START]), int(fields[_ENV_END])
    if 0 < start < end:
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            os.pwrite(memory.fileno(), bytes(end - start), start)


def _forbid_looking() -> None:
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
