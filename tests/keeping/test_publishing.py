"""`make --publish`: results come onto their wires, each once, and push links take them up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from premises import Premises

WIRING = """(a) up (b)
    run = ./upper {a} {out.b}
(b) twice (c)
    run = ./twice {b} {out.c}
wire a
    from = in.txt
"""


def test_results_are_placed_once_and_readers_take_them_up(tmp_path: Path) -> None:
    place = Premises(tmp_path / "c", WIRING, upper='tr a-z A-Z < "$1" > "$2"', twice='cat "$1" "$1" > "$2"')
    for text in ("x", "x", "y", "x"):
        (place.folder / "in.txt").write_text(text)
        place.make("b", publish=True)
    assert place.said("b") == ["X", "Y"]
    assert place.ran() == ["up", "up"]
    place.run()
    assert place.said("c") == ["XX", "YY"]
    assert place.ran() == ["twice", "twice"]
    assert place.wrong() == []
    command = [sys.executable, "-m", "koalja_fn", "trace", place.on("b")[0].id]
    told = subprocess.run(command, cwd=place.folder, check=True, capture_output=True, text=True).stdout
    assert "made by up" in told
    assert "file in.txt" in told
