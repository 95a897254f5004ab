"""What can go wrong while a task is packed: one class, which knows the task and the phase.

The phases are those of the buildpacks' specification, with `source` before and `publish` after them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from koalja_fn.errors import KoaljaError, PackError

_TAIL = 40


class PhaseError(PackError):
    """A task can't be packed. The user mends code, buildpack or call; no image was published.

    `output` is what the buildpack itself said; its last lines are shown with the message.
    """

    def __init__(
        self, what: str, *, phase: str = "", task: str = "", why: str = "", cure: str = "", output: str = ""
    ) -> None:
        super().__init__(what, why=why, cure=cure)
        self.phase = phase
        self.task = task
        self.output = output

    def __str__(self) -> str:
        where = ", ".join(part for part in (self.task, self.phase) if part)
        text = super().__str__()
        lines = self.output.rstrip().splitlines()
        if lines:
            left = f"    … {len(lines) - _TAIL} lines before\n" if len(lines) > _TAIL else ""
            text += "\n  its output:\n" + left + "\n".join(f"    {line}" for line in lines[-_TAIL:])
        return f"{where}: {text}" if where else text


def named(error: KoaljaError, task: str, phase: str) -> PhaseError:
    """An error as one of a task and a phase, whatever it was before."""
    if isinstance(error, PhaseError):
        error.task = error.task or task
        error.phase = error.phase or phase
        return error
    told = PhaseError(error.what, phase=phase, task=task, why=error.why, cure=error.cure)
    told.__cause__ = error
    return told


@contextmanager
def phase(task: str, name: str) -> Iterator[None]:
    """Give errors the name of the task, and of the phase where they do not know it."""
    try:
        yield
    except (KoaljaError, OSError) as error:
        if isinstance(error, OSError):
            error = PhaseError(f"{name} failed", why=str(error))
        raise named(error, task, name) from error.__cause__
