"""Derived identities: the same thing gets the same id, however often it is done again.

An id is the SHA-256, in hexadecimal, over fields each preceded by its length, so that no two
different lists of fields can run together into the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass


def derive(kind: str, *fields: str | int) -> str:
    """Hash `kind` and `fields`, each as its UTF-8 text behind an eight-byte length."""
    digest = hashlib.sha256()
    for part in (kind, *fields):
        data = str(part).encode("utf-8", "surrogateescape")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


def ingested_value(circuit: str, wire: str, event_source: str, event_id: str) -> str:
    """Id of a value from outside: the same event delivered twice is one value."""
    return derive("value", circuit, wire, event_source, event_id)


def output_value(snapshot: str, wire: str, index: int) -> str:
    """Id of an output, by its index among the outputs on that wire in byte order of names."""
    return derive("output", snapshot, wire, index)


@dataclass(frozen=True, slots=True)
class Range:
    """One input's window for a snapshot's id: first and last AV id, how many, and from which position."""

    input: str
    first: str
    last: str
    count: int
    position: int


def snapshot(circuit: str, task: str, epoch: int, generation: int, windows: Iterable[Range]) -> str:
    """Id of a snapshot; windows in the order of the wiring."""
    fields: list[str | int] = [circuit, task, epoch, generation]
    for w in windows:
        fields += [w.input, w.first, w.last, w.count, w.position]
    return derive("snapshot", *fields)


def scheduled_snapshot(circuit: str, task: str, epoch: int, generation: int, instant: int) -> str:
    """Id of a snapshot of a task without inputs, by the instant (microseconds) it was due."""
    return derive("scheduled", circuit, task, epoch, generation, instant)


def ghost(walk: str, wire: str) -> str:
    """Id of the ghost that a walk has on a wire."""
    return derive("ghost", walk, wire)


def fresh_event_id(now_us: int, entropy: bytes) -> str:
    """Id of an event that has none of its own, drawn before the first try; sorts by time (microseconds)."""
    return f"{now_us:015x}-{entropy.hex()}"
