"""Asking: a circuit is asked for wires, and the answer as plain data.

Where an earlier run's trail holds, nothing else is imported: the answer is there at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from koalja_fn.pull import trail

if TYPE_CHECKING:
    from pathlib import Path

    from koalja_fn.program.cancel import Cancel


@dataclass(frozen=True, slots=True)
class Options:
    """How to build. `dry`: tell what would be run, and run nothing. `told` hears what happens, in words.

    `publish`: place the results on their wires as well, where push links see them.
    """

    jobs: int
    dry: bool = False
    keep_going: bool = False
    most: int | None = None
    told: Callable[[str], None] = lambda _: None
    publish: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """An execution that failed."""

    task: str
    number: int
    message: str
    stderr: str
    scratch: Path | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a run came to. `wires` has for each wanted wire its values as plain data, in order.

    `made` is (task, number from 1, why) for each execution that was run, or would be; `cached` how many were
    known. `held_up` tasks lack what others failed to make (in a dry run: what is still to be made).
    """

    circuit: str
    wires: dict[str, list[dict[str, Any]]]
    made: list[tuple[str, int, str]] = field(default_factory=list)
    cached: int = 0
    failures: list[Failure] = field(default_factory=list)
    held_up: list[str] = field(default_factory=list)
    left: dict[str, dict[str, int]] = field(default_factory=dict)
    interrupted: bool = False
    unchanged: bool = False


def ask(
    path: Path,
    wanted: Sequence[str],
    options: Options,
    stop: Cancel,
    *,
    patience: float = 0.0,
    trusting: bool = True,
) -> Answer:
    """Bring wires of the circuit at `path` up to date; all its ends where none is wanted.

    A run with nothing to do believes that payloads are still in the store which no `to` names. Whoever finds
    that one is not asks again without `trusting`.

    Raises:
        WiringError, UsageError, NotFound: It can't be asked for that.
        Busy: Another process has the folder, and still has after `patience` seconds.
        StoreError, RegistryError: Disk trouble.
    """
    earlier = None if options.publish or not trusting else trail.follow(str(path), wanted, options.most)
    if earlier is not None and not earlier.changed:
        cached = sum(earlier.counts.values())
        return Answer(earlier.circuit, dict(earlier.wires), cached=cached, unchanged=True)
    from koalja_fn.pull.make import make

    return make(path, wanted, options, stop, patience, earlier)
