"""An environment in which the documented commands run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment in which `koalja-fn` is this checkout's."""
    tools = tmp_path / "tools"
    tools.mkdir()
    tool = tools / "koalja-fn"
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m koalja_fn "$@"\n')
    tool.chmod(0o755)
    return {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
