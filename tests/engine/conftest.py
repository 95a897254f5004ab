"""Workbenches for tests that want one or two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from workbench import Workbench, workbench

Opener = Callable[[str], Workbench]


@pytest.fixture(params=["sqlite", "postgres"])
def bench(request: pytest.FixtureRequest) -> Iterator[Opener]:
    """Open a workbench with a wiring; what was opened is closed at the end."""
    with ExitStack() as opened:
        yield lambda wiring: opened.enter_context(workbench(wiring, request.param))
