"""What a Python task needs: resolved once into a lock beside it, and its wheels at hand for the build.

`requirements.lock` has every distribution with version and hashes. It is part of the source from then on:
the same lock gives the same image anywhere. Wheels are fetched here, with this machine's pip settings, so
that builds need neither network nor an index's credentials.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from koalja_fn.pack.buildpack import Machine
from koalja_fn.pack.errors import PhaseError
from koalja_fn.pack.places import cache_folder

LOCK = "requirements.lock"
_HEAD = (
    "# Made by koalja-fn pack from {name} ({digest}) for Python {python}, {machine}.\n"
    "# Remove it to resolve anew.\n"
)
_MADE_FROM = re.compile(r"# Made by koalja-fn pack from \S+ \((\w+)\)")
_FURTHER = re.compile(r"^\s*(?:-r|-c|--requirement|--constraint)[\s=]+(\S+)", re.MULTILINE)
_RESOLVING = threading.Lock()  # tasks of one folder share its lock
_NEWEST_GLIBC = 36
_PROCESSORS = {"amd64": "x86_64", "arm64": "aarch64", "386": "i686", "arm": "armv7l"}


def needs(root: Path) -> tuple[str, str]:
    """The file that says what the code needs, and the requirements in it; both empty if there is none."""
    plain = root / "requirements.txt"
    if plain.is_file():
        text = plain.read_text(encoding="utf-8", errors="replace")
        wanted = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        return (plain.name, text) if wanted else ("", "")
    project = root / "pyproject.toml"
    if project.is_file():
        try:
            found = (
                tomllib.loads(project.read_text(encoding="utf-8")).get("project", {}).get("dependencies", [])
            )
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError) as error:
            raise PhaseError("pyproject.toml can't be read", phase="source", why=str(error)) from error
        if found:
            return project.name, "\n".join(map(str, found)) + "\n"
    return "", ""


def stands(root: Path) -> bool:
    """Whether the folder's lock is of its requirements; the user's own lock always is."""
    path, text = root / LOCK, needs(root)[1]
    if not path.is_file():
        return not text
    made = _MADE_FROM.search(path.read_text(encoding="utf-8", errors="replace"))
    return made is None or made[1] == _digest(root, text)


def lock(root: Path, machine: Machine, python: str) -> bool:
    """Make the lock of a folder's requirements, unless it stands; whether it was made.

    Raises:
        PhaseError: They can't be met for the image's Python and platform by wheels.
    """
    with _RESOLVING:
        if stands(root):
            return False
        name, text = needs(root)
        if not python:
            raise PhaseError(f"{name} asks for libraries, but the run image has no Python", phase="source")
        lines = _resolved(root, name, text, machine, python)
        where = f"{machine.os}/{machine.arch}"
        path = root / LOCK
        part = path.with_suffix(".part")
        part.write_text(
            _HEAD.format(name=name, digest=_digest(root, text), python=python, machine=where) + "".join(lines)
        )
        part.replace(path)
        return True


def _digest(root: Path, text: str) -> str:
    """Over what is asked for, with the files that it names by `-r` and `-c`."""
    total, waiting, seen = hashlib.sha256(text.encode()), _FURTHER.findall(text), set()
    while waiting:
        path = root / waiting.pop(0)
        if path not in seen and path.is_file():
            seen.add(path)
            more = path.read_text(encoding="utf-8", errors="replace")
            total.update(more.encode())
            waiting += _FURTHER.findall(more)
    return total.hexdigest()[:16]


def wheels(path: Path, machine: Machine, python: str) -> Path:
    """A folder with the wheels of a lock, fetched at most once."""
    key = hashlib.sha256(f"{python} {machine.os} {machine.arch}\n".encode() + path.read_bytes()).hexdigest()[
        :32
    ]
    folder = cache_folder() / "wheels" / key
    if folder.is_dir():
        return folder
    import tempfile

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder.parent) as new:
        made = Path(new) / "wheels"
        made.mkdir()
        hashed = ["--require-hashes"] if "--hash=" in path.read_text(encoding="utf-8") else []
        _pip(
            ["download", "--no-deps", *hashed, "-r", str(path), "-d", str(made), *_target(machine, python)],
            path.name,
        )
        Path(new).chmod(0o755)
        if not folder.is_dir():
            made.replace(folder)
    return folder


def _resolved(root: Path, name: str, text: str, machine: Machine, python: str) -> list[str]:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="koalja-lock-") as scratch:
        report = Path(scratch) / "report.json"
        asked = root / name
        if name != "requirements.txt":
            asked = Path(scratch) / "requirements.txt"
            asked.write_text(text)
        arguments = ["install", "--dry-run", "--ignore-installed", "--quiet", "--report", str(report)]
        target = ["--target", scratch, *_target(machine, python)]
        _pip([*arguments, "-r", str(asked), *target], name, cwd=root)
        found = json.loads(report.read_text())
    return sorted(_line(one) for one in found["install"])


def _line(one: dict[str, Any]) -> str:
    about, where = one["metadata"], one["download_info"]
    hashes = where.get("archive_info", {}).get("hashes", {})
    if "sha256" not in hashes:
        return f"{about['name'].lower()}=={about['version']}\n"
    return f"{about['name'].lower()}=={about['version']} \\\n    --hash=sha256:{hashes['sha256']}\n"


def _target(machine: Machine, python: str) -> list[str]:
    """The words for pip that mean for wheels only, for that Python and platform."""
    processor = _PROCESSORS.get(machine.arch, machine.arch)
    tags = [f"manylinux_2_{minor}_{processor}" for minor in range(_NEWEST_GLIBC, 4, -1)]
    tags += [
        f"manylinux2014_{processor}",
        f"manylinux2010_{processor}",
        f"manylinux1_{processor}",
        f"linux_{processor}",
    ]
    if machine.distro == "alpine":
        tags = [f"musllinux_1_{minor}_{processor}" for minor in range(2, -1, -1)]
    words = ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    for tag in tags:
        words += ["--platform", tag]
    return words


def _pip(arguments: Sequence[str], name: str, cwd: Path | None = None) -> None:
    from koalja_fn.pack.pip import run_pip

    environ = {k: v for k, v in os.environ.items() if not k.startswith("KOALJA_")}
    done = run_pip(arguments, environ=environ, cwd=cwd)
    if done.returncode != 0:
        why = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise PhaseError(
            f"what {name} asks for can't be had as wheels for the image",
            phase="source",
            why=(why[-1].removeprefix("ERROR: ") if why else ""),
            cure="choose a version that has a wheel for the image's Python and platform",
            output=done.stderr,
        )
