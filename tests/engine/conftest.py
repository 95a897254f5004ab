"""A workbench on a disk that forgets: fsync costs nothing there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from workbench import Workbench

Opener = Callable[[str], Workbench]


@pytest.fixture
def bench() -> Iterator[Opener]:
    """Open a workbench with a wiring; what was opened is closed at the end."""
    opened: list[Workbench] = []
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:

        def open_one(wiring: str) -> Workbench:
            opened.append(Workbench(Path(name) / f"bench-{len(opened)}", wiring))
            return opened[-1]

        yield open_one
        for one in opened:
            one.close()
