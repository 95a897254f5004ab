"""Opening a circuit for pull mode: its model and code out of a cache where nothing of it has changed.

Parsing a wiring of a thousand tasks takes longer than asking whether it was parsed before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koalja_fn.model import Circuit
from koalja_fn.plain import circuit_of, plain_circuit
from koalja_fn.program.located import Located
from koalja_fn.pull.keeping import read, write
from koalja_fn.pull.looking import candidates, listing, still, surroundings
from koalja_fn.pull.stamps import settle, stamps
from koalja_fn.wiring.names import normalised

_CACHE = "circuit.json"


@dataclass(frozen=True, slots=True)
class Compiled:
    """A circuit with its code; `watched` decides what it is, with stamps. `fresh`: it was just parsed."""

    circuit: Circuit
    folder: Path
    located: dict[str, Located]
    watched: dict[str, Any]
    fresh: bool


def compiled(path: Path, state: Path) -> Compiled:
    """The circuit at `path`; `state` is where its cache lies.

    Raises:
        WiringError: The wiring has errors; all findings are in it.
        NotFound, UsageError: There is no circuit, or more than one.
    """
    found = _cached(path, state)
    return found if found is not None else _opened(path)


def _cached(path: Path, state: Path) -> Compiled | None:
    try:
        data = read(str(state), _CACHE)
        if data["surroundings"] != surroundings(str(path.resolve())) or not still(data["watched"]):
            return None
        return Compiled(
            circuit_of(data["circuit"]),
            Path(data["folder"]),
            {name: _located(one) for name, one in data["located"].items()},
            data["watched"],
            fresh=False,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # it is a cache


def _opened(path: Path) -> Compiled:
    from koalja_fn.program.folder import open_circuit

    opened = open_circuit(path)
    if opened.circuit is None:
        from koalja_fn.local.workplace import findings_error

        raise findings_error(opened)
    folder = opened.folder.resolve()
    watched = _watched(folder, opened.file, opened.circuit, opened.located)
    return Compiled(opened.circuit, folder, dict(opened.located), watched, fresh=True)


def _watched(
    folder: Path, file: Path | None, circuit: Circuit, located: Mapping[str, Located]
) -> dict[str, Any]:
    folders: set[str] = set()
    files = {str(file)} if file else set()
    for code in located.values():
        files |= {str(one) for one in code.files}
        folders |= {str(one.parent) for one in code.files}
        files.add(code.command[0])
        if code.code != folder or len(located) == 1:  # all of the folder is the task's
            folders |= _below(code.code)
    for one in {*folders, str(folder)}:
        files |= {f"{one}/{name}" for name in (".gitignore", ".koaljaignore")}
    tasks = sorted(normalised(task.name) for task in circuit.tasks)
    if file is not None:  # else each name in it could make it another circuit
        folders.discard(str(folder))
    else:
        folders.add(str(folder))
    return {
        "files": stamps(sorted(files)),
        "circuit": [str(folder), tasks, candidates(str(folder), set(tasks))],
        "folders": {one: listing(one) for one in sorted(folders)},
    }


def _below(folder: Path) -> set[str]:
    from koalja_fn.program.versions import IGNORED

    found = set()
    for parent, folders, _ in os.walk(folder):
        folders[:] = [name for name in folders if name not in IGNORED and not name.startswith(".")]
        found.add(parent)
    return found


def keep(found: Compiled, path: Path, state: Path) -> None:
    """Keep what was parsed for the next time."""
    settle(found.watched["files"].values())
    if not still(found.watched):
        return  # somebody is editing: the next one looks again
    data = {
        "surroundings": surroundings(str(path.resolve())),
        "watched": found.watched,
        "folder": str(found.folder),
        "circuit": plain_circuit(found.circuit),
        "located": {name: _plain(one) for name, one in found.located.items()},
    }
    write(str(state), _CACHE, data)


def _plain(code: Located) -> list[Any]:
    return [
        code.task,
        list(code.command),
        str(code.code),
        str(code.program) if code.program else None,
        [str(path) for path in code.files],
        code.version,
        code.explicit,
    ]


def _located(data: list[Any]) -> Located:
    task, command, code, program, files, version, explicit = data
    return Located(
        task,
        tuple(command),
        Path(code),
        Path(program) if program else None,
        tuple(Path(path) for path in files),
        version,
        explicit,
    )
