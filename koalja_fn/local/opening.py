"""Opening what a circuit has: `.koalja/registry.db` and `.koalja/objects` in its folder, or what is shared.

A shared registry and store are named by $KOALJA_REGISTRY and $KOALJA_STORE: then every question is asked
of them, and no folder is needed. A folder may keep its payloads in a bucket; `.koalja/store.json` says which.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from koalja_fn.errors import NotFound, StoreError, UsageError
from koalja_fn.registry import Registry, connect
from koalja_fn.store import FileStore, Store, open_store

STATE = ".koalja"
_STORE = "store.json"


@dataclass(frozen=True, slots=True)
class Shared:
    """A registry and a store that several processes share: their addresses."""

    registry: str
    store: str


@dataclass(frozen=True, slots=True)
class Payloads:
    """Where a folder's payloads lie, if not in the folder."""

    url: str
    endpoint: str | None = None


Where = Path | Shared
"""Where a circuit's data are: in its folder, or in what is shared."""


def shared() -> Shared | None:
    """What the environment names."""
    registry = os.environ.get("KOALJA_REGISTRY")
    return Shared(registry, os.environ.get("KOALJA_STORE", "")) if registry else None


def home_of(folder: Path) -> Where:
    """Where the data are of a circuit whose wiring and code are in a folder: shared, or in the folder."""
    return shared() or folder


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


def open_registry(where: Where) -> Registry:
    """The registry of a folder in which a circuit has run, or is running; or the shared one."""
    if isinstance(where, Shared):
        return connect(where.registry)
    return Registry(state_folder(where) / "registry.db")


def open_payloads(where: Where, registry: Registry | None = None) -> Store:
    """The payloads that the registry tells of; `registry` where it is open, and stays so for longer.

    Raises:
        UsageError: A shared registry is named, and no store.
        StoreError: They can't be opened.
    """
    if isinstance(where, Shared):
        if not where.store:
            raise UsageError("KOALJA_REGISTRY is set, but KOALJA_STORE is not", cure="set both, or neither")
        store = open_store(where.store)
        if registry is None and "://" in where.registry:  # a server, which keeps no payloads
            return store
        return joined(store, registry or connect(where.registry), own=registry is None)
    state = state_folder(where)
    payloads = payloads_of(state)
    if payloads is None:
        store = open_store(state / "objects")
        if registry is None and not (state / "registry.db").is_file():
            return store
        return joined(store, registry or open_registry(where), own=registry is None)
    return open_store(payloads.url, cache=state / "cache", endpoint=payloads.endpoint)


def joined(store: Store, registry: Registry, *, own: bool = False) -> Store:
    """A store whose small payloads may lie in the registry's file; `own`: that is closed with the store.

    A value that comes from outside is durable then with one wait for the disk, not with two.
    """
    if registry.file is not None and isinstance(store, FileStore):
        store.join(registry.file, registry.close if own else lambda: None)
    elif own:
        registry.close()
    return store


def payloads_of(state: Path) -> Payloads | None:
    """Where a folder's payloads lie; None for the folder itself.

    Raises:
        StoreError: What says so can't be read.
    """
    try:
        data = json.loads((state / _STORE).read_text())
        return Payloads(str(data["url"]), data.get("endpoint"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{state / _STORE} can't be read", why=str(error), cure="koalja-fn run DIR --store s3://…"
        ) from error


def choose_payloads(state: Path, wanted: Payloads) -> None:
    """Have a folder keep its payloads elsewhere from now on; of a bucket only the endpoint may change.

    Raises:
        UsageError: It has payloads in another place already.
    """
    now = payloads_of(state)
    elsewhere = now is not None and now.url != wanted.url
    if elsewhere or (now is None and (state / "objects").exists()):
        place = now.url if now else state / "objects"
        raise UsageError(
            f"this folder keeps its payloads in {place}",
            why="values on record would not be found any more",
            cure=f"leave --store out, or begin anew: move {state} away",
        )
    temporary = state / f"{_STORE}.part"
    temporary.write_text(json.dumps({"url": wanted.url, "endpoint": wanted.endpoint}))
    temporary.replace(state / _STORE)
