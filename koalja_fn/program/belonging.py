"""Which files belong to a task: one list for the version of its code and for its image.

That is the program with what it imports and what its run line names; the files that declare which libraries
it needs; and all else in a folder that the task has for itself. `.gitignore` and `.koaljaignore` say what is
left out of a folder, but never of what the program was found to use. Secrets are always left out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from koalja_fn.model import Circuit
from koalja_fn.program.confidential import is_secret
from koalja_fn.program.ignoring import Ignoring

_PYTHON = (
    "requirements*.txt", "requirements.lock", "pyproject.toml", "uv.lock", "poetry.lock", "Pipfile",
    "Pipfile.lock", ".python-version", "constraints*.txt",
)  # fmt: skip
_NODE = (
    "package.json", "package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", ".nvmrc",
    ".node-version",
)  # fmt: skip
SCRIPTS = frozenset({".js", ".mjs", ".cjs"})
_OF_NODE = SCRIPTS | {".json", ".node", ".wasm"}
_FURTHER = re.compile(r"^\s*(?:-r|-c|--requirement|--constraint)[\s=]+(\S+)", re.MULTILINE)
_BRACES = re.compile(r"\{[^/}]*\}")
_LINKS = 40


@dataclass(frozen=True, slots=True)
class Belongings:
    """A task's files, sorted, absolute; and what was left out as a secret, relative to `root`."""

    files: tuple[Path, ...]
    left_out: tuple[str, ...]


def gather(
    root: Path,
    own: Iterable[Path],
    ignoring: Ignoring,
    *,
    whole: bool,
    python: bool,
    node: bool,
    others: Collection[Path] = (),
) -> Belongings:
    """The files of a task whose application folder is `root`; `own` is what its program was found to use.

    With `whole` all of the folder belongs to it. A Node program has all scripts and JSON beside it, since
    what it requires can't be read off its source, but not what only `others` use.
    """
    below = "" if root == ignoring.folder else root.relative_to(ignoring.folder).as_posix()
    found = set(own)
    if python:
        found |= set(_python_manifests(root))
    if node:
        found |= {path for name in _NODE for path in root.glob(name)}
    straight: set[Path] = set()  # no link on their way, and they are none: most files, looked at no further
    if whole or node:
        for inside, link in ignoring.walk(below):
            path = ignoring.folder / inside
            wiring = path.suffix == ".koalja" and path.parent == root
            if not wiring and (whole or path.suffix in _OF_NODE) and path not in others:
                (found if link else straight).add(path)
    resolved = {real for path in found - straight for real in _with_links(path, root)}
    return _without_secrets(root, straight | resolved, set(own))


def of_wires(circuit: Circuit | None) -> list[str]:
    """Where the wires read and write files, as lines of an ignore file: that is data, not code."""
    wires = circuit.wires.values() if circuit is not None else ()
    texts = [text.strip() for wire in wires for text in (wire.source or "").split(",")]
    texts += [(wire.sink or "").strip() for wire in wires]
    inside = [os.path.normpath(text) + ("/" if text.endswith("/") else "") for text in texts if text]
    return [
        "/" + _BRACES.sub("*", text)
        for text in inside
        if "://" not in text and not text.startswith(("/", "..", "~", "./", "."))
    ]


def _python_manifests(root: Path) -> Iterator[Path]:
    """Files that say which libraries there are to be, and those that they name."""
    waiting = [path for name in _PYTHON for path in sorted(root.glob(name))]
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        yield path
        if path.suffix == ".txt":
            text = path.read_text(encoding="utf-8", errors="replace")
            named = [Path(os.path.normpath(path.parent / name)) for name in _FURTHER.findall(text)]
            waiting += [one for one in named if one.is_relative_to(root)]


def _with_links(path: Path, root: Path) -> Iterator[Path]:
    """A path as it can be packed: links on its way as links, and what they lead to in the folder."""
    path = Path(os.path.normpath(path))
    for _ in range(_LINKS):
        link = _first_link(path, root)
        if link is None:
            if path.exists():
                yield path
            return
        yield link
        goal = Path(os.path.normpath(link.parent / link.readlink()))
        if link.readlink().is_absolute() or not goal.is_relative_to(root):
            return
        path = goal / path.relative_to(link)
        if path.is_dir() and not path.is_symlink():
            return


def _first_link(path: Path, root: Path) -> Path | None:
    if not path.is_relative_to(root):
        return None
    here = root
    for part in path.relative_to(root).parts:
        here /= part
        if here.is_symlink():
            return here
    return None


def _without_secrets(root: Path, found: Iterable[Path], own: Collection[Path]) -> Belongings:
    files, left_out = [], []
    start = f"{root}/"
    for path in sorted(found):
        inside = str(path).removeprefix(start) if str(path).startswith(start) else path.name
        if is_secret(inside) and not (path in own and os.access(path, os.X_OK)):
            left_out.append(inside)
        else:
            files.append(path)
    return Belongings(tuple(files), tuple(left_out))
