"""The seam between a call and the way its process comes to be.

Two ways: `Spawning`, a fresh process for each call, and `warm.Warm`, which forks Python programs from a
template. Nothing else knows how programs start.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Start:
    """All that a process is made of. `stdout` and `stderr` are open descriptors; stdin is /dev/null.

    `warm` says that it may come from a template.
    """

    argv: Sequence[str]
    cwd: str
    environ: Mapping[str, str]
    stdout: int
    stderr: int
    warm: bool = False


class Process(Protocol):
    """A process that leads a session of its own. Its pid stays its own until it is reaped."""

    @property
    def pid(self) -> int:
        """Its pid."""
        ...

    @property
    def remark(self) -> str:
        """What is to be said of its start; mostly nothing."""
        ...

    def reap(self) -> tuple[int, float]:
        """Wait until it has ended; return its wait status and its processor time in seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Child:
    """A child of this process."""

    pid: int
    remark: str = ""

    def reap(self) -> tuple[int, float]:
        """Wait until it has ended; return its wait status and its processor time in seconds."""
        _, state, usage = os.wait4(self.pid, 0)
        return state, usage.ru_utime + usage.ru_stime


class Starter(Protocol):
    """Makes processes. Called from many threads at once.

    Raises:
        OSError: The program could not be started; errno says why.
    """

    def __call__(self, start: Start) -> Process:
        """Start a program."""
        ...

    def close(self) -> None:
        """Let go of what is kept ready; no call may be under way."""
        ...


class Spawning:
    """A fresh process for each call.

    `subprocess` uses vfork here and costs 0.06 ms more than `os.posix_spawn` (0.14 ms against
    0.07 ms of our own time, of 0.9 ms in all); posix_spawn can't set the working folder, and a helper
    program that sets it (`env -C`) costs 0.75 ms.
    """

    def __call__(self, start: Start) -> Child:
        """Start a program."""
        process = subprocess.Popen(
            start.argv,
            cwd=start.cwd,
            env=start.environ,
            stdin=subprocess.DEVNULL,
            stdout=start.stdout,
            stderr=start.stderr,
            start_new_session=True,
            close_fds=True,
        )
        # We reap it ourselves: Popen must neither wait for it nor complain that nobody did.
        process.returncode = 0
        return Child(process.pid)

    def close(self) -> None:
        """There is nothing to let go of."""
