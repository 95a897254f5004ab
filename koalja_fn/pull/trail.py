"""Trails: what a run has looked at, with stamps, so that the next one can see at once that nothing changed.

A trail is followed with one look at each file: wiring, code, sources, what was written. Where a single
name of wiring or code differs it is not believed, and all is looked at anew; where sources or results differ,
only what comes from them is (see `narrowing`). Following one is all that a `make` with nothing to do runs, so
this imports next to nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from koalja_fn.pull import keeping
from koalja_fn.pull.looking import still, surroundings
from koalja_fn.pull.stamps import Stamp, differing, settle

if TYPE_CHECKING:
    from pathlib import Path

    from koalja_fn.local.patterns import Pattern

_STATE = ".koalja"


@dataclass(frozen=True, slots=True)
class Trail:
    """What a run found and left: stamps of its sources by wire, of the files that it wrote, its answer.

    `counts` are the executions of each task. `only` are sources that had no file, `patterns` those with the
    names they had. `changed` are files that are not what they were: empty just after a run.
    """

    folder: str
    circuit: str
    sources: Mapping[str, Mapping[str, Stamp]]
    written: Mapping[str, Stamp]
    only: Sequence[str]
    patterns: Sequence[Sequence[Any]]
    counts: Mapping[str, int]
    wires: Mapping[str, list[dict[str, Any]]]
    changed: Sequence[str] = ()


def follow(path: str, wanted: Sequence[str], most: int | None) -> Trail | None:
    """What an earlier run of the same question left, if circuit and code are as they were then.

    Its answer still holds where nothing is `changed`; else for all that does not come from what is.
    """
    real = os.path.realpath(path)
    folder = real if os.path.isdir(real) else os.path.dirname(real)  # noqa: PTH112, PTH120
    try:
        data: dict[str, Any] = keeping.read(f"{folder}/{_STATE}", _name(real, wanted, most))
        if data["surroundings"] != surroundings(real) or not still(data["watched"]):
            return None
        found = Trail(**data["found"])
        if not _listed(found):
            return None
        changed = [path for files in (*found.sources.values(), found.written) for path in differing(files)]
        return Trail(**data["found"], changed=changed) if changed else found
    except (OSError, ValueError, KeyError, TypeError):
        return None


def leave(
    state: Path, path: Path, wanted: Sequence[str], most: int | None, found: Trail, watched: dict[str, Any]
) -> None:
    """Leave a trail behind a run that brought everything up to date. `watched`: of the opened circuit."""
    looked = [*found.sources.values(), found.written]
    settle(stamp for files in looked for stamp in files.values())
    real = os.path.realpath(path)
    names = ("folder", "circuit", "sources", "written", "only", "patterns", "counts", "wires")
    data = {
        "surroundings": surroundings(real),
        "watched": watched,
        "found": {name: getattr(found, name) for name in names},
    }
    if still(watched):
        keeping.write(str(state), _name(real, wanted, most), data)


def _name(path: str, wanted: Sequence[str], most: int | None) -> str:
    question = "\0".join([path, str(most), *sorted(wanted)])
    return hashlib.sha256(question.encode("utf-8", "surrogateescape")).hexdigest()[:24] + ".json"


def _listed(found: Trail) -> bool:
    """Whether the patterns of the sources still have the same files."""
    if any(os.path.lexists(path) for path in found.only):
        return False
    if not found.patterns:
        return True
    from pathlib import Path

    from koalja_fn.local.patterns import pattern

    def names(which: Pattern) -> list[str]:
        return [str(path) for path in which.files()]

    folder = Path(found.folder)
    return all(names(pattern(wire, text, folder)) == was for wire, text, was in found.patterns)
