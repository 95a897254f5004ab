"""What the packer noted of the task: its wiring as data, and how to find its code in the image."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from koalja_fn.errors import WiringError
from koalja_fn.model import Circuit, Task, Wire
from koalja_fn.plain import task_of
from koalja_fn.program.folder import Opened, open_circuit
from koalja_fn.program.locating import Located, Locator

NOTE = ".koalja/task.json"
_RUNTIME = "koalja_function"


def opened(app: Path, layers: Path) -> Opened:
    """The circuit to run: of the packer's note; without one, whatever circuit the folder holds."""
    note = app / NOTE
    more = layer_variables(layers)
    if not note.is_file():
        found = open_circuit(app)
        if found.circuit is None:
            raise WiringError(
                "the image's circuit has errors", why="; ".join(f.message for f in found.findings)
            )
        circuit = replace(found.circuit, tasks=tuple(_with(task, more) for task in found.circuit.tasks))
        return replace(found, circuit=circuit)
    data = json.loads(note.read_text(encoding="utf-8"))
    task = task_of(data["model"]["task"])
    located = replace(_locate(app, task, data), version=str(data["version"]))
    wires = {one["name"]: Wire(**one) for one in data["model"]["wires"]}
    circuit = Circuit(str(data["circuit"]), (_with(task, more),), wires)
    return Opened(circuit, {task.name: located}, (), app, None, circuit)


def _locate(app: Path, task: Task, data: dict[str, Any]) -> Located:
    locator = Locator(app)
    if data["root"] == "task" or (data["unwired"] and (app / "Procfile").is_file()):
        return locator.of_folder(task, app)
    if task.run is None and data["program"]:
        return locator.of_program(task, app / str(data["program"]), app)
    return locator.locate(task)


def _with(task: Task, more: dict[str, str]) -> Task:
    """The task with what layers of libraries ask for; what the wiring says stands."""
    return replace(task, env=tuple({**more, **dict(task.env)}.items()))


def layer_variables(layers: Path) -> dict[str, str]:
    """The variables that libraries' layers have set, such as PYTHONPATH: a program needs them, too.

    Nothing else of this process's environment goes to programs; it may hold the wrapper's credentials.
    """
    names = {"LD_LIBRARY_PATH"} if "LD_LIBRARY_PATH" in os.environ else set()
    for pattern in ("*/*/env/*", "*/*/env.launch/*"):
        for path in layers.glob(pattern):
            if path.is_file() and path.relative_to(layers).parts[0] != _RUNTIME:
                names.add(path.name.partition(".")[0])
    return {name: os.environ[name] for name in sorted(names - {"PATH"}) if name in os.environ}
