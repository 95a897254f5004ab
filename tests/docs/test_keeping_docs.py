"""The commands of docs/keeping.md work as they stand there."""

from __future__ import annotations

import json
from pathlib import Path

from .pages import ROOT, commands, shell

WIRING = "(readings) copy (copied)\n    run = cp {readings} {out.copied}\nwire readings\n    keep = 1ms\n"


def test_the_page_on_keeping(tmp_path: Path, environ: dict[str, str]) -> None:
    (tmp_path / "c.koalja").write_text(WIRING)
    for text in ("one", "two"):
        shell(f"echo {text} | koalja-fn run --once --lines readings .", tmp_path, environ)
    lines = commands((ROOT / "docs/keeping.md").read_text())
    assert [line.split()[1] for line in lines] == ["gc", "gc", "get"]
    assert "would be freed" in shell(lines[0], tmp_path, environ)
    assert "freed" in shell(lines[1], tmp_path, environ)
    listed = shell("koalja-fn list values -o json", tmp_path, environ)
    named = json.loads(listed)["values"][0]["id"]
    assert shell(lines[2].replace("ID", named), tmp_path, environ).strip() in ("one", "two")
