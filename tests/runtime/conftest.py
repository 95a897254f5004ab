from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.cluster import Cluster

Deploy = Callable[..., Cluster]


@dataclass(frozen=True)
class Home:
    """Where a circuit's registry and payloads are, and what its runtimes must know besides."""

    registry: str
    store: str
    settings: dict[str, str]


@pytest.fixture(params=["sqlite and files", "postgres and files", "postgres and s3"])
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A registry and a store."""
    files = f"file:{tmp_path / 'objects'}"
    if request.param.startswith("sqlite"):
        yield Home(f"sqlite:{tmp_path / 'registry.db'}", files, {})
        return
    from tests.postgres.schemas import empty_registry

    with empty_registry() as address:
        if request.param.endswith("files"):
            yield Home(address, files, {})
            return
        from tests.aws.localstack import shared

        stack = shared()
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
        for name, text in {**keys, "AWS_ENDPOINT_URL_S3": stack.url}.items():
            monkeypatch.setenv(name, text)
        yield Home(address, f"s3://{stack.bucket()}/c", {**keys, "AWS_ENDPOINT_URL_S3": stack.url})


@pytest.fixture
def deploy(tmp_path: Path) -> Iterator[Deploy]:
    """Deploy a circuit: `deploy(WIRING, PROGRAMS, …)`, or a folder."""
    made: list[Cluster] = []

    def start(what: str | Path, programs: dict[str, str] | None = None, **more: Any) -> Cluster:
        folder = what if isinstance(what, Path) else tmp_path / "c"
        if isinstance(what, str):
            folder.mkdir()
            (folder / "c.koalja").write_text(what)
            for name, text in (programs or {}).items():
                (folder / name).write_text(text)
        cluster = Cluster(folder, tmp_path / "home", **more)
        made.append(cluster)
        cluster.start()
        return cluster

    yield start
    for cluster in made:
        cluster.stop()
