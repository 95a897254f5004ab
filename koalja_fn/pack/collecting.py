"""What goes into a task's image: the files that make its version, checked, and a note for the runtime.

Which files those are is found in one place for engine and packer alike (`program/belonging.py`).
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from koalja_fn.model import Circuit, Task
from koalja_fn.pack.errors import PhaseError
from koalja_fn.pack.requirements import LOCK
from koalja_fn.plain import plain_task, plain_wire
from koalja_fn.program.confidential import is_secret
from koalja_fn.program.folder import Opened
from koalja_fn.program.locating import Located, with_lock

NOTE = ".koalja/task.json"
LABELS = ".koalja/labels.toml"
VERSION_LABEL = "dev.koalja.version"
_DECLARING = frozenset({"requirements.txt", "pyproject.toml", LOCK})


@dataclass(frozen=True, slots=True)
class Source:
    """What goes into the image of a task: (path in the application's folder, file here).

    `left_out` are files that look like secrets, relative to the folder.
    """

    task: Task
    root: Path
    files: tuple[tuple[str, Path], ...]
    left_out: tuple[str, ...]
    version: str
    note: dict[str, Any] = field(repr=False)

    @property
    def digest(self) -> str:
        """A digest of all that: the version stands for the files, and the note holds it."""
        return "sha256:" + hashlib.sha256(json.dumps(self.note, sort_keys=True).encode()).hexdigest()


def collect(opened: Opened, task: Task) -> Source:
    """The source of one task.

    Raises:
        PhaseError: A link leaves the folder, or there is something that is no file.
    """
    circuit = opened.circuit
    assert circuit is not None
    located = opened.located[task.name]
    root = _root(opened, located)
    lock = root / LOCK
    if lock.is_file() and any(path.parent == root and path.name in _DECLARING for path in located.files):
        located = with_lock(located, task, opened.folder, lock)  # it may be newer than the circuit's opening
    files: dict[str, Path] = {}
    for path in located.files:
        files[_checked(path, root)] = path
    program = located.program
    own = program.relative_to(root).as_posix() if program and program.is_relative_to(root) else None
    if own is not None and is_secret(own):
        raise PhaseError(
            f"the program {own} is not packed", phase="source", why="it looks like a secret", cure="rename it"
        )
    note = _note(
        circuit, task, located, "task" if root != opened.folder else "circuit", own, opened.file is None
    )
    return Source(task, root, tuple(sorted(files.items())), located.left_out, located.version, note)


def _root(opened: Opened, located: Located) -> Path:
    """What becomes the application's folder: the circuit's, or the one that a task has for itself."""
    inside = located.code.is_relative_to(opened.folder) and located.code.is_dir()
    return located.code if inside else opened.folder


def _checked(path: Path, root: Path) -> str:
    """Where a file lies in the application's folder.

    Raises:
        PhaseError: It is outside, a link that leads outside, no file, or can't be read.
    """
    if not path.is_relative_to(root):
        raise PhaseError(
            f"{os.path.relpath(path, root)} leaves the folder",
            phase="source",
            why="only what lies in the folder of the task goes into its image",
            cure="move the file into the folder",
        )
    inside = path.relative_to(root).as_posix()
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        text = path.readlink()
        goal = (path.parent / text).resolve()
        if text.is_absolute() or not goal.is_relative_to(root.resolve()):
            raise PhaseError(
                f"the link {inside} leaves the folder",
                phase="source",
                why=f"it points to {text}, which is not in the image",
                cure="copy the file into the folder, or name the link in .koaljaignore",
            )
    elif not stat.S_ISREG(found.st_mode):
        raise PhaseError(f"{inside} is no file", phase="source", cure="name it in .koaljaignore")
    elif not os.access(path, os.R_OK):
        raise PhaseError(f"{inside} can't be read", phase="source", cure=f"chmod u+r {inside}")
    return inside


def _note(
    circuit: Circuit, task: Task, located: Located, kind: str, program: str | None, unwired: bool
) -> dict[str, Any]:
    """What the runtime is told: enough to find the task's code as it was found here."""
    return {
        "format": 1,
        "circuit": circuit.name,
        "task": task.name,
        "version": located.version,
        "root": kind,
        "program": program,
        "unwired": unwired,
        "model": wiring_of(circuit, task),
    }


def wiring_of(circuit: Circuit, task: Task) -> dict[str, Any]:
    """A task with its wires as plain data; without places in the text, which comments change."""
    names = {w for i in task.inputs for w in i.wires} | {o.wire for o in task.outputs}
    wires = [plain_wire(circuit.wires[name]) for name in sorted(names & set(circuit.wires))]
    return {"task": plain_task(task), "wires": wires}


def labels_text(labels: Iterable[tuple[str, str]]) -> str:
    """Labels as a `launch.toml` has them, for our buildpack to hand on."""
    return "".join(
        f"[[labels]]\nkey = {json.dumps(key)}\nvalue = {json.dumps(value)}\n\n" for key, value in labels
    )
