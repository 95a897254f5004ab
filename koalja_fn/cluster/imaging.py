"""The images that a deployment needs: one for each task, and the entry's; packed, or only looked up."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from koalja_fn.cluster.names import ENTRY
from koalja_fn.errors import KoaljaError, PackError
from koalja_fn.program.folder import Opened

TO_BE_PACKED = "sha256:" + "0" * 64
"""Stands for the digest of an image that is not packed yet, where a plan is only shown."""


@dataclass(frozen=True, slots=True)
class Images:
    """For each task, and for "entry", the reference with its digest; and each task's code version.

    `changed` are the tasks whose images are new, or would be.
    """

    references: Mapping[str, str]
    versions: Mapping[str, str]
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Packing:
    """How to pack: see the options of `koalja-fn pack`."""

    prefix: str
    run_image: str = ""
    builder: str = ""
    packer: str = "auto"
    insecure: bool = False
    jobs: int = 0


def pack(opened: Opened, how: Packing, listener: Any) -> Images:
    """Pack what changed, all at once, and push it.

    Raises:
        PackError: Something could not be packed; all of it is told.
    """
    from koalja_fn.pack import packing
    from koalja_fn.pack.entry import entry_source

    assert opened.circuit is not None
    circuit = opened.circuit
    with _ground(how) as (where, ground, way):
        to = where.of(circuit.name, ENTRY)

        def entry() -> packing.Packed:
            began = time.monotonic()
            return packing.pack_source(
                entry_source(), to, lambda: packing.standing_of(to, ground), ground, way, listener, began
            )

        with ThreadPoolExecutor(1, thread_name_prefix="entry") as pool:
            beside = pool.submit(entry)
            jobs = how.jobs or len(os.sched_getaffinity(0))
            outcome = packing.pack_circuit(
                opened, list(circuit.tasks), where, ground, way, listener, jobs=jobs
            )
        failures: list[KoaljaError] = list(outcome.failures)
        try:
            every = [*outcome.packed, beside.result()]
        except KoaljaError as error:
            failures.append(error)
        if failures:
            raise PackError("\n".join(str(one) for one in failures))
    return Images(
        {one.task: f"{one.image.partition('@')[0]}@{one.digest}" for one in every},
        {one.task: one.version for one in outcome.packed},
        tuple(one.task for one in every if one.changed),
    )


def look_up(opened: Opened, how: Packing) -> Images:
    """The images as packing would leave them; those that it would make have no digest yet."""
    from koalja_fn.pack import packing
    from koalja_fn.pack.collecting import collect
    from koalja_fn.pack.entry import entry_source

    assert opened.circuit is not None
    circuit = opened.circuit
    with _ground(how) as (where, ground, _):
        sources = {task.name: collect(opened, task) for task in circuit.tasks}
        references, changed = {}, []
        for name, source in {**sources, ENTRY: entry_source()}.items():
            to = where.of(circuit.name, name)
            standing = packing.standing_of(to, ground)
            same = standing is not None and standing[1] == ground.recipe_of(source.digest)
            references[name] = f"{to}@{standing[0] if same and standing else TO_BE_PACKED}"
            if not same:
                changed.append(name)
    versions = {name: source.version for name, source in sources.items()}
    return Images(references, versions, tuple(changed))


@contextmanager
def _ground(how: Packing) -> Iterator[tuple[Any, Any, Any]]:
    """Where images go, what they are made upon, and who makes them."""
    from koalja_fn.pack import foreign, packing
    from koalja_fn.pack.ground import Choice, Ground
    from koalja_fn.pack.oci.client import RegistryClient

    where = packing.destination(how.prefix, None)
    choice = Choice(how.run_image, how.builder)
    name, _ = foreign.choose(how.packer, layout=False, run_image=bool(how.run_image and not how.builder))
    with RegistryClient(insecure=how.insecure) as client:
        ground = Ground(choice, client)
        yield where, ground, foreign.packer(choice, client) if name == "pack" else packing.embedded(ground)
