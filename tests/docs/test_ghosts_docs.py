"""The commands of docs/ghosts.md that need no cluster work as they stand there."""

from __future__ import annotations

import shutil
from pathlib import Path

from .pages import ROOT, commands, shell


def test_the_page_on_ghosts(tmp_path: Path, environ: dict[str, str]) -> None:
    ignore = shutil.ignore_patterns(".koalja", "outbox")
    shutil.copytree(ROOT / "examples/weather", tmp_path / "weather", ignore=ignore)
    (tmp_path / "big.csv").write_text("1,2\n")
    lines = [line for line in commands((ROOT / "docs/ghosts.md").read_text()) if "--cluster" not in line]
    assert len(lines) == 3
    for line in lines:
        assert "ghost" in shell(line, tmp_path, environ)
    listed = shell("koalja-fn list -C weather ghosts", tmp_path, environ).splitlines()[1:]
    ghost = next(line for line in listed if " mean " in line).split()[5]
    assert "is a ghost on wire mean" in shell(f"koalja-fn trace -C weather {ghost}", tmp_path, environ)
