"""`install`: brings the registry in line with a circuit that comes as JSON on standard input.

{"circuit": its plain model, "wiring": its text, "versions": {task: digest}}; with "discard": [task, …] what
waits for removed tasks is dropped. The changes go to standard output as JSON.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koalja_runtime.settings import Settings

if TYPE_CHECKING:
    from koalja_fn.engine.installing import Change
    from koalja_fn.registry import Registry, Transaction


def run(settings: Settings) -> int:
    """Install; the exit status."""
    from koalja_fn.engine.attaching import elsewhere
    from koalja_fn.engine.installing import install
    from koalja_fn.errors import KoaljaError
    from koalja_fn.plain import circuit_of
    from koalja_fn.registry import connect

    try:
        told: dict[str, Any] = json.load(sys.stdin)
        circuit = circuit_of(told["circuit"])
        versions = {str(task): str(version) for task, version in told["versions"].items()}
        codes = {task.name: elsewhere(task.name, versions[task.name], Path("/")) for task in circuit.tasks}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        sys.stderr.write(f"koalja: what is to be installed can't be read: {error!r}\n")
        return 2
    try:
        registry = connect(settings.registry)
        try:
            done = registry.transact(
                lambda tx: install(
                    tx, registry.clock(), circuit, Path("/"), codes, str(told.get("wiring", ""))
                )
            )
            changes = [*done.changes]
            for task in told.get("discard", ()):
                drop = partial(_discard, registry=registry, circuit=circuit.name, task=str(task))
                changes.append(registry.transact(drop))
        finally:
            registry.close()
    except KoaljaError as error:
        sys.stderr.write(f"koalja: {error}\n")
        return error.exit_status
    json.dump({"changes": [{"task": c.task, "what": c.what, "text": c.text} for c in changes]}, sys.stdout)
    sys.stdout.write("\n")
    return 0


def _discard(tx: Transaction, registry: Registry, circuit: str, task: str) -> Change:
    from koalja_fn.engine.installing import discard

    return discard(tx, registry.clock(), circuit, task)
