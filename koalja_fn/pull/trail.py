"""Trails: what a run has looked at, with stamps, so that the next one can see at once that nothing changed.

A trail is followed with one look at each file: wiring, code, sources, what was written. Where a single
stamp or a single name differs it is not believed, and all is looked at anew. Following one is all that a
`make` with nothing to do runs, so this imports next to nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from koalja_fn.pull import keeping
from koalja_fn.pull.looking import still, surroundings
from koalja_fn.pull.stamps import Stamp, settle, stamps, unchanged

if TYPE_CHECKING:
    from pathlib import Path

    from koalja_fn.local.patterns import Pattern
    from koalja_fn.pull.opening import Compiled
    from koalja_fn.pull.runs import Built

_STATE = ".koalja"


def follow(path: str, wanted: Sequence[str], most: int | None) -> dict[str, Any] | None:
    """The answer of an earlier run to the same question, if all is as that run left it."""
    real = os.path.realpath(path)
    folder = real if os.path.isdir(real) else os.path.dirname(real)  # noqa: PTH112, PTH120
    try:
        data: dict[str, Any] = keeping.read(f"{folder}/{_STATE}", _name(real, wanted, most))
        if data["surroundings"] != surroundings(real) or not still(data["watched"]):
            return None
        if not unchanged(data["files"]) or not _listed(data):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return data


def leave(
    state: Path,
    path: Path,
    wanted: Sequence[str],
    most: int | None,
    found: Compiled,
    built: Built,
    written: Iterable[Path],
    wires: Mapping[str, Any],
) -> None:
    """Leave a trail behind a run that brought everything up to date."""
    looked: dict[str, Stamp] = {str(sample.path): sample.stamp for sample in built.samples}
    looked |= stamps(map(str, written))
    settle(looked.values())
    real = os.path.realpath(path)
    data = {
        "surroundings": surroundings(real),
        "watched": found.watched,
        "files": looked,
        "folder": str(found.folder),
        "only": [str(p.base / p.only) for p, names in built.listed if p.only and not names],
        "patterns": [[p.wire, p.text, list(names)] for p, names in built.listed if not p.only],
        "circuit": found.circuit.name,
        "cached": built.cached + len(built.made),
        "wires": dict(wires),
    }
    if still(found.watched) and unchanged(looked):
        keeping.write(str(state), _name(real, wanted, most), data)


def _name(path: str, wanted: Sequence[str], most: int | None) -> str:
    question = "\0".join([path, str(most), *sorted(wanted)])
    return hashlib.sha256(question.encode("utf-8", "surrogateescape")).hexdigest()[:24] + ".json"


def _listed(data: Mapping[str, Any]) -> bool:
    """Whether the patterns of the sources still have the same files."""
    if any(os.path.lexists(path) for path in data["only"]):
        return False
    if not data["patterns"]:
        return True
    from pathlib import Path

    from koalja_fn.local.patterns import pattern

    def names(found: Pattern) -> list[str]:
        return [str(path) for path in found.files()]

    folder = Path(data["folder"])
    return all(names(pattern(wire, text, folder)) == was for wire, text, was in data["patterns"])
