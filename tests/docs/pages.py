"""What the tests of the documentation share: a page's commands, and a shell that runs them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def commands(text: str) -> list[str]:
    """The indented lines of a page that call something, without their comments."""
    found = [re.sub(r"\s{2,}#.*$", "", line.strip()) for line in text.splitlines() if line.startswith("    ")]
    return [line for line in found if re.search(r"\b(koalja-fn|cd|python3|sh)\b", line)]


def shell(line: str, cwd: Path, environ: dict[str, str]) -> str:
    done = subprocess.run(
        ["sh", "-ec", line], cwd=cwd, env=environ, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout
