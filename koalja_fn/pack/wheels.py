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
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from koalja_fn.pack.errors import PhaseError
from koalja_fn.pack.places import cache_folder

PINS = "wheels.txt"
COMPILED = "compiled.txt"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
"""Of run images: for these there are compiled wheels."""
_FITTING = ("psycopg_binary-", "obstore-")
_TAGS = ("manylinux2014", "manylinux_2_17", "manylinux_2_28")
_PACKAGE = Path(__file__).resolve().parents[1]
_SHIPPED = _PACKAGE / "_shipped"
_NEW = ".wheels-"
_KINDS = (".py", ".lark", ".sql", ".json")


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


def ready(say: Callable[[str], None] = lambda _: None) -> Path:
    """The folder of our buildpacks with the wheels of this very source; `say` hears if they are made."""
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
            say("making the runtime's wheels, since koalja-fn itself has changed: some seconds, once")
            collect(folder)
    return folder


def _unfolded(shipped: Path, digest: str) -> Path:
    """A copy in the cache that can be written to; installers may have lost the executable bits."""
    folder = cache_folder() / "buildpacks" / digest[:32]
    if not folder.is_dir():
        import shutil
        import tempfile

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
    """Build our wheel, fetch the others', and write their common digest.

    They come in at once: a pack that reads there meanwhile finds whole wheels.
    """
    import shutil
    import tempfile

    from koalja_fn.pack.swapping import swap

    home = folder / "koalja" / "wheels"
    home.mkdir(exist_ok=True)
    source = _source_digest(folder)
    made = Path(tempfile.mkdtemp(prefix=_NEW, dir=folder))
    try:
        made.chmod(0o755)
        _write_ours(made / "koalja_fn-0-py3-none-any.whl")
        pins = ["-r", str(folder / "koalja" / PINS)]
        _pip(["download", "--quiet", "--no-deps", "--only-binary=:all:", "-d", str(made), *pins])
        compiled = ["-r", str(folder / "koalja" / COMPILED), *_platforms()]
        for version in PYTHONS:
            words = ["--no-deps", "--only-binary=:all:", "--python-version", version, *compiled]
            _pip(["download", "--quiet", "-d", str(made), *words])
        (made / "digest").write_text(_digest(made))
        (made / "source").write_text(source)
        swap(made, home)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    for old in folder.glob(f"{_NEW}*"):  # of times before; the last ones may still be read
        if old != made:
            shutil.rmtree(old, ignore_errors=True)
    return home


def _platforms() -> list[str]:
    """What tells pip of this kind of machine: images are made for the kind that packs them."""
    import platform

    machine = platform.machine()
    return [word for tag in _TAGS for word in ("--platform", f"{tag}_{machine}")]


def _runtime() -> Path:
    """The folder of the runtime: of a checkout or an installation."""
    beside = _PACKAGE.parent / "runtime" / "koalja_runtime"
    if beside.is_dir():
        return beside
    from importlib.util import find_spec

    found = find_spec("koalja_runtime")
    if found is None or found.origin is None:
        raise PhaseError(
            "the runtime is not here",
            phase="source",
            cure="pip install koalja-fn, which brings koalja_runtime",
        )
    return Path(found.origin).parent


def _ours() -> list[tuple[str, os.DirEntry[str]]]:
    """The files of library and runtime, each with its name in the wheel, in the order of these names."""
    return sorted(
        (
            (f"{folder.name}/{inside}", entry)
            for folder in (_PACKAGE, _runtime())
            for inside, entry in _in(folder)
        ),
        key=lambda pair: pair[0],
    )


def _in(folder: Path | str, inside: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name != "__pycache__" and entry.path != str(_SHIPPED):
                    yield from _in(entry.path, f"{inside}{entry.name}/")
            elif entry.name == "py.typed" or entry.name.endswith(_KINDS):
                yield f"{inside}{entry.name}", entry


def _write_ours(wheel: Path) -> None:
    import zipfile

    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for inside, entry in _ours():
            archive.writestr(zipfile.ZipInfo(inside), Path(entry).read_bytes(), zipfile.ZIP_DEFLATED)


def _digest(home: Path) -> str:
    """Over what will be installed: the archives themselves carry the time of their making."""
    import zipfile

    total = hashlib.sha256()
    for wheel in sorted(home.glob("*.whl")):
        fitting = wheel.name.startswith(_FITTING)
        with zipfile.ZipFile(wheel) as archive:
            for name in sorted(
                n for n in archive.namelist() if ".dist-info/" not in n and (fitting or not n.endswith(".so"))
            ):
                total.update(f"{name}\0".encode() + hashlib.sha256(archive.read(name)).digest())
    return total.hexdigest()


def _source_digest(folder: Path) -> str:
    """Of what the wheels are made of. Files that nobody has touched since are not read again."""
    files = _ours()
    pins = (folder / "koalja" / PINS).read_bytes() + (folder / "koalja" / COMPILED).read_bytes()
    stamp = _stamp(files, pins)
    kept = cache_folder() / "sources" / hashlib.sha256(os.fsencode(_PACKAGE)).hexdigest()[:16]
    with suppress(OSError, ValueError):
        seen, known = kept.read_text().split()
        if seen == stamp:
            return known
    total = hashlib.sha256(pins)
    for inside, entry in files:
        total.update(f"{inside}\0".encode() + Path(entry).read_bytes())
    with suppress(OSError):  # it is only slower without
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_name(f"{kept.name}.{os.getpid()}")
        part.write_text(f"{stamp} {total.hexdigest()}")
        part.replace(kept)
    return total.hexdigest()


def _stamp(files: Sequence[tuple[str, os.DirEntry[str]]], pins: bytes) -> str:
    """Changes with each touch of a file: nobody can set the time of its last change of status."""
    total = hashlib.sha256(pins)
    for inside, entry in files:
        found = entry.stat()
        total.update(
            f"{inside}\0{found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}\0".encode()
        )
    return total.hexdigest()


def _pip(arguments: Sequence[str]) -> None:
    from koalja_fn.pack.pip import run_pip

    done = run_pip(arguments)
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
