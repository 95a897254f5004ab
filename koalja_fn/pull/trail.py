"""Trails: what a run has looked at, with stamps, so that the next one can see at once that nothing changed.

A trail is followed with one look at each file: wiring, code, sources, what was written. Where a single
stamp or a single name differs it is not believed, and all is looked at anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koalja_fn.ids import derive
from koalja_fn.local.patterns import pattern
from koalja_fn.pull.opening import Compiled, still, surroundings, write
from koalja_fn.pull.stamps import Stamp, settle, stamps, unchanged

if TYPE_CHECKING:
    from koalja_fn.pull.runs import Built


def key_of(path: Path, wanted: Sequence[str], most: int | None) -> str:
    """The name of the trail for one question."""
    return derive("trail", str(path.resolve()), *sorted(wanted), "most", str(most))[:24]


def follow(state: Path, key: str) -> dict[str, Any] | None:
    """The answer of an earlier run, if all is as that run left it."""
    try:
        data: dict[str, Any] = json.loads((state / "make" / f"{key}.json").read_bytes())
        if data["surroundings"] != surroundings(Path(data["path"])):
            return None
        if not (
            still(data["watched"])
            and unchanged(data["files"])
            and _listed(data["patterns"], Path(data["folder"]))
        ):
            return None
        return data
    except (OSError, ValueError, KeyError, TypeError):
        return None


def leave(
    state: Path,
    key: str,
    path: Path,
    found: Compiled,
    built: Built,
    written: Mapping[str, Mapping[str, Path]],
    wires: Mapping[str, Any],
) -> None:
    """Leave a trail behind a run that brought everything up to date."""
    looked: dict[str, Stamp] = {str(sample.path): sample.stamp for sample in built.samples}
    looked |= stamps(str(place) for places in written.values() for place in places.values())
    settle(looked.values())
    data = {
        "path": str(path),
        "surroundings": surroundings(path),
        "watched": found.watched,
        "files": looked,
        "folder": str(found.folder),
        "patterns": [[pattern.wire, pattern.text, list(names)] for pattern, names in built.listed],
        "circuit": found.circuit.name,
        "cached": built.cached + len(built.made),
        "wires": dict(wires),
    }
    if still(found.watched) and unchanged(looked):
        write(state / "make" / f"{key}.json", data)


def _listed(patterns: Sequence[Any], folder: Path) -> bool:
    """Whether the patterns of the sources still have the same files."""
    return all(list(map(str, pattern(wire, text, folder).files())) == names for wire, text, names in patterns)
