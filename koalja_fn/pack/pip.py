"""pip of the Python that runs us: what wheels are made and chosen with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from koalja_fn.pack.errors import PhaseError


def run_pip(
    arguments: Sequence[str], *, environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run pip with what it says captured.

    Raises:
        PhaseError: This environment has no pip, as those that uv and pipx make.
    """
    if find_spec("pip") is None:
        raise PhaseError(
            "there is no pip beside koalja-fn",
            phase="source",
            why=f"{sys.executable} can't import it",
            cure=f"uv pip install --python {sys.executable} pip, or pipx inject koalja-fn pip",
        )
    words = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    return subprocess.run(words, env=environ, cwd=cwd, capture_output=True, text=True, check=False)
