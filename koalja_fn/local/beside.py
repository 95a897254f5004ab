"""Beside a `run` that serves the folder: what another process may ask of its registry, and wait for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from koalja_fn.engine.attaching import attach
from koalja_fn.engine.lane.driving import runs
from koalja_fn.engine.plans import CircuitPlan
from koalja_fn.errors import UsageError
from koalja_fn.local import client
from koalja_fn.local.opening import open_registry, state_folder
from koalja_fn.local.recomputing import ended
from koalja_fn.local.ringing import ring
from koalja_fn.local.session import RUN_FILE
from koalja_fn.local.workplace import findings_error
from koalja_fn.plain import plain_circuit
from koalja_fn.program.cancel import Cancel
from koalja_fn.program.folder import open_circuit
from koalja_fn.registry import Registry, lanes
from koalja_fn.registry.lanes import Recompute

_LOOK = 0.1
_TELL = 5.0


class Beside:
    """The registry of a folder that a `run` serves; `plan` is the circuit as that has wired it up."""

    def __init__(self, folder: Path, registry: Registry, plan: CircuitPlan) -> None:
        self.registry = registry
        self.plan = plan
        self._folder = folder

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """Look at a folder; None where no `run` serves it.

        Raises:
            WiringError: Its wiring has errors by now.
            UsageError: Its wiring is not the one that the `run` has.
        """
        opened = open_circuit(path)
        if opened.circuit is None:
            raise findings_error(opened)
        circuit, folder = opened.circuit, opened.folder.resolve()
        if client.running(state_folder(folder)) is None:
            return None
        registry = open_registry(folder)
        try:
            plan = registry.read(lambda tx: attach(tx, circuit.name, opened.located, folder)).plan
            if plain_circuit(plan.circuit) != plain_circuit(circuit):
                raise UsageError(
                    "the wiring was changed since the run began that has the folder",
                    cure="stop that run and start it again: it takes up the new wiring",
                )
        except BaseException:
            registry.close()
            raise
        return cls(folder, registry, plan)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.registry.close()

    def wait(self, found: Recompute, stop: Cancel, told: Callable[[int], None]) -> Recompute | None:
        """Have the `run` do a recompute, and wait for its end; None where stopped, or where the run has gone.

        `told` hears now and then how much is left.
        """
        ring(self._folder)
        tell = time.monotonic() + _TELL
        while not stop.is_set:
            now = ended(self.registry, self.plan, found)
            if now.state != "open":
                ring(self._folder)
                return now
            if self._is_left():
                return None
            if time.monotonic() >= tell:
                told(self.registry.read(lambda tx: lanes.behind(tx, found.id)))
                tell = time.monotonic() + _TELL
            time.sleep(_LOOK)
        return None

    def _is_left(self) -> bool:
        """Whether the `run` has gone; another one would have left word of itself."""
        try:
            told = json.loads((state_folder(self._folder) / RUN_FILE).read_text())
            return not runs(int(told["pid"]))
        except (OSError, ValueError, KeyError, TypeError):
            return True
