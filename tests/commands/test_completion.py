"""Completion scripts, as the three shells would use them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from circuit_runs import COMMAND, koalja

WORDS = {
    "bash": {"COMP_WORDS": "koalja-fn ru", "COMP_CWORD": "1", "_KOALJA_FN_COMPLETE": "bash_complete"},
    "zsh": {"COMP_WORDS": "koalja-fn ru", "COMP_CWORD": "1", "_KOALJA_FN_COMPLETE": "zsh_complete"},
    "fish": {"COMP_WORDS": "koalja-fn ru", "COMP_CWORD": "ru", "_KOALJA_FN_COMPLETE": "fish_complete"},
}


@pytest.mark.parametrize("shell", WORDS)
def test_there_is_a_script_that_asks_the_command(shell: str) -> None:
    done = koalja("completion", shell)
    assert done.returncode == 0, done.stderr
    assert f"_KOALJA_FN_COMPLETE={shell}_complete" in done.stdout
    assert "koalja-fn" in done.stdout
    found = shutil.which(shell)
    if found:
        checked = subprocess.run([found, "-n"], input=done.stdout, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("shell", WORDS)
def test_what_the_script_asks_is_answered(shell: str) -> None:
    command = shutil.which("koalja-fn", path=str(Path(sys.executable).parent))
    assert command is not None, "install the project: pip install -e ."
    done = subprocess.run([command], env={**os.environ, **WORDS[shell]}, capture_output=True, text=True)
    assert "run" in done.stdout
    assert "send" not in done.stdout


def test_another_shell_is_a_wrong_call() -> None:
    done = subprocess.run([*COMMAND, "completion", "tcsh"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "bash" in done.stderr
