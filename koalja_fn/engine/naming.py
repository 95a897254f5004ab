"""Naming payloads in a commit while others purge: what is gone already is brought back first (`purging`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from koalja_fn.errors import StoreError
from koalja_fn.registry import Registry, purging
from koalja_fn.registry.purging import GOING, GONE, Purged
from koalja_fn.registry.registry import Transaction
from koalja_fn.store import Store

T = TypeVar("T")


def bring_back(registry: Registry, store: Store, digests: Iterable[str]) -> list[str]:
    """Whoever just put payloads again may name them, if they are there; return those that are not."""
    wanted = tuple(digests)

    def step(tx: Transaction) -> list[str]:
        rows = purging.hold(tx, wanted)
        there = {row.digest for row in rows if row.state not in (GOING, GONE) or store.has(row.digest)}
        purging.forget(tx, there)
        return [row.digest for row in rows if row.digest not in there]

    return registry.transact(step)


def name(registry: Registry, store: Store, step: Callable[[Transaction], T]) -> T:
    """Run a step that names payloads which were just put; those that were purged before are there again.

    Raises:
        StoreError: One was deleted at this moment.
    """
    while True:
        try:
            return registry.transact(step)
        except Purged as purged:
            lost = bring_back(registry, store, purged.digests)
        if lost:
            raise StoreError(
                f"payload {lost[0]} was purged at this moment",
                why="the same bytes were here before, and nobody needed them",
                cure="do it again",
            )


def is_purged(registry: Registry, digest: str) -> bool:
    """Whether a payload was purged, and not brought back."""
    return registry.read(lambda tx: purging.state_of(tx, digest)) in (GOING, GONE)
