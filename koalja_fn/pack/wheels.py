"""Fills the buildpacks' folders with the runtime's wheels: `python -m koalja_fn.pack.wheels`.

A buildpack has no network while it builds, so what it installs lies in it. Only pure-Python libraries are
taken, since one folder serves each Python and processor; compiled speed-ups in them are left out on
installing. The wheels do not go into version control.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from koalja_fn.pack.errors import PhaseError

PINS = "wheels.txt"


def buildpacks_folder() -> Path:
    """Where our buildpacks are: beside the library, or where KOALJA_BUILDPACKS says."""
    given = os.environ.get("KOALJA_BUILDPACKS")
    for folder in (Path(given) if given else None, Path(__file__).resolve().parents[2] / "buildpacks"):
        if folder is not None and (folder / "koalja" / "buildpack.toml").is_file():
            return folder
    raise PhaseError(
        "our buildpacks are not here",
        phase="source",
        cure="set KOALJA_BUILDPACKS to the folder `buildpacks` of the repository",
    )


def ensure(folder: Path) -> None:
    """Make the wheels if they are not those of this very source."""
    home = folder / "koalja" / "wheels"
    mark = home / "source"
    now = _source_digest(folder)
    if mark.is_file() and mark.read_text() == now:
        return
    home.mkdir(exist_ok=True)
    with open(home.parent / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not mark.is_file() or mark.read_text() != now:
            collect(folder)


def collect(folder: Path) -> Path:
    """Build our wheel, fetch the others', and write their common digest."""
    source = Path(__file__).resolve().parents[2]
    home = folder / "koalja" / "wheels"
    with tempfile.TemporaryDirectory(prefix="koalja-wheels-") as scratch:
        made, tree = Path(scratch) / "made", Path(scratch) / "tree"
        made.mkdir()
        _copy_source(source, tree)
        _pip(["wheel", "--quiet", "--no-deps", "--wheel-dir", str(made), str(tree)])
        _pip(
            [
                "download",
                "--quiet",
                "--no-deps",
                "--only-binary=:all:",
                "-d",
                str(made),
                "-r",
                str(folder / "koalja" / PINS),
            ]
        )
        home.mkdir(exist_ok=True)
        for old in home.glob("*.whl"):
            old.unlink()
        for wheel in made.glob("*.whl"):
            shutil.copyfile(wheel, home / wheel.name)
    (home / "digest").write_text(_digest(home))
    (home / "source").write_text(_source_digest(folder))
    return home


def _copy_source(source: Path, tree: Path) -> None:
    """Only what the wheel is made of, so that the build leaves no traces in the checkout."""
    tree.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copyfile(source / name, tree / name)
    caches = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info")
    shutil.copytree(source / "koalja_fn", tree / "koalja_fn", ignore=caches)
    if (source / "runtime").is_dir():
        shutil.copytree(source / "runtime", tree / "runtime", ignore=caches)


def _digest(home: Path) -> str:
    """Over what will be installed: the archives themselves carry the time of their making."""
    total = hashlib.sha256()
    for wheel in sorted(home.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for name in sorted(
                n for n in archive.namelist() if ".dist-info/" not in n and not n.endswith(".so")
            ):
                total.update(f"{name}\0".encode() + hashlib.sha256(archive.read(name)).digest())
    return total.hexdigest()


def _source_digest(folder: Path) -> str:
    source = Path(__file__).resolve().parents[2]
    total = hashlib.sha256((folder / "koalja" / PINS).read_bytes())
    paths = [source / "pyproject.toml", *source.glob("koalja_fn/**/*"), *source.glob("runtime/**/*")]
    for path in sorted(paths):
        if path.is_file() and "__pycache__" not in path.parts:
            total.update(f"{path.relative_to(source)}\0".encode() + path.read_bytes())
    return total.hexdigest()


def _pip(arguments: Sequence[str]) -> None:
    words = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PhaseError(
            "the runtime's wheels can't be made",
            phase="source",
            why=(done.stderr.strip().splitlines() or [""])[-1],
            cure="python -m koalja_fn.pack.wheels, where PyPI can be reached",
            output=done.stderr,
        )


if __name__ == "__main__":
    sys.stdout.write(f"{collect(buildpacks_folder())}\n")
