"""The commands of docs/make.md work as they stand there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .pages import ROOT, commands, shell

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc (apt-get install gcc)")


def test_the_page_on_make(tmp_path: Path, environ: dict[str, str]) -> None:
    ignore = shutil.ignore_patterns(".koalja")
    shutil.copytree(ROOT / "examples/build", tmp_path / "examples/build", ignore=ignore)
    page = commands((ROOT / "docs/make.md").read_text())
    lines = [line for line in page if "--cluster" not in line]
    assert (len(lines), len(page)) == (4, 5)  # the fifth is in tests/runtime/test_making_from_outside.py
    first = shell(lines[0], tmp_path, environ)
    assert first.startswith("proof  ")
    assert "program  " in shell(lines[1], tmp_path, environ)
    assert shell(lines[2], tmp_path, environ) == ""
    told = shell(lines[3].replace("ID", first.split()[1]), tmp_path, environ)
    assert "file src/primes.c" in told
