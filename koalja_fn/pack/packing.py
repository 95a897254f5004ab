"""Packing a circuit: each task an image, several at a time, and none that is there already."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from koalja_fn.errors import KoaljaError, NotFound, UsageError
from koalja_fn.model import Task
from koalja_fn.pack.collecting import Source, collect
from koalja_fn.pack.errors import PhaseError, named, phase
from koalja_fn.pack.ground import RECIPE_LABEL, Ground
from koalja_fn.pack.oci.image import mark_of
from koalja_fn.pack.oci.reference import LayoutTarget, Reference, Target, target
from koalja_fn.program.folder import Opened


@dataclass(frozen=True, slots=True)
class Packed:
    """What became of a task. `sent` and `spared` are bytes that travelled, or did not have to."""

    task: str
    image: str
    digest: str
    version: str
    changed: bool
    seconds: float
    sent: int = 0
    spared: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of all tasks, in the order of the circuit."""

    packed: tuple[Packed, ...]
    failures: tuple[PhaseError, ...] = ()


class Listener(Protocol):
    """Who is told how a packing goes; from several threads."""

    def step(self, task: str, text: str) -> None:
        """A task has come further, or its buildpack has said something."""

    def warn(self, task: str, text: str) -> None:
        """Something that the user should know."""

    def moved(self, task: str, size: int) -> None:
        """Bytes have left for the registry."""

    def done(self, packed: Packed) -> None:
        """A task is packed."""


_ASKING = 8

Standing = tuple[str, str | None] | None
"""The image that a tag means now: its digest, and the recipe that it was made by."""

Packer = Callable[[Source, Target, str, Listener], tuple[str, int, int]]
"""Makes and publishes one image: (digest, bytes sent, bytes spared)."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where images go: `PREFIX/CIRCUIT-TASK:latest`, or one folder with a tag for each task."""

    prefix: str = ""
    layout: Path | None = None
    names: dict[str, str] = field(default_factory=dict)

    def of(self, circuit: str, task: str) -> Target:
        """The place of one task's image."""
        if self.layout is not None:
            return LayoutTarget(self.layout, task)
        return Reference.parse(f"{self.prefix.rstrip('/')}/{circuit}-{task}")


def destination(to: str | None, output: str | None) -> Destination:
    """Read the two options.

    Raises:
        UsageError: Not exactly one is given, or it makes no sense.
    """
    if bool(to) == bool(output):
        raise UsageError(
            "where shall the images go?", cure="--to REGISTRY/PREFIX, or --output oci:DIR for a folder"
        )
    if to:
        if "@" in to or to.startswith("oci:"):
            raise UsageError(f"'{to}' is no prefix of names", cure="--to ghcr.io/me, or --output oci:DIR")
        Reference.parse(f"{to.rstrip('/')}/probe")
        return Destination(prefix=to)
    assert output is not None
    if not output.startswith("oci:"):
        raise UsageError(f"--output {output} is no folder of images", cure=f"--output oci:{output}")
    found = target(output)
    assert isinstance(found, LayoutTarget)
    return Destination(layout=found.folder)


def chosen(opened: Opened, names: Sequence[str]) -> list[Task]:
    """The tasks to pack: all, or those that are named."""
    assert opened.circuit is not None
    tasks = list(opened.circuit.tasks)
    unknown = [name for name in names if opened.circuit.task(name) is None]
    if unknown:
        raise NotFound(f"there is no task '{unknown[0]}'", why=f"tasks: {', '.join(t.name for t in tasks)}")
    return [task for task in tasks if not names or task.name in names]


def pack_circuit(
    opened: Opened,
    tasks: Sequence[Task],
    where: Destination,
    ground: Ground,
    packer: Packer,
    listener: Listener,
    *,
    jobs: int,
) -> Outcome:
    """Pack what changed. A task that fails keeps no other from being packed; it is told of at the end."""
    assert opened.circuit is not None
    circuit = opened.circuit.name

    def one(task: Task, standing: Future[Standing]) -> Packed | PhaseError:
        try:
            return _one(opened, task, where.of(circuit, task.name), standing, ground, packer, listener)
        except KoaljaError as error:
            return named(error, task.name, "pack")

    with (
        ThreadPoolExecutor(_ASKING, thread_name_prefix="ask") as asking,
        ThreadPoolExecutor(max(1, min(jobs, len(tasks) or 1)), thread_name_prefix="pack") as pool,
    ):
        base = asking.submit(lambda: ground.pin)
        standing = [asking.submit(standing_of, where.of(circuit, task.name), ground) for task in tasks]
        base.result()
        _ = ground.recipe  # what all have in common is looked up once, before threads ask for it
        found = list(pool.map(one, tasks, standing))
    return Outcome(
        tuple(f for f in found if isinstance(f, Packed)), tuple(f for f in found if isinstance(f, PhaseError))
    )


def _one(
    opened: Opened,
    task: Task,
    to: Target,
    standing: Future[Standing],
    ground: Ground,
    packer: Packer,
    listener: Listener,
) -> Packed:
    began = time.monotonic()
    with phase(task.name, "source"):
        source = _sourced(opened, task, ground, listener)
    return pack_source(source, to, standing.result, ground, packer, listener, began)


def pack_source(
    source: Source,
    to: Target,
    standing: Callable[[], Standing],
    ground: Ground,
    packer: Packer,
    listener: Listener,
    began: float,
) -> Packed:
    """Pack one source, if that is not what the tag means already; `standing` tells what it means.

    Raises:
        PhaseError: With task and phase.
    """
    name = source.task.name
    for left_out in source.left_out:
        listener.warn(name, f"{left_out} looks like a secret and is left out")
    with phase(name, "analyze"):
        recipe = ground.recipe_of(source.digest)
        stands = standing()
        digest = stands[0] if stands and stands[1] == recipe else None
    sent = spared = 0
    changed = digest is None
    if digest is None:
        listener.step(name, "packing")
        digest, sent, spared = packer(source, to, recipe, listener)
    packed = Packed(name, str(to), digest, source.version, changed, time.monotonic() - began, sent, spared)
    listener.done(packed)
    return packed


def _sourced(opened: Opened, task: Task, ground: Ground, listener: Listener) -> Source:
    source = collect(opened, task)
    if not _is_python(source):
        return source
    from koalja_fn.pack import requirements  # most tasks have none, and an unchanged one is told quickly

    if requirements.stands(source.root):
        return source
    if requirements.lock(source.root, ground.machine, ground.python[1]):
        text = f"what it asks for was resolved into {requirements.LOCK}: keep that with the source"
        listener.warn(task.name, text)
    return collect(opened, task)


def _is_python(source: Source) -> bool:
    names = {name for name, _ in source.files}
    return bool({"requirements.txt", "pyproject.toml", "requirements.lock"} & names)


def standing_of(to: Target, ground: Ground) -> Standing:
    """What a tag means now."""
    return mark_of(to, RECIPE_LABEL, ground.client, ground.choice.platform)


def embedded(ground: Ground) -> Packer:
    """The embedded packer on a ground."""

    def pack(source: Source, to: Target, recipe: str, listener: Listener) -> tuple[str, int, int]:
        from koalja_fn.pack.embedded import pack_task  # not needed where nothing has changed

        task = source.task.name
        done = pack_task(
            source,
            to,
            ground,
            recipe,
            lambda text: listener.step(task, text),
            lambda size: listener.moved(task, size),
        )
        return done.digest, done.sent, done.spared

    return pack
