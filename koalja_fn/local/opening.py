"""Opening what a circuit's folder holds: `.koalja/registry.db` and `.koalja/objects`."""

from __future__ import annotations

from pathlib import Path

from koalja_fn.errors import NotFound
from koalja_fn.registry import Registry

STATE = ".koalja"


def state_folder(folder: Path) -> Path:
    """Where a circuit's folder keeps its registry, payloads and scratch."""
    return folder / STATE


def find_folder(start: Path) -> Path:
    """The nearest folder, from `start` upward, in which a circuit has run.

    Raises:
        NotFound: There is none.
    """
    start = start.resolve()
    if start.is_file():
        start = start.parent
    for folder in (start, *start.parents):
        if (folder / STATE / "registry.db").is_file():
            return folder
    raise NotFound(
        f"no circuit has run in {start}",
        why=f"neither it nor a folder above it has {STATE}/registry.db",
        cure="koalja-fn run DIR first, or name the folder with -C DIR",
    )


def open_registry(folder: Path) -> Registry:
    """The registry of a folder in which a circuit has run, or is running."""
    return Registry(state_folder(folder) / "registry.db")
