"""Runs in a circuit's console: deletes what the registry knows of the circuit that the argument names."""

from __future__ import annotations

import os
import sys


def main(arguments: list[str]) -> int:
    """Forget; the exit status. How many values there were goes to standard output."""
    from koalja_fn.errors import KoaljaError
    from koalja_fn.registry import connect, tasks
    from koalja_fn.registry.forgetting import forget
    from koalja_fn.registry.registry import Transaction

    (name,) = arguments

    def step(tx: Transaction) -> int:
        row = tasks.circuit_id(tx, name)
        return forget(tx, row, name) if row is not None else 0

    try:
        registry = connect(os.environ["KOALJA_REGISTRY"])
        try:
            count = registry.transact(step)
        finally:
            registry.close()
    except KoaljaError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    sys.stdout.write(f"{count}\n")
    return 0
