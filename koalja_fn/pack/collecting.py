"""Which files of a folder go into a task's image: its code, what that needs, and never a secret.

The version of a task is a digest of its code (`program/versions.py`); what is packed is that code, the
files that say which libraries it needs, and for a circuit of one task all else in its folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from koalja_fn.model import Circuit, Task
from koalja_fn.pack.errors import PhaseError
from koalja_fn.plain import plain_task, plain_wire
from koalja_fn.program import versions
from koalja_fn.program.folder import Opened
from koalja_fn.program.locating import Located
from koalja_fn.program.versions import files_of_folder

NOTE = ".koalja/task.json"
LABELS = ".koalja/labels.toml"
VERSION_LABEL = "dev.koalja.version"

_PYTHON = ("requirements.txt", "requirements.lock", "pyproject.toml", ".python-version")
_NODE = ("package.json", "package-lock.json")
_SECRETS = (
    ".env", ".env.*", "*.env", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*.pem", "*.key", "*.p12",
    "*.pfx", "*.jks", "*.keystore", "*.kdbx", ".netrc", "_netrc", ".npmrc", ".pypirc", ".git-credentials",
    ".htpasswd", "credentials.json", "service-account*.json", "kubeconfig", ".vault-token", "*.tfstate",
)  # fmt: skip
_SECRET_FOLDERS = frozenset({".ssh", ".aws", ".gnupg", ".docker", ".kube", ".azure", ".gcloud"})
_NO_SECRETS = (".env.example", ".env.sample", ".env.template", "*.pub")
_SCRIPTS = frozenset({".js", ".mjs", ".cjs"})


@dataclass(frozen=True, slots=True)
class Source:
    """What goes into the image of a task: (path in the application's folder, file here).

    `left_out` are files that look like secrets, relative to the folder.
    """

    task: Task
    root: Path
    files: tuple[tuple[str, Path], ...]
    left_out: tuple[str, ...]
    version: str
    note: dict[str, Any] = field(repr=False)

    @property
    def digest(self) -> str:
        """A digest of all that: names, executable bits, contents and the note."""
        total = hashlib.sha256(json.dumps(self.note, sort_keys=True).encode())
        for inside, path in self.files:
            if path.is_symlink():
                total.update(f"\0l{inside}\0{path.readlink()}".encode())
                continue
            total.update(f"\0f{inside}\0{int(os.access(path, os.X_OK))}\0".encode())
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        return "sha256:" + total.hexdigest()


def collect(opened: Opened, task: Task) -> Source:
    """The source of one task.

    Raises:
        PhaseError: A link leaves the folder, or there is something that is no file.
    """
    circuit = opened.circuit
    assert circuit is not None
    located = opened.located[task.name]
    root = _root(opened, located)
    wanted = set(_wanted(opened, task, located, root))
    files: dict[str, Path] = {}
    left_out: list[str] = []
    for path in sorted(wanted):
        inside = path.relative_to(root).as_posix()
        if is_secret(inside):
            left_out.append(inside)
        else:
            _check(path, root)
            files[inside] = path
    program = located.program
    own = program.relative_to(root).as_posix() if program and program.is_relative_to(root) else None
    if program is not None and own is not None and program.is_file() and own not in files:
        raise PhaseError(
            f"the program {own} is not packed", phase="source", why="it looks like a secret", cure="rename it"
        )
    note = _note(
        circuit, task, located, "task" if root != opened.folder else "circuit", own, opened.file is None
    )
    return Source(task, root, tuple(sorted(files.items())), tuple(left_out), located.version, note)


def _root(opened: Opened, located: Located) -> Path:
    """What becomes the application's folder: the circuit's, or the one that a task has for itself."""
    inside = located.code.is_relative_to(opened.folder) and located.code.is_dir()
    return located.code if inside else opened.folder


def _wanted(opened: Opened, task: Task, located: Located, root: Path) -> Iterator[Path]:
    alone = opened.circuit is not None and len(opened.circuit.tasks) == 1
    script = _runs(located, "node", _SCRIPTS)
    if root != opened.folder or alone or script:
        others = {f for name, one in opened.located.items() if name != task.name for f in one.files}
        yield from (f for f in _all_files(root) if f not in others - set(located.files))
    yield from (f for f in located.files if f.is_relative_to(root))
    manifests = _PYTHON if _runs(located, "python", {".py"}) else _NODE if script else ()
    yield from (root / name for name in manifests if (root / name).is_file())


def _runs(located: Located, interpreter: str, endings: Collection[str]) -> bool:
    """Whether a task's code is of some language: its libraries are nothing to other tasks."""
    by = Path(located.command[0]).name.startswith(interpreter)
    return by or any(path.suffix in endings for path in located.files)


def _all_files(root: Path) -> Iterator[Path]:
    found = files_of_folder(root)
    yield from (f for f in found if f.suffix != ".koalja" or f.parent != root)
    patterns = list(versions._ignore_patterns(root))
    for folder in sorted({root, *(f.parent for f in found)}):
        # Links to folders are not walked into, and dangling ones are no files: they go as they are.
        links = (p for p in folder.iterdir() if p.is_symlink() and not p.is_file())
        yield from (p for p in links if not versions._ignored(p, root, patterns))


def is_secret(inside: str) -> bool:
    """Whether a file looks like a key or a password by its name."""
    *folders, name = inside.split("/")
    if any(fnmatch(name, pattern) for pattern in _NO_SECRETS):
        return False
    return bool(_SECRET_FOLDERS & set(folders)) or any(fnmatch(name, pattern) for pattern in _SECRETS)


def _check(path: Path, root: Path) -> None:
    found = path.lstat()
    inside = path.relative_to(root)
    if stat.S_ISLNK(found.st_mode):
        text = path.readlink()
        goal = (path.parent / text).resolve()
        if text.is_absolute() or not goal.is_relative_to(root.resolve()):
            raise PhaseError(
                f"the link {inside} leaves the folder",
                phase="source",
                why=f"it points to {text}, which is not in the image",
                cure="copy the file into the folder, or name the link in .koaljaignore",
            )
    elif not stat.S_ISREG(found.st_mode):
        raise PhaseError(f"{inside} is no file", phase="source", cure="name it in .koaljaignore")
    elif not os.access(path, os.R_OK):
        raise PhaseError(f"{inside} can't be read", phase="source", cure=f"chmod u+r {inside}")


def _note(
    circuit: Circuit, task: Task, located: Located, kind: str, program: str | None, unwired: bool
) -> dict[str, Any]:
    """What the runtime is told: enough to find the task's code as it was found here."""
    return {
        "format": 1,
        "circuit": circuit.name,
        "task": task.name,
        "version": located.version,
        "root": kind,
        "program": program,
        "unwired": unwired,
        "model": wiring_of(circuit, task),
    }


def wiring_of(circuit: Circuit, task: Task) -> dict[str, Any]:
    """A task with its wires as plain data; without places in the text, which comments change."""
    names = {w for i in task.inputs for w in i.wires} | {o.wire for o in task.outputs}
    wires = [plain_wire(circuit.wires[name]) for name in sorted(names & set(circuit.wires))]
    return {"task": plain_task(task), "wires": wires}


def labels_text(labels: Iterable[tuple[str, str]]) -> str:
    """Labels as a `launch.toml` has them, for our buildpack to hand on."""
    return "".join(
        f"[[labels]]\nkey = {json.dumps(key)}\nvalue = {json.dumps(value)}\n\n" for key, value in labels
    )
