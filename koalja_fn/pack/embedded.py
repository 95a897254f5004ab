"""The embedded packer: from analysis to export and publishing of one task, with no engine and no root."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from koalja_fn.errors import KoaljaError
from koalja_fn.pack import requirements
from koalja_fn.pack.building import build
from koalja_fn.pack.collecting import LABELS, NOTE, VERSION_LABEL, Source, labels_text
from koalja_fn.pack.detecting import detect
from koalja_fn.pack.errors import phase
from koalja_fn.pack.exporting import Exported, export
from koalja_fn.pack.ground import RECIPE_LABEL, Ground
from koalja_fn.pack.labels import Previous
from koalja_fn.pack.oci.image import BaseImage, annotated, load_base
from koalja_fn.pack.oci.publishing import Published, publish
from koalja_fn.pack.oci.reference import Target
from koalja_fn.pack.restoring import Cache
from koalja_fn.pack.site import HostOnly, Site, open_site

Say = Callable[[str], None]


def pack_task(
    source: Source, to: Target, ground: Ground, recipe: str, say: Say, moved: Callable[[int], None]
) -> Published:
    """Make the image of a task and publish it.

    Raises:
        PhaseError: With task and phase; nothing was put under the tag.
    """
    with (
        tempfile.TemporaryDirectory(prefix="koalja-layers-") as out,
        phase(source.task.name, "analyze"),
        ThreadPoolExecutor(1, thread_name_prefix="previous") as aside,
    ):
        previous = aside.submit(previous_image, to, ground).result  # needed only once the sandbox stands
        cache = Cache(str(to))
        with cache.held():
            try:
                exported = _made(source, to, ground, recipe, previous, cache, Path(out), say)
            except HostOnly as why:
                say(f"no sandbox here ({why}): buildpacks run on this machine itself")
                exported = _made(source, to, ground, recipe, previous, cache, Path(out), say, on_host=True)
        with phase(source.task.name, "publish"):
            # As an annotation it is read with the manifest: the next packing asks for nothing else.
            image = annotated(exported.image, {RECIPE_LABEL: recipe})
            return publish(image, to, ground.client, moved=moved)


def previous_image(to: Target, ground: Ground) -> BaseImage | None:
    """The image that the tag means now, if it can be read; without it a build only takes longer."""
    try:
        return load_base(to, ground.choice.platform, ground.client)
    except KoaljaError:
        return None


def _made(
    source: Source,
    to: Target,
    ground: Ground,
    recipe: str,
    previous: Callable[[], BaseImage | None],
    cache: Cache,
    out: Path,
    say: Say,
    *,
    on_host: bool = False,
) -> Exported:
    labels = [(VERSION_LABEL, source.version), (RECIPE_LABEL, recipe)]
    with (
        _filled(source, labels) as fill,
        open_site(
            name=str(to),
            rootfs=None if on_host else ground.build_rootfs,
            buildpacks=list(ground.shelf),
            machine=ground.machine,
            user=ground.choice.variables,
            base=(ground.builder or ground.base).env,
            extra=_extra(source, ground),
            fill=fill,
        ) as site,
    ):
        return _phases(source, ground, previous, cache, site, out, say)


def _phases(
    source: Source,
    ground: Ground,
    previous: Callable[[], BaseImage | None],
    cache: Cache,
    site: Site,
    out: Path,
    say: Say,
) -> Exported:
    task = source.task.name
    with phase(task, "detect"):
        plan = detect(ground.order, ground.shelf, site, say)
    with phase(task, "restore"):
        cache.restore(plan, site, Previous(previous(), ground.client))
    with phase(task, "build"):
        contributions = build(plan, site, say)
    with phase(task, "export"):
        exported = export(
            contributions, site, ground.base, ground.public_name, previous(), out, ground.python[0], {}
        )
        cache.keep(contributions, exported.layers)
    return exported


@contextmanager
def _filled(source: Source, labels: list[tuple[str, str]]) -> Iterator[list[tuple[str, Path]]]:
    """The application's files with our notes among them."""
    import json

    with tempfile.TemporaryDirectory(prefix="koalja-note-") as folder:
        note, told = Path(folder) / "task.json", Path(folder) / "labels.toml"
        note.write_text(json.dumps(source.note, sort_keys=True, indent=1) + "\n")
        told.write_text(labels_text(labels))
        yield [*source.files, (NOTE, note), (LABELS, told)]


def _extra(source: Source, ground: Ground) -> Mapping[str, Path]:
    """What the platform lays ready for buildpacks: the wheels of the lock."""
    lock = next((path for name, path in source.files if name == requirements.LOCK), None)
    if lock is None:
        return {}
    return {"wheels": requirements.wheels(lock, ground.machine, ground.python[1])}
