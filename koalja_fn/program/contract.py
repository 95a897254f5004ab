"""What goes into a call of the user's program, and what comes out of it: frozen data.

Knows nothing of processes. DESIGN section 6, seen from the engine: a `Job` says what to call with
which files, a `Result` what became of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from koalja_fn.model import AnnotatedValue
from koalja_fn.program.signposts import Signpost


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a program may go. Sizes are in bytes, times in seconds.

    `log` bounds each of standard error and a standard output that is log: beyond it the older part
    is dropped, the program goes on. `outputs` bounds what one execution may write in all, `files`
    how many values: beyond them it is ended and has failed.
    """

    log: int = 64 << 20
    tail: int = 16 << 10
    outputs: int = 10 << 30
    files: int = 100_000
    signposts: int = 1 << 20
    grace: float = 2.0


@dataclass(frozen=True, slots=True)
class Job:
    """One execution: a task's command on one snapshot.

    `command` is the run line as words, placeholders left in; its first word is a path (relative
    ones count from `folder`, the circuit's) or a name on PATH. `code` becomes $KOALJA_CODE. `inputs`
    has the stream inputs (not implicit ones) in the order of the wiring, values in order of
    arrival. `types` has the media types that the wiring gives for output wires. `label` names the
    scratch folder if it is kept: the task and snapshot when empty.
    `warm` says that a Python program may be forked from a template.
    """

    circuit: str
    task: str
    command: tuple[str, ...]
    folder: Path
    code: Path
    snapshot_id: str
    inputs: tuple[tuple[str, tuple[AnnotatedValue, ...]], ...] = ()
    outputs: tuple[str, ...] = ()
    types: tuple[tuple[str, str], ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    timeout: float | None = None
    label: str = ""
    warm: bool = False


class Reason(StrEnum):
    """Why a call failed; empty where it did not."""

    NONE = ""
    EXIT = "exit"
    SIGNAL = "signal"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    NOT_STARTED = "not started"
    OUTPUTS = "outputs"
    INPUTS = "inputs"
    LOOKUP = "look-up"


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One value that the program wrote: a regular file below the scratch folder, owned by us.

    `index` counts from 0 on its wire, in byte order of `name`, which is the file's name below
    $KOALJA_OUT/WIRE, or empty where the wire has one value only.
    """

    wire: str
    index: int
    name: str
    path: Path
    type: str
    size: int


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a call.

    `status` is the exit status, `signal` the signal that ended it; both are None where it was not
    started. `message` is for people: empty on success. `permanent` says that another try of the
    same call would fail in the same way. `outputs` is empty unless it succeeded: all or none.
    `log` is the tail of a standard output that is no value, `stderr` that of standard error.
    `seconds` is the program's own time, `cpu` its processor time. `scratch` is its folder: give the
    result to `Caller.discard` once the outputs are stored; after a failure it is where the folder
    was kept, for a person to look at.
    """

    reason: Reason
    message: str = ""
    status: int | None = None
    signal: int | None = None
    permanent: bool = False
    outputs: tuple[OutputFile, ...] = ()
    log: str = ""
    stderr: str = ""
    seconds: float = 0.0
    cpu: float = 0.0
    argv: tuple[str, ...] = ()
    signposts: tuple[Signpost, ...] = ()
    remarks: tuple[str, ...] = ()
    scratch: Path | None = None

    @property
    def ok(self) -> bool:
        """Whether its outputs may be committed."""
        return self.reason is Reason.NONE
