"""Stamps: what a look at a file's status tells of it, and whether it may have changed since.

Like `git` we trust size, times, and inode; a file that was changed within the clock's granularity of our
look could keep its stamp, so whoever keeps stamps lets that time pass first (`settle`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping

Stamp = tuple[int, int, int, int]
"""Size, time of change of the content (ns), of the status (ns), inode."""

GONE: Stamp = (-1, 0, 0, 0)
# ns; files are stamped by the kernel's coarse clock, which ticks every 1 to 10 ms.
_COARSE = 5  # CLOCK_REALTIME_COARSE in linux/time.h
_GRANULARITY = 2 * round(time.clock_getres(_COARSE) * 1e9)


def stamp(path: str | os.PathLike[str]) -> Stamp:
    """The file's stamp, behind links; `GONE` where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116  # thousands of them
    except OSError:
        return GONE
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def stamps(paths: Iterable[str]) -> dict[str, Stamp]:
    """The stamps of several files."""
    return {path: stamp(path) for path in paths}


def unchanged(known: Mapping[str, Iterable[int]]) -> bool:
    """Whether all files have the stamps that they had."""
    return all(stamp(path) == tuple(was) for path, was in known.items())


def differing(known: Mapping[str, Iterable[int]]) -> list[str]:
    """The files that have another stamp than they had."""
    return [path for path, was in known.items() if stamp(path) != tuple(was)]


def settle(known: Iterable[Stamp]) -> None:
    """Wait until a later change of any of these files would show in its stamp."""
    newest = max((max(mtime, ctime) for _, mtime, ctime, _ in known), default=0)
    age = time.time_ns() - newest
    if 0 <= age < _GRANULARITY:
        time.sleep((_GRANULARITY - age) / 1e9)
