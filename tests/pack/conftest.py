"""A base image of Debian packages, made once and kept, and buildpacks of our own."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from koalja_fn.pack.buildpack import Buildpack, Machine, read_buildpack
from koalja_fn.pack.oci.client import RegistryClient
from koalja_fn.pack.oci.image import compose
from koalja_fn.pack.oci.layer import layer_from_tree, tree
from koalja_fn.pack.oci.publishing import publish
from koalja_fn.pack.oci.reference import target
from koalja_fn.pack.site import Site, open_site

MACHINE = Machine("linux", "amd64", "", "debian", "12")
_SUITE = "bookworm"
_LEFT_OUT = ("doc", "man", "locale", "info")


def cache_of_tests() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(os.environ.get("KOALJA_TEST_CACHE") or f"{home}/koalja-fn-tests")


@pytest.fixture(scope="session")
def base() -> str:
    """The name of a base image with Python; made by mmdebstrap in half a minute, then kept."""
    return _kept_base("base", "python3,ca-certificates")


@pytest.fixture(scope="session")
def node_base() -> str:
    """The same with Node and npm, which takes a minute; other tests do not wait for it."""
    return _kept_base("node-base", "python3,ca-certificates,nodejs,npm")


def _kept_base(name: str, packages: str) -> str:
    folder = cache_of_tests()
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / name / "index.json").is_file():
            _make_base(folder, name, packages)
    return f"oci:{folder / name}"


def _make_base(folder: Path, name: str, packages: str) -> None:
    command = shutil.which("mmdebstrap")
    if command is None:
        pytest.fail("needs mmdebstrap: apt-get install mmdebstrap (tests/run installs it)")
    with tempfile.TemporaryDirectory(prefix="koalja-base-") as scratch:
        rootfs = Path(scratch) / "rootfs"
        words = [command, "--variant=minbase", f"--include={packages}", "--format=tar"]
        words += [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in _LEFT_OUT]
        archive = Path(scratch) / "base.tar"
        done = subprocess.run(
            [*words, _SUITE, str(archive)],
            env={**os.environ, "SOURCE_DATE_EPOCH": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            pytest.fail(f"mmdebstrap could not make a base image:\n{done.stderr[-2000:]}")
        rootfs.mkdir()
        subprocess.run(["tar", "-C", rootfs, "--exclude=./dev/*", "-xf", archive], check=True)
        entries = [entry for entry in tree(rootfs, "/", 0, 0) if entry.path != "/"]
        layer = layer_from_tree(entries, Path(scratch) / "layers")
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        new = folder / f"{name}.new"
        shutil.rmtree(new, ignore_errors=True)
        with RegistryClient() as client:
            publish(compose(None, [layer], env={"PATH": path}), target(f"oci:{new}"), client)
        new.rename(folder / name)


@pytest.fixture(autouse=True)
def _caches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpacked bases are kept between runs; layers are by image, and each test has its own."""
    monkeypatch.setenv("KOALJA_CACHE", str(cache_of_tests() / "koalja"))
    for name in ("KOALJA_CNB_LAUNCHER", "SOURCE_DATE_EPOCH"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session", autouse=True)
def _open_to_all(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Buildpacks run as somebody else if the tests run as root; pytest's folders are closed to others."""
    if os.geteuid() == 0:
        for folder in (tmp_path_factory.getbasetemp(), *tmp_path_factory.getbasetemp().parents):
            if str(folder).startswith(tempfile.gettempdir() + "/"):
                folder.chmod(0o755)


Maker = Callable[..., Buildpack]


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    """Write a buildpack: `make("a", detect="…", build="…", toml="…", api="0.10")`, in shell."""

    def maker(
        name: str,
        *,
        detect: str = "",
        build: str = "",
        api: str = "0.10",
        toml: str = "",
        extra: str = "",
        version: str = "1.0.0",
    ) -> Buildpack:
        folder = tmp_path / "buildpacks" / f"{name}-{version}"
        (folder / "bin").mkdir(parents=True)
        about = f'api = "{api}"\n[buildpack]\nid = "test/{name}"\nversion = "{version}"\n{extra}\n{toml}'
        (folder / "buildpack.toml").write_text(about)
        for program, text in (("detect", detect), ("build", build)):
            path = folder / "bin" / program
            path.write_text(f"#!/bin/sh\nset -eu\n{text}\n")
            path.chmod(0o755)
        return read_buildpack(folder)

    return maker


Opener = Callable[..., Site]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Opener]:
    """Open a site on this machine for some buildpacks: what they see is real, but for the sandbox."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def opener(
            *buildpacks: Buildpack,
            user: Mapping[str, str] | None = None,
            files: Mapping[str, str] | None = None,
        ) -> Site:
            fill = []
            for name, text in (files or {"main.sh": "echo hello"}).items():
                path = tmp_path / "app" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
                fill.append((name, path))
            return stack.enter_context(
                open_site(
                    name=str(tmp_path),
                    rootfs=None,
                    buildpacks=buildpacks,
                    machine=MACHINE,
                    user=user or {},
                    base={},
                    extra={},
                    fill=fill,
                )
            )

        yield opener
