from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from koalja_fn.commands import main

Folder = Callable[..., Path]


def call(*words: object, status: int = 0) -> Result:
    """Call a verb."""
    done = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == status, done.output
    return done


def told(*words: object, status: int = 0) -> dict[str, Any]:
    """What a verb says in JSON."""
    return dict(json.loads(call(*words, "-o", "json", status=status).stdout))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Make a circuit's folder: its wiring, and its programs by their names."""

    def make(wiring: str, programs: dict[str, str] | None = None) -> Path:
        home = tmp_path / "c"
        home.mkdir()
        (home / "c.koalja").write_text("[c]\n" + wiring)
        for name, text in (programs or {}).items():
            (home / name).write_text(text)
        return home

    return make
