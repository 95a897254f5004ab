"""How times, ids and ranges are written: local time for people, ISO in UTC for programs."""

from __future__ import annotations

from datetime import UTC, datetime

from koalja_fn.engine.usual import duration, size

__all__ = ["digest", "duration", "iso", "local", "plural", "positions", "short", "size", "version"]

# Digits of an id that people see; enough for some billions of values.
_SHORT = 12


def iso(at: int) -> str | None:
    """A time in UTC, for programs; None where there is none."""
    if not at:
        return None
    return (
        datetime.fromtimestamp(at // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{at % 1_000_000:06d}Z"
    )


def local(at: int) -> str:
    """A time in the zone of this machine, for people: 2026-07-01 13:40:04.123 +0200 CEST."""
    moment = datetime.fromtimestamp(at // 1_000_000, UTC).astimezone()
    return f"{moment:%Y-%m-%d %H:%M:%S}.{at % 1_000_000 // 1000:03d} {moment:%z %Z}"


def short(id: str) -> str:
    """The beginning of an id."""
    return id[:_SHORT]


def digest(text: str) -> str:
    """The beginning of a digest, with its algorithm."""
    algorithm, _, rest = text.partition(":")
    return f"{algorithm}:{rest[:_SHORT]}" if rest else text[:_SHORT]


def version(text: str) -> str:
    """The beginning of a version of code."""
    return text.removeprefix("sha256:")[:_SHORT]


def positions(first: int, last: int) -> str:
    """A range of positions, from 1, as in the names of files: 0003 or [0001..0010]."""
    return f"{first + 1:04d}" if first == last else f"[{first + 1:04d}..{last + 1:04d}]"


def plural(count: int, word: str, many: str = "") -> str:
    """A number with its word: 1 value, 2 values."""
    return f"{count} {word if count == 1 else many or word + 's'}"
