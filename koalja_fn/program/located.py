"""Where a task's code is, once it was found (`locating`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Located:
    """A task's code.

    `command` are the words to run, placeholders left in; the first is an absolute path. `code` is the folder
    that the program knows as its own, `program` the user's file (None where it came from PATH), `files` what
    makes the `version` and an image. `explicit` says that the command is a run line, which may place the
    files itself. `left_out` are files that look like secrets, relative to the code's folder.
    """

    task: str
    command: tuple[str, ...]
    code: Path
    program: Path | None
    files: tuple[Path, ...]
    version: str
    explicit: bool
    left_out: tuple[str, ...] = ()
