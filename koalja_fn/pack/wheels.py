"""Fills the buildpacks' folders with the runtime's wheels: `python -m koalja_fn.pack.wheels`.

A buildpack has no network while it builds, so what it installs lies in it. Only pure-Python libraries are
taken, since one folder serves each Python and processor; compiled speed-ups in them are left out on
installing. Our own wheel is made of the very files of this library, so a checkout and an installed package
make the same image. In a checkout the wheels lie in `buildpacks/`, out of version control; an installed
package, whose folder may be read-only, keeps its buildpacks with the wheels in the cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from koalja_fn.pack.errors import PhaseError
from koalja_fn.pack.places import cache_folder

PINS = "wheels.txt"
_PACKAGE = Path(__file__).resolve().parents[1]
_SHIPPED = _PACKAGE / "_shipped"
_KINDS = frozenset({".py", ".lark", ".sql", ".json"})


def buildpacks_folder() -> Path:
    """Where our buildpacks are: where KOALJA_BUILDPACKS says, in the checkout, or in the installed package.

    Raises:
        PhaseError: Nowhere.
    """
    given = os.environ.get("KOALJA_BUILDPACKS")
    for folder in (Path(given) if given else None, _PACKAGE.parent / "buildpacks", _SHIPPED):
        if folder is not None and (folder / "koalja" / "buildpack.toml").is_file():
            return folder
    raise PhaseError(
        "our buildpacks are not here",
        phase="source",
        cure="install koalja-fn anew, or set KOALJA_BUILDPACKS to the folder `buildpacks` of its repository",
    )


def ready() -> Path:
    """The folder of our buildpacks with the wheels of this very source in them; made if need be."""
    folder = buildpacks_folder()
    now = _source_digest(folder)
    if folder == _SHIPPED:
        folder = _unfolded(folder, now)
    mark = folder / "koalja" / "wheels" / "source"
    if mark.is_file() and mark.read_text() == now:
        return folder
    mark.parent.mkdir(exist_ok=True)
    with open(folder / "koalja" / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not mark.is_file() or mark.read_text() != now:
            collect(folder)
    return folder


def _unfolded(shipped: Path, digest: str) -> Path:
    """A copy in the cache that can be written to; installers may have lost the executable bits."""
    folder = cache_folder() / "buildpacks" / digest[:32]
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=folder.parent) as new:
            made = Path(new) / "buildpacks"
            shutil.copytree(shipped, made, ignore=shutil.ignore_patterns("__pycache__"))
            for path in made.rglob("*"):
                path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
            made.chmod(0o755)
            with suppress(OSError):  # somebody else was faster
                made.rename(folder)
    return folder


def collect(folder: Path) -> Path:
    """Build our wheel, fetch the others', and write their common digest."""
    home = folder / "koalja" / "wheels"
    with tempfile.TemporaryDirectory(prefix="koalja-wheels-") as scratch:
        made = Path(scratch)
        _write_ours(made / "koalja_fn-0-py3-none-any.whl")
        pins = ["-r", str(folder / "koalja" / PINS)]
        _pip(["download", "--quiet", "--no-deps", "--only-binary=:all:", "-d", str(made), *pins])
        home.mkdir(exist_ok=True)
        for old in home.glob("*.whl"):
            old.unlink()
        for wheel in made.glob("*.whl"):
            shutil.copyfile(wheel, home / wheel.name)
    (home / "digest").write_text(_digest(home))
    (home / "source").write_text(_source_digest(folder))
    return home


def _ours() -> list[tuple[str, Path]]:
    """The files of library and runtime, each with its name in the wheel: of a checkout or an installation."""
    found = importlib.util.find_spec("koalja_runtime")
    beside = _PACKAGE.parent / "runtime" / "koalja_runtime"
    runtime = beside if beside.is_dir() else Path(found.origin).parent if found and found.origin else None
    if runtime is None:
        raise PhaseError(
            "the runtime is not here",
            phase="source",
            cure="pip install koalja-fn, which brings koalja_runtime",
        )
    return [
        (f"{folder.name}/{path.relative_to(folder).as_posix()}", path)
        for folder in (_PACKAGE, runtime)
        for path in sorted(folder.rglob("*"))
        if (path.suffix in _KINDS or path.name == "py.typed") and _SHIPPED not in path.parents
    ]


def _write_ours(wheel: Path) -> None:
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for inside, path in _ours():
            archive.writestr(zipfile.ZipInfo(inside), path.read_bytes(), zipfile.ZIP_DEFLATED)


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
    total = hashlib.sha256((folder / "koalja" / PINS).read_bytes())
    for inside, path in _ours():
        total.update(f"{inside}\0".encode() + path.read_bytes())
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
    sys.stdout.write(f"{ready() / 'koalja' / 'wheels'}\n")
