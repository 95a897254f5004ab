"""A Node program with a library from the npm registry: packed by `npm ci`, run, and fed with a value."""

from __future__ import annotations

import hashlib
import json
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.pack import containers
from tests.pack.test_packing import pack, packed
from tests.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

REGISTRY = "https://registry.npmjs.org"
LIBRARY, VERSION = "left-pad", "1.3.0"
PROGRAM = """
const pad = require("left-pad");
const { shout } = require("./lib/shout");
const text = require("fs").readFileSync(process.argv[2], "utf8").trim();
console.log(pad(shout(text), 8, "."), process.env.NODE_ENV);
"""


@pytest.fixture(scope="session")
def integrity() -> str:
    """What the registry says of the library; without a registry there is nothing to test."""
    try:
        with urllib.request.urlopen(f"{REGISTRY}/{LIBRARY}", timeout=30) as answer:
            return str(json.load(answer)["versions"][VERSION]["dist"]["integrity"])
    except (OSError, urllib.error.URLError) as error:
        pytest.skip(f"needs the npm registry at {REGISTRY}: {error}")


def write(folder: Path, integrity: str) -> Path:
    (folder / "lib").mkdir(parents=True)
    (folder / "main.js").write_text(PROGRAM)
    (folder / "lib/shout.js").write_text("exports.shout = (text) => text.toUpperCase() + '!';\n")
    asked = {"name": "shout", "version": "1.0.0", "dependencies": {LIBRARY: VERSION}}
    (folder / "package.json").write_text(json.dumps(asked))
    url = f"{REGISTRY}/{LIBRARY}/-/{LIBRARY}-{VERSION}.tgz"
    library = {"version": VERSION, "resolved": url, "integrity": integrity}
    lock = {"name": "shout", "version": "1.0.0", "lockfileVersion": 3, "requires": True,
            "packages": {"": asked, f"node_modules/{LIBRARY}": library}}  # fmt: skip
    (folder / "package-lock.json").write_text(json.dumps(lock))
    return folder


def test_a_node_program_is_packed_with_its_libraries_and_runs(
    integrity: str, node_base: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "shout", integrity)
    first = packed(folder, node_base, tmp_path / "out")["shout"]
    bundle = containers.unpack(f"oci:{tmp_path / 'out'}:shout", tmp_path / "run")
    port = free_port()
    with containers.started(bundle, env={"PORT": str(port), "KOALJA_HOST": "127.0.0.1"}) as process:
        assert containers.ask(f"http://127.0.0.1:{port}/", b"hey") == (202, b"")
        log, until = bundle.folder / "log", time.monotonic() + 30
        while '"outcome"' not in log.read_text() and time.monotonic() < until:
            time.sleep(0.05)
        assert containers.stop(bundle, process) == 0
    told = next(json.loads(line[8:]) for line in log.read_text().splitlines() if '"outcome"' in line)
    assert told["outcome"] == "done", told
    assert told["values"][0]["digest"] == "sha256:" + hashlib.sha256(b"....HEY! production\n").hexdigest()
    # A layer that is used again is the very layer that a build from nothing makes.
    (folder / "lib/shout.js").write_text("exports.shout = (text) => text + '?';\n")
    edited = packed(folder, node_base, tmp_path / "out")["shout"]
    assert edited["digest"] != first["digest"]
    assert packed(folder, node_base, tmp_path / "fresh")["shout"]["digest"] == edited["digest"]


def test_a_lock_that_does_not_fit_is_told_with_what_npm_says(
    integrity: str, node_base: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "shout", integrity[:-6] + "AAAA==")
    done = pack(folder, node_base, tmp_path / "out")
    assert done.exit_code == 9
    assert "shout, build: koalja/node@" in done.stderr
    assert "EINTEGRITY" in done.stderr
    assert (
        not (tmp_path / "out/index.json").exists()
        or not json.loads((tmp_path / "out/index.json").read_text())["manifests"]
    )


def test_without_npm_or_a_lock_it_is_said(base: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "shout", "sha512-x")
    done = pack(folder, base, tmp_path / "out")
    assert done.exit_code == 9
    assert "has no node and npm" in done.stderr
    (folder / "package-lock.json").unlink()
    done = pack(folder, base, tmp_path / "out")
    assert "there is no package-lock.json" in done.stderr
