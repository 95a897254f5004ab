from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.cluster import Cluster

Deploy = Callable[..., Cluster]


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A registry's address."""
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path / 'registry.db'}"
        return
    from tests.postgres.schemas import empty_registry

    with empty_registry() as address:
        yield address


@pytest.fixture
def place(tmp_path: Path) -> str:
    """A store's address."""
    return f"file:{tmp_path / 'objects'}"


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
