from collections.abc import Iterator
from pathlib import Path

import pytest

from koalja_fn.store import FileStore

SMALL = b"a reading\n"
LARGE = b"0123456789abcdef" * 20_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def store(root: Path) -> Iterator[FileStore]:
    store = FileStore(root)
    yield store
    store.close()


@pytest.fixture
def linking(root: Path) -> Iterator[FileStore]:
    """A store that gives out hard links, also to root."""
    store = FileStore(root, links=True)
    yield store
    store.close()
