"""Which commands are Python programs, and what of them is the same for each execution."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from koalja_fn.program.interpreters import first_line

_NAME = re.compile(r"python(\d+(\.\d+)?)?")
_PLAIN = re.compile(r"-[bBdOqRsuPx]+")


class Unusual(Exception):
    """It is a Python program, and one that is started anew each time; the message is why."""


@dataclass(frozen=True, slots=True)
class Python:
    """A Python program: `executable` is the interpreter; `words` its argument list up to the script.

    `options` are those of the words that stand before the script, the interpreter's name included. `name` is
    what the kernel calls the process, if not after the interpreter. `skip` words of the command become
    `words`, the others are the program's own arguments. `code` is what stands after -c or -m.
    """

    executable: str
    words: tuple[str, ...]
    options: tuple[str, ...]
    skip: int
    name: str = ""
    code: str = ""


def recognised(argv: Sequence[str], path: str) -> Python | None:
    """The Python program that a command is, or None; `argv[0]` is an absolute path.

    Raises:
        Unusual: It is one that should not be forked.
    """
    head = os.path.basename(argv[0])  # noqa: PTH119  # strings throughout: it is asked for each execution
    if _NAME.fullmatch(head):
        return _direct(argv)
    try:
        status = os.stat(argv[0])  # noqa: PTH116
    except OSError:
        return None
    return _of_script(argv[0], path, status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode)


def _direct(argv: Sequence[str]) -> Python | None:
    count = _script_at(argv)
    if count is None:
        return None
    last = argv[count - 1]
    dashed = argv[count - 2] in ("-c", "-m") and count > 2
    if not dashed and not last.startswith("/"):
        return None
    options = count - (2 if dashed else 1)
    return _checked(
        argv[0], tuple(argv[:count]), tuple(argv[:options]), skip=count, code=last if dashed else ""
    )


@lru_cache(maxsize=256)
def _of_script(script: str, path: str, *_state: int) -> Python | None:
    """The program of an executable with a first line; the further arguments say which state of it."""
    line = first_line(Path(script))
    words: list[str]
    if not line or not os.access(script, os.X_OK):
        return None
    by, _, rest = line.partition(" ")
    words, name = [by, *([rest.strip()] if rest.strip() else [])], os.path.basename(script)  # noqa: PTH119
    if by.endswith("/env"):
        name = ""
        rest = rest.strip()
        try:
            words = shlex.split(rest.removeprefix("-S")) if rest.startswith("-S") else [rest]
        except ValueError:
            return None
    found = shutil.which(words[0], path=path) if words and words[0] else None
    if found is None or not _NAME.fullmatch(os.path.basename(found)):  # noqa: PTH119
        return None
    words.append(script)
    if _script_at(words) != len(words):
        return None
    return _checked(os.path.abspath(found), tuple(words), tuple(words[:-1]), skip=1, name=name)  # noqa: PTH100


def _script_at(words: Sequence[str]) -> int | None:
    """How many words there are up to the script (or what stands after -c or -m); None if there is none.

    Raises:
        Unusual: An option keeps a template out.
    """
    at = 1
    while at < len(words):
        word = words[at]
        if word in ("-c", "-m"):
            return at + 2 if at + 1 < len(words) else None
        if not word.startswith("-"):
            return at + 1
        if word[:2] in ("-W", "-X"):
            at += 1 if len(word) > 2 else 2
        elif _PLAIN.fullmatch(word):
            at += 1
        elif word[1:2] in ("I", "E", "S", "i"):
            raise Unusual(f"the interpreter's option {word}")
        else:
            return None
    return None


@lru_cache(maxsize=256)
def _checked(
    executable: str,
    words: tuple[str, ...],
    options: tuple[str, ...],
    *,
    skip: int,
    name: str = "",
    code: str = "",
) -> Python | None:
    """The program, if the interpreter is a binary: a wrapper script may do anything."""
    try:
        mode = os.stat(executable).st_mode  # noqa: PTH116
        with open(executable, "rb") as file:
            binary = file.read(4) == b"\x7fELF"
    except OSError:
        return None
    if not binary:
        raise Unusual(f"{executable} is no binary, so what it does is not known")
    if mode & (stat.S_ISUID | stat.S_ISGID):
        raise Unusual(f"{executable} runs as another user")
    return Python(executable, words, options, skip, name[:15], code)
