"""A process that purges round after round, until it is killed: `purging_forever.py REGISTRY STORE CACHE`."""

from __future__ import annotations

import sys
from pathlib import Path

from koalja_fn.engine.purging import Purger
from koalja_fn.registry import connect
from koalja_fn.store import open_store

GRACE = 0.3  # seconds; transactions here take far less


def main(where: str, place: str, cache: str) -> None:
    registry, store = connect(where), open_store(place, cache=Path(cache))
    purger = Purger(registry, store, grace=GRACE)
    while True:
        done = purger.round(orphans=True)
        freed = sum(one.payloads for one in done.freed.values())
        print(freed, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
