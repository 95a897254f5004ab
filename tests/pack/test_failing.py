"""What goes wrong on the way names task and phase, and no half image stays under the tag."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from koalja_fn.commands import main
from koalja_fn.pack.oci.client import RegistryClient
from koalja_fn.pack.oci.image import compose, load_base
from koalja_fn.pack.oci.layer import Entry, layer_from_tree
from koalja_fn.pack.oci.place import digest_of
from koalja_fn.pack.oci.publishing import publish
from koalja_fn.pack.oci.reference import target
from koalja_fn.pack.oci.values import Platform
from tests.pack.oci.conftest import Registry, registry_running, tuple_of
from tests.pack.oci.cutting import cut_line
from tests.pack.oci.handmade import Behaviour, handmade
from tests.pack.test_packing import circuit, pack, packed

__all__ = ["circuit"]  # a fixture
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with registry_running(tmp_path) as running:
        yield running


def tags(out: Path) -> dict[str, str]:
    """What the tags of a folder mean."""
    index = out / "index.json"
    found = json.loads(index.read_text())["manifests"] if index.is_file() else []
    return {one["annotations"]["org.opencontainers.image.ref.name"]: one["digest"] for one in found}


def push(folder: Path, base: str, to: str, *words: str) -> Result:
    call = ["pack", str(folder), "--to", to, "--run-image", base, "--task", "shout", *words]
    return CliRunner().invoke(main, call, catch_exceptions=False)


@pytest.mark.parametrize("what", ["TMPDIR", "KOALJA_CACHE"])
def test_a_full_disk_is_told_and_the_tag_means_the_old_image(
    what: str, circuit: Path, base: str, tmp_path: Path
) -> None:
    """In a mount name space of its own, with 2 MB of memory for what is to be full."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], check=False).returncode != 0:
        pytest.skip("needs unshare (util-linux) and user name spaces to have a small disk")
    out, small = tmp_path / "out", tmp_path / "small"
    before = packed(circuit, base, out, "--task", "shout")["shout"]["digest"]
    small.mkdir(mode=0o755)
    (circuit / "shout.sh").write_text("#!/bin/sh\n# " + "x" * 4_000_000 + "\necho changed\n")
    start = "from koalja_fn.commands import main; main()"
    call = [sys.executable, "-c", start, "pack", str(circuit), "--output", f"oci:{out}", "--run-image", base]
    script = tmp_path / "call"
    script.write_text(f"mount -t tmpfs -o size=2m,mode=755 none '{small}'\nexec \"$@\"\n")
    rights = "-m" if os.geteuid() == 0 else "-rm"
    done = subprocess.run(
        [unshare, rights, "sh", str(script), *call, "--task", "shout"],
        env={**os.environ, what: str(small)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (1, 9), done.stderr
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert ("shout, " in done.stderr) or what == "KOALJA_CACHE"  # a base image is nobody's alone
    assert tags(out)["shout"] == before


def test_a_registry_that_always_breaks_off_is_told_and_has_no_tag(
    circuit: Path, base: str, registry: Registry, tmp_path: Path
) -> None:
    with cut_line(tuple_of(registry.host), [30_000] * 1000) as line:
        done = push(circuit, base, f"{line.host}/me")
    assert done.exit_code == 9, done.output
    assert "shout, publish: " in done.stderr
    assert line.host in done.stderr
    assert "Traceback" not in done.stderr
    with RegistryClient() as client:
        assert client.place(target(f"{registry.host}/me/numbers-shout")).digest_of("latest") is None


def test_a_registry_that_breaks_off_now_and_then_gets_the_whole_image(
    circuit: Path, base: str, registry: Registry
) -> None:
    with cut_line(tuple_of(registry.host), [700_000, 1_000_000]) as line:
        done = push(circuit, base, f"{line.host}/me", "-o", "json")
    assert done.exit_code == 0, done.stderr
    name = target(f"{registry.host}/me/numbers-shout")
    with RegistryClient() as client:
        made = load_base(name, Platform.here(), client)
        assert made.digest == json.loads(done.stdout)["tasks"][0]["digest"]
    for layer in made.layers:
        assert digest_of(registry.blob(layer.digest).read_bytes()) == layer.digest


def test_a_registry_that_says_no_is_told_with_its_answer(circuit: Path, base: str) -> None:
    with handmade(Behaviour(statuses=[403] * 1000)) as host:
        done = push(circuit, base, f"{host}/me")
    assert done.exit_code == 9
    assert "shout, " in done.stderr
    assert "403" in done.stderr


def test_a_base_image_that_breaks_off_is_told_and_never_half_used(
    circuit: Path, registry: Registry, tmp_path: Path
) -> None:
    content = Entry.file("/usr/bin/python3.11", os.urandom(300_000), 0o755)
    link = Entry.symlink("/usr/bin/python3", "python3.11")
    layer = layer_from_tree([content, link], tmp_path / "blobs")
    name = target(f"{registry.host}/base")
    with RegistryClient() as client:
        publish(compose(None, [layer]), name, client)
    registry.blob(layer.digest).write_bytes(os.urandom(1000))  # what it sends is not what was asked for
    done = pack(circuit, f"{registry.host}/base", tmp_path / "out", "--task", "shout")
    assert done.exit_code == 9
    assert "shout, " in done.stderr
    assert tags(tmp_path / "out") == {}


def test_a_base_of_another_machine_is_told_with_both(circuit: Path, tmp_path: Path) -> None:
    with RegistryClient() as client:
        other = compose(None, [], platform=Platform("linux", "s390x"))
        publish(other, target(f"oci:{tmp_path}/base"), client)
    done = pack(circuit, f"oci:{tmp_path}/base", tmp_path / "out", "--task", "shout")
    assert done.exit_code == 9
    assert "shout, " in done.stderr
    assert "s390x" in done.stderr
    assert Platform.here().architecture in done.stderr
    assert tags(tmp_path / "out") == {}


def test_when_no_buildpack_fits_the_error_has_what_each_said(
    circuit: Path, base: str, tmp_path: Path, make: Any
) -> None:
    no = make("no", detect="echo this is no Cobol; exit 100")
    done = pack(circuit, base, tmp_path / "out", "--buildpack", str(no.folder))
    assert done.exit_code == 9
    assert "shout, detect: no group of buildpacks fits this code" in done.stderr
    assert "this is no Cobol" in done.stderr
    assert tags(tmp_path / "out") == {}


def test_one_task_that_fails_keeps_no_other_from_being_packed(
    circuit: Path, base: str, tmp_path: Path, make: Any
) -> None:
    picky = make("picky", build="[ ! -f double.py ] || { echo not double; exit 4; }")
    done = pack(circuit, base, tmp_path / "out", "--buildpack", str(picky.folder))
    assert done.exit_code == 9
    assert "double, build: test/picky@1.0.0 failed with exit status 4" in done.stderr
    assert "not double" in done.stderr
    assert list(tags(tmp_path / "out")) == ["shout"]


def test_a_library_without_a_wheel_is_told_before_anything_is_built(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, index = tmp_path / "mine", tmp_path / "index"
    folder.mkdir()
    index.mkdir()
    (folder / "main.py").write_text("import koaljanowheel\n")
    (folder / "requirements.txt").write_text("koaljanowheel==1.0\n")
    (tmp_path / "setup.py").write_text("from setuptools import setup; setup()\n")
    with tarfile.open(index / "koaljanowheel-1.0.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "setup.py", "koaljanowheel-1.0/setup.py")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    done = pack(folder, base, tmp_path / "out")
    assert done.exit_code == 9
    assert "mine, source: what requirements.txt asks for can't be had as wheels" in done.stderr
    assert "koaljanowheel" in done.stderr
    assert "wheel" in done.stderr
    assert not (folder / "requirements.lock").exists()
    assert tags(tmp_path / "out") == {}


@pytest.mark.parametrize("which", ["--run-image", "--builder"])
def test_a_run_image_or_builder_that_can_t_be_had_is_named_with_its_option(
    circuit: Path, base: str, registry: Registry, tmp_path: Path, which: str
) -> None:
    """It may be the one by default: the name of a host alone would tell nobody what for."""
    missing = f"{registry.host}/no/such"
    words = ("--builder", missing) if which == "--builder" else ()
    done = pack(circuit, base if words else missing, tmp_path / "out", *words)
    assert done.exit_code == 9
    what = which.removeprefix("--").replace("-", " ")
    assert f"the {what} {missing} can't be had: there is no image" in done.stderr
    assert f"{which} oci:DIR" in done.stderr
