"""pip is a part of the environment that may be missing: uv and pipx leave it out."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import koalja_fn
from koalja_fn.pack.pip import run_pip

ASK = "from koalja_fn.pack.pip import run_pip; run_pip(['--version'])"


def test_pip_is_run_as_that_of_this_python() -> None:
    assert sys.prefix in run_pip(["--version"]).stdout


def test_without_pip_the_cure_is_told(tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", symlinks=True, with_pip=False)
    done = subprocess.run(
        [tmp_path / "bare/bin/python", "-c", ASK],
        env={**os.environ, "PYTHONPATH": str(Path(koalja_fn.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "there is no pip beside koalja-fn" in done.stderr
    assert f"uv pip install --python {tmp_path / 'bare/bin/python'} pip" in done.stderr
