"""Runs in a circuit's console: whether registry and store can be used from the circuit's pods.

One line for each on standard output: `registry ok`, or `store` and what is wrong.
"""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Look at both; the exit status is 1 where one of them can't be used."""
    bad = 0
    for name, look in (("registry", _registry), ("store", _store)):
        try:
            look()
            said = "ok"
        except Exception as error:  # whatever it is, it is to be told
            said, bad = " ".join(str(error).split())[:500] or type(error).__name__, 1
        sys.stdout.write(f"{name} {said}\n")
    return bad


def _registry() -> None:
    from koalja_fn.registry import connect, overview

    registry = connect(os.environ["KOALJA_REGISTRY"])
    try:
        registry.read(overview.circuits)
    finally:
        registry.close()


def _store() -> None:
    """Write and read: a store that can only be read is of no use to a task."""
    from koalja_fn.store import open_store

    store = open_store(os.environ["KOALJA_STORE"])
    try:
        kept = store.put_bytes(b"koalja-fn doctor\n")
        store.read(kept.digest)
    finally:
        store.close()
