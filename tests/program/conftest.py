"""A bench for calling real programs on real files."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from koalja_fn.model import AnnotatedValue
from koalja_fn.program.calling import Caller
from koalja_fn.program.cancel import Cancel
from koalja_fn.program.contract import Job, Limits, Result
from koalja_fn.store import FileStore


@dataclass
class Bench:
    """Calls commands; `outputs` reads what a result's values hold."""

    store: FileStore
    caller: Caller
    folder: Path
    stop: Cancel = field(default_factory=Cancel)

    def value(self, data: bytes, wire: str = "wind", kind: str = "text/plain", **more: Any) -> AnnotatedValue:
        stored = self.store.put_bytes(data)
        return AnnotatedValue("id", "c", wire, 0, "s", 0, 0, stored.digest, stored.size, kind, **more)

    def job(self, *command: str, **more: Any) -> Job:
        inputs = more.pop("inputs", {})
        placed = tuple(
            (name, tuple(v if isinstance(v, AnnotatedValue) else self.value(v, name) for v in values))
            for name, values in inputs.items()
        )
        job = Job("weather", "average", command, self.folder, self.folder, "5" * 64, placed, ("mean",))
        warm = os.environ.get("KOALJA_STARTS") == "warm"  # cold by default: test_warm.py has both
        return replace(job, **{"timeout": 30.0, "warm": warm, **more})

    def call(self, *command: str, **more: Any) -> Result:
        return self.caller.call(self.job(*command, **more), self.stop)

    def sh(self, script: str, **more: Any) -> Result:
        return self.call("/bin/sh", "-c", script, **more)

    def python(self, script: str, **more: Any) -> Result:
        program = self.folder / "program.py"
        program.write_text(script)
        return self.call(sys.executable, str(program), **more)


def outputs(result: Result) -> dict[str, list[bytes]]:
    """Each wire's values."""
    assert result.ok, result
    found: dict[str, list[bytes]] = {}
    for file in result.outputs:
        found.setdefault(file.wire, []).append(file.path.read_bytes())
    return found


def bench_in(tmp_path: Path, **more: Any) -> Bench:
    folder = tmp_path / "circuit"
    folder.mkdir(exist_ok=True)
    links = more.pop("links", None)
    store = FileStore(folder / ".koalja" / "objects", links=links)
    return Bench(store, Caller(store, folder / ".koalja" / "scratch", **more), folder)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = bench_in(tmp_path, limits=Limits(grace=0.5))
    yield bench
    bench.caller.close()
    bench.store.close()
