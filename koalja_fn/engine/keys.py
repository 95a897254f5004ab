"""Keys of executions: what an execution depends on, as one digest. Push and pull mode share them.

Same key, same answer: code, run line and environment (all in the code's version), what runs it, the bytes and
names' endings of all inputs in their order, and whoever answers its look-ups (DESIGN, section 8).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from koalja_fn.ids import derive
from koalja_fn.model import Circuit, Members, Task
from koalja_fn.program.located import Located
from koalja_fn.program.naming import ending

Answering = Sequence[tuple[str, int, str]]
"""For each wire that is asked: the row of the service's snapshot that answers now, and its code's version."""


def key_of(
    circuit: Circuit,
    task: Task,
    version: str,
    by: str,
    members: Sequence[Members],
    answering: Answering = (),
) -> str:
    """The key of one execution; `version` is its code's, `by` the digest of what runs it, if not its own."""
    fields: list[str | int] = [circuit.name, task.name, version, by]
    for wire in task.output_wires:
        fields += ["out", wire, circuit.wires[wire].type or ""]
    whole = "{snapshot}" in (task.run or "")  # then the program sees everything that is known of its values
    for member in members:
        fields += ["in", member.input, len(member.values)]
        for value in member.values:
            fields += [value.wire, value.digest, ending(value.type, value.name)]
            if whole:
                fields += [value.id, value.name, value.type]
    for wire, snapshot, of in answering:
        fields += ["asks", wire, snapshot, of]
    return derive("execution", *fields)


def runner_of(code: Located) -> Path | None:
    """The program that runs a task's code, such as an interpreter; None where the code runs itself."""
    by = Path(code.command[0])
    return None if by in code.files else by


class Runners:
    """Digests of what runs the tasks, each file read once for as long as it looks the same."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int, int], str]] = {}

    def digest(self, code: Located) -> str:
        """The digest of what runs a task's code; empty where that runs itself.

        Raises:
            OSError: It can't be read.
        """
        path = runner_of(code)
        if path is None:
            return ""
        status = path.stat()
        stamp = (status.st_size, status.st_mtime_ns, status.st_ino)
        known = self._known.get(path)
        if known is None or known[0] != stamp:
            with path.open("rb") as file:
                digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
            known = self._known[path] = (stamp, digest)
        return known[1]
