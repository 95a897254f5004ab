"""How a file is run: by itself, or by the interpreter that its first line or its ending names."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

BY_ENDING = {".py": "python3", ".sh": "sh", ".js": "node", ".mjs": "node", ".cjs": "node"}
INTERPRETED = frozenset(
    {"python", "sh", "bash", "dash", "zsh", "node", "perl", "ruby", "awk", "gawk", "php", "Rscript"}
)
_PYTHON = re.compile(r"python(3(\.\d+)?)?")
_FIRST_BYTES = 256


class NoCode(Exception):
    """A task's code can't be found or run: a short word, what is wrong, and the cure. Told as a finding."""

    def __init__(self, code: str, message: str, cure: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.cure = cure


def is_executable(path: Path) -> bool:
    """Whether we may execute the file."""
    return path.is_file() and os.access(path, os.X_OK)


def has_interpreter(path: Path) -> bool:
    """Whether the file can be run at all: it is executable, or its ending says by what."""
    return path.suffix in BY_ENDING or is_executable(path)


def command_of(path: Path) -> tuple[str, ...]:
    """The words that run a file, absolute; its arguments follow.

    An executable runs itself, save where its first line asks for a version manager's Python: that costs
    100 ms each time, so it is resolved once. Without the executable bit the ending tells the interpreter,
    unless the first line names another.

    Raises:
        NoCode: It is not executable, or its interpreter is not on this machine.
    """
    path = path.absolute()
    line = first_line(path)
    asked = _asked_for(line)
    if is_executable(path):
        generic = asked is not None and line.split()[0].endswith("/env") and _PYTHON.fullmatch(asked[0])
        if generic and asked is not None and _is_shim(_which(asked[0])):
            return (str(on_path(asked[0])), *asked[1:], str(path))
        if asked is not None or path.suffix not in BY_ENDING or _is_binary(path):
            return (str(path),)
    if path.suffix not in BY_ENDING:
        raise NoCode("not-executable", f"{path.name} is not executable", f"chmod +x {path.name}")
    usual = BY_ENDING[path.suffix]
    if asked is not None and not _same(asked[0], usual):
        return (str(on_path(asked[0])), *asked[1:], str(path))
    if usual == "python3":
        return (sys.executable, str(path))
    return (str(on_path(usual)), str(path))


def _same(asked: str, usual: str) -> bool:
    """Whether a first line names nothing more special than the ending does: `python3` for .py."""
    return asked in (usual, "python") or asked == f"/bin/{usual}"


def first_line(path: Path) -> str:
    """What follows `#!` in the file; empty if there is none."""
    try:
        with path.open("rb") as file:
            start = file.read(_FIRST_BYTES)
    except OSError:
        return ""
    if not start.startswith(b"#!"):
        return ""
    return start[2:].split(b"\n", 1)[0].decode("utf-8", "replace").strip()


def _is_binary(path: Path) -> bool:
    with path.open("rb") as file:
        return b"\0" in file.read(_FIRST_BYTES)


def _asked_for(line: str) -> list[str] | None:
    """The interpreter of a first line and its arguments, without `env`."""
    try:
        words = shlex.split(line)
    except ValueError:
        words = line.split()
    if words and words[0].endswith("/env"):
        words = words[2:] if words[1:2] == ["-S"] else words[1:]
    return words or None


def on_path(name: str) -> Path:
    """The absolute path of a program on PATH, never a version manager's shim for Python.

    Raises:
        NoCode: There is none.
    """
    found = _which(name)
    if found is None:
        raise NoCode(
            "no-program",
            f"there is no program '{name}', neither in the folder nor on PATH",
            f"install {name}, or write ./{name} for one of the folder's own",
        )
    if _PYTHON.fullmatch(Path(name).name) and _is_shim(found):
        return _behind_shim(found)
    return found


def _which(name: str) -> Path | None:
    found = shutil.which(name)
    return Path(found).absolute() if found else None


def _is_shim(path: Path | None) -> bool:
    """Whether a version manager (pyenv, asdf, mise, …) put it there to choose a version at each start."""
    return path is not None and "shims" in path.parts


@cache
def _behind_shim(shim: Path) -> Path:
    """The interpreter that a shim starts now; the one that runs us if it does not say."""
    ask = [str(shim), "-c", "import sys; print(sys.executable)"]
    try:
        answer = subprocess.run(ask, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return Path(sys.executable)
    return Path(answer) if answer and Path(answer).is_file() else Path(sys.executable)
