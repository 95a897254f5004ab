"""Signposts: what a program wants remembered about its run, for the visitor log (paper, figure 9).

    from koalja_fn import signpost

    signpost.intent("averages the last ten readings")
    signpost.remark("two readings were out of range", dropped=2)

Each call appends one JSON line to the file named by $KOALJA_SIGNPOSTS. Outside a circuit, where that
variable is not set, the calls do nothing, so a program runs the same by hand. Standard library only;
a signpost never makes a program fail.
"""

from __future__ import annotations

import json
import os
import time

__all__ = ["file", "intent", "lookup", "remark"]


def remark(text: str, **fields: object) -> None:
    """Leave a remark: something worth knowing about this run."""
    _leave("remark", text, fields)


def intent(text: str, **fields: object) -> None:
    """Say what the program is about to do."""
    _leave("intent", text, fields)


def file(path: str | os.PathLike[str], text: str = "", **fields: object) -> None:
    """Say that a file outside the snapshot was read or written."""
    _leave("file", text, {"path": os.fspath(path), **fields})


def lookup(address: str, text: str = "", **fields: object) -> None:
    """Say that something was looked up elsewhere, and where."""
    _leave("lookup", text, {"address": address, **fields})


def _leave(kind: str, text: str, fields: dict[str, object]) -> None:
    place = os.environ.get("KOALJA_SIGNPOSTS")
    if not place:
        return
    line = {**fields, "kind": kind, "text": text, "at": time.time_ns() // 1000}
    data = json.dumps(line, default=str).encode() + b"\n"
    try:
        fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError:
        return
    try:
        os.write(fd, data)  # one write, so that lines of several processes don't mix
    except OSError:
        pass
    finally:
        os.close(fd)
