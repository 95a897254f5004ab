"""A damaged payload is never handed on, and is mended by putting it again."""

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from koalja_fn.errors import StoreError
from koalja_fn.store import FileStore, disk

from .conftest import LARGE, SMALL


def damage_small(root: Path) -> None:
    connection = sqlite3.connect(root / "small.db")
    connection.execute("UPDATE small SET data = x'00'")
    connection.commit()
    connection.close()


def test_a_damaged_row_is_found_and_mended(root: Path) -> None:
    store = FileStore(root)
    name = store.put_bytes(SMALL).digest
    store.close()
    damage_small(root)
    store = FileStore(root)
    assert not store.verify(name)
    with pytest.raises(StoreError, match="damaged"):
        store.read(name)
    store.put_bytes(SMALL)
    assert store.read(name) == SMALL
    store.close()


@pytest.mark.parametrize("left", [b"", LARGE[:-1], LARGE + b"x", b"X" + LARGE[1:]])
def test_a_damaged_file_is_found_and_replaced(store: FileStore, left: bytes) -> None:
    name = store.put_bytes(LARGE).digest
    path = store.path(name)
    path.chmod(0o600)
    path.write_bytes(left)
    assert not store.verify(name)
    with pytest.raises(StoreError):
        store.read(name)
    store.put_bytes(LARGE)
    assert store.read(name) == LARGE


def test_silent_damage_is_found_by_reading_it_all(store: FileStore) -> None:
    """A disk that changes bytes leaves the file's time alone."""
    name = store.put_bytes(LARGE).digest
    path = store.path(name)
    path.chmod(0o600)
    path.write_bytes(b"X" + LARGE[1:])
    os.utime(path, ns=(disk.STAMP, disk.STAMP))
    assert not store.verify(name)


def test_a_full_disk_is_explained_and_leaves_nothing(
    store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(disk, "write_all", full)
    with pytest.raises(StoreError) as failed:
        store.put_bytes(LARGE)
    assert "No space left" in failed.value.why
    assert "free some disk space" in failed.value.cure
    monkeypatch.undo()
    assert [p for p in (root / "tmp").rglob("*") if p.is_file() and p.suffix != ".lock"] == []
    assert list(store.digests()) == []
    store.put_bytes(LARGE)


def test_a_file_that_is_no_database_is_explained(root: Path) -> None:
    root.mkdir()
    (root / "small.db").write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(StoreError, match=r"small\.db"):
        FileStore(root)
    assert list((root / "tmp").iterdir()) == []


def test_a_place_that_is_no_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can't be opened"):
        FileStore(tmp_path / "file")
