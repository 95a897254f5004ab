"""A real registry: Debian's docker-registry on a free loopback port, with and without a password."""

import base64
import contextlib
import hashlib
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from koalja_fn.pack.oci.auth import Keychain
from koalja_fn.pack.oci.client import RegistryClient
from koalja_fn.pack.oci.image import Image, compose
from koalja_fn.pack.oci.layer import Entry, layer_from_tree
from koalja_fn.pack.oci.transport import Transport
from koalja_fn.pack.oci.values import Platform

USER, PASSWORD = "reader", "s3cret-of-the-test"
AMD = Platform("linux", "amd64")


@dataclass(frozen=True)
class Registry:
    host: str
    storage: Path

    def blobs(self) -> set[str]:
        """The digests of all blobs that it keeps, as they lie on disk."""
        return {f"sha256:{path.parent.name}" for path in self.storage.rglob("blobs/sha256/*/*/data")}

    def blob(self, digest: str) -> Path:
        value = digest.removeprefix("sha256:")
        return self.storage / "docker/registry/v2/blobs/sha256" / value[:2] / value / "data"


@contextmanager
def registry_running(folder: Path, htpasswd: str = "") -> Iterator[Registry]:
    program = shutil.which("docker-registry")
    assert program, "docker-registry is missing: tests/run installs it (apt-get install docker-registry)"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    storage = folder / "storage"
    config = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(storage)}, "delete": {"enabled": True}},
        "http": {"addr": host, "secret": "not secret"},
    }
    if htpasswd:
        file = folder / "htpasswd"
        file.write_text(htpasswd)
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(file)}}
    path = folder / "config.json"
    path.write_text(json.dumps(config))  # JSON is YAML
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(path)], stdout=log, stderr=log)
    try:
        _wait(host, process, folder / "log")
        yield Registry(host, storage)
    finally:
        process.kill()
        process.wait()


def _wait(host: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(200):
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(tuple_of(host), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(f"docker-registry does not answer: {log.read_text()}")


def tuple_of(host: str) -> tuple[str, int]:
    name, _, port = host.rpartition(":")
    return name, int(port)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry_running(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that wants a user and a password."""
    program = shutil.which("htpasswd")
    assert program, "htpasswd is missing: tests/run installs it (apt-get install apache2-utils)"
    made = subprocess.run([program, "-Bbn", USER, PASSWORD], capture_output=True, text=True, check=True)
    with registry_running(tmp_path_factory.mktemp("guarded"), made.stdout) as running:
        yield running


@pytest.fixture
def nobody(tmp_path: Path) -> Keychain:
    """A keychain of somebody who never logged in anywhere."""
    return Keychain({"HOME": str(tmp_path / "home"), "DOCKER_CONFIG": str(tmp_path / "docker")})


@pytest.fixture
def client(nobody: Keychain) -> Iterator[RegistryClient]:
    with RegistryClient(keychain=nobody, transport=Transport(sleep=lambda _: None)) as made:
        yield made


@pytest.fixture
def name(registry: Registry, request: pytest.FixtureRequest) -> str:
    """A repository that no other test uses."""
    return f"{registry.host}/t/{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]}"


def image(folder: Path, files: dict[str, bytes], platform: Platform = AMD, **words: str) -> Image:
    """An image of one layer with these files."""
    layer = layer_from_tree([Entry.file(path, data) for path, data in files.items()], folder)
    return compose(None, [layer], platform=platform, labels=words)


def put_index(host: str, repository: str, tag: str, data: bytes, media_type: str) -> None:
    """Put a manifest by plain HTTP, without the code under test."""
    request = urllib.request.Request(
        f"http://{host}/v2/{repository}/manifests/{tag}",
        data=data,
        method="PUT",
        headers={"Content-Type": media_type},
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 201


@pytest.fixture
def logged_in(guarded: Registry, tmp_path: Path) -> Keychain:
    """A keychain with the guarded registry's password, as `docker login` leaves it."""
    folder = tmp_path / "logged-in"
    folder.mkdir()
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {guarded.host: {"auth": auth}}}))
    return Keychain({"DOCKER_CONFIG": str(folder)})
