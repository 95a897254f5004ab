"""What an event and a purged payload cost does not grow with the registry, in instructions of SQLite."""

from __future__ import annotations

from collections.abc import Callable

from workbench import Workbench, workbench

from koalja_fn import sqlite
from koalja_fn.engine.purging import Purger

# Nobody reads b: of a value that is read, windows behind it are looked at, too (a thousand at most).
WIRING = "(a) t (b)\n    concurrency = 100\nwire b\n    keep = 1d\n"
FEW, MANY = 200, 2000
_EACH = 20


def test_an_event_costs_the_same_in_a_large_registry() -> None:
    with workbench(WIRING) as place:
        grow(place, FEW)
        few = instructions(place, lambda: grow(place, 100)) / 100
        grow(place, MANY)
        many = instructions(place, lambda: grow(place, 100)) / 100
    assert few > 100
    assert many < few * 1.5, (few, many)


def test_purging_a_payload_costs_the_same_where_many_go() -> None:
    few, many = purging(FEW), purging(MANY)
    assert few > 100
    assert many < few * 1.5, (few, many)


def purging(count: int) -> float:
    """Instructions for each payload that goes."""
    with workbench(WIRING) as place:
        grow(place, count)
        place.tick(2 * 86_400)
        purger = Purger(place.registry, place.store, grace=0.0)
        found = instructions(place, purger.round)
        assert not purger.look().marked
        assert sum(place.store.has(value.digest) for value in place.on("b")) == 1  # the latest
        return found / count


def grow(place: Workbench, count: int) -> None:
    """Events arrive, and are worked off."""
    head = len(place.on("a"))
    for begin in range(head, head + count, 100):
        place.send("a", *(f"{n}" for n in range(begin, begin + 100)))
        place.form()
        while claims := place.claim("t", most=100):
            for claim in claims:
                place.complete(claim, {"b": [f"from {claim.rid}"]})


def instructions(place: Workbench, step: Callable[[], object]) -> float:
    """How many instructions of SQLite's machine the registry's writer takes for a step."""
    database = place.registry._database
    assert isinstance(database, sqlite.Database)
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += 1
        return 0

    database._connection.set_progress_handler(count, _EACH)
    try:
        step()
    finally:
        database._connection.set_progress_handler(None, 0)
    return float(counted * _EACH)
