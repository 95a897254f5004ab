"""Run an example as a user would and read what came of it.

The one place that knows how the summary of `koalja-fn run --once -o json` looks.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
COMMAND = Path(sys.executable).with_name("koalja-fn")
PATIENCE = 100.0


@dataclass(frozen=True)
class Value:
    """One value on a wire, with its payload."""

    id: str
    wire: str
    digest: str
    payload: bytes

    @property
    def text(self) -> str:
        return self.payload.decode()

    @property
    def json(self) -> Any:  # whatever the program wrote
        return json.loads(self.payload)


@dataclass(frozen=True)
class Outcome:
    """What a run says it has: the values of each wire in their order, and what failed."""

    circuit: str
    wires: dict[str, list[Value]]
    failures: list[object]

    def on(self, wire: str) -> list[Value]:
        return self.wires.get(wire, [])

    @property
    def ids(self) -> set[str]:
        return {value.id for values in self.wires.values() for value in values}


def copy(name: str, to: Path) -> Path:
    """A fresh copy of an example, without what an earlier run in the tree may have left."""
    leftovers = shutil.ignore_patterns(".koalja", "outbox", "__pycache__")
    return Path(shutil.copytree(EXAMPLES / name, to / name, ignore=leftovers))


def koalja_fn(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE
    )


def run_once(folder: Path) -> Outcome:
    done = koalja_fn("run", "--once", folder, "-o", "json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    wires = {
        wire: [_value(folder, wire, value) for value in values] for wire, values in said["wires"].items()
    }
    return Outcome(said["circuit"], wires, said["failures"])


def _value(folder: Path, wire: str, said: dict[str, Any]) -> Value:
    payload = (folder / said["path"]).read_bytes()
    assert said["digest"] == "sha256:" + hashlib.sha256(payload).hexdigest()
    assert said["size"] == len(payload)
    return Value(said["id"], wire, said["digest"], payload)
