"""koalja-fn from a wheel, far from any checkout: it packs, and makes the very same image."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import koalja_fn

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ROOT = Path(koalja_fn.__file__).parents[1]
_SOURCES = (
    "pyproject.toml",
    "setup.py",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "koalja_fn",
    "runtime",
    "buildpacks",
)


def call(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in os.environ.items() if k not in ("KOALJA_BUILDPACKS", "PYTHONPATH")}
    return subprocess.run(
        [str(word) for word in words], cwd=cwd, env=environ, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a wheel is built of, so that nothing is left in the checkout and nobody changes it."""
    tree = tmp_path_factory.mktemp("tree")
    for name in _SOURCES:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "wheels")
            shutil.copytree(ROOT / name, tree / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, tree / name)
    return tree


@pytest.fixture(scope="module")
def installed(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command in an environment of its own, which borrows the libraries of this one."""
    scratch = tmp_path_factory.mktemp("installed")
    made = call(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", scratch, sources, cwd=scratch
    )
    if made.returncode != 0:
        pytest.skip(f"needs PyPI for setuptools, or PIP_FIND_LINKS with its wheel: {made.stderr[-500:]}")
    venv.create(scratch / "venv", with_pip=False)
    site = next((scratch / "venv").glob("lib/*/site-packages"))
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (wheel,) = scratch.glob("koalja_fn-*.whl")
    python = scratch / "venv/bin/python"
    done = call(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=scratch)
    assert done.returncode == 0, done.stderr
    for path in site.glob("koalja_*/**/*"):
        path.chmod(path.stat().st_mode & ~0o222)  # nothing may have to be written there
    return scratch / "venv/bin/koalja-fn"


def packed(command: list[str | Path], base: str, out: Path, cwd: Path) -> str:
    code = cwd / "hello"
    code.mkdir(exist_ok=True)
    (code / "hello.sh").write_text("#!/bin/sh\necho hello\n")
    done = call(*command, "pack", code, "--output", f"oci:{out}", "--run-image", base, "-o", "json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["tasks"][0]["digest"])


def test_an_installed_package_packs_the_same_image_as_a_checkout(
    installed: Path, sources: Path, base: str, tmp_path: Path
) -> None:
    found = call(
        installed.parent / "python", "-c", "import koalja_fn; print(koalja_fn.__file__)", cwd=tmp_path
    )
    assert found.stdout.startswith(str(installed.parents[1])), found
    first = packed([installed], base, tmp_path / "installed", tmp_path)
    start = f"import sys; sys.path.insert(0, {str(sources)!r}); from koalja_fn.commands import main; main()"
    second = packed([sys.executable, "-c", start], base, tmp_path / "checkout", tmp_path)
    assert first == second


def test_without_buildpacks_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from koalja_fn.pack import wheels
    from koalja_fn.pack.errors import PhaseError

    monkeypatch.setattr(wheels, "_PACKAGE", tmp_path / "koalja_fn")
    monkeypatch.setattr(wheels, "_SHIPPED", tmp_path / "koalja_fn/_shipped")
    monkeypatch.delenv("KOALJA_BUILDPACKS", raising=False)
    with pytest.raises(PhaseError, match="our buildpacks are not here") as caught:
        wheels.ready()
    assert "install" in caught.value.cure
