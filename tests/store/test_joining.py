"""A store beside a registry in one file: a payload and what names it are durable with one commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from koalja_fn.errors import StoreError
from koalja_fn.sqlite import Database, Tx
from koalja_fn.store import FileStore, Within
from koalja_fn.store.files import SMALL

NAMES = "CREATE TABLE name (digest TEXT);\n"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "names.db", [NAMES], "names")
    yield database
    database.close()


@pytest.fixture
def store(tmp_path: Path, database: Database) -> Iterator[FileStore]:
    store = joined(tmp_path, database)
    yield store
    store.close()


def joined(tmp_path: Path, database: Database) -> FileStore:
    store = FileStore(tmp_path / "objects")
    store.join(database)
    return store


def put(store: FileStore, database: Database, data: bytes) -> str:
    """Put a payload together with the row that names it."""
    (stored,), within = store.put_within([data])
    assert within is not None

    def step(tx: Tx, within: Within = within) -> None:
        tx.run("INSERT INTO name VALUES (?)", stored.digest)
        within(tx)

    database.transact(step)
    return stored.digest


def test_one_commit_serves_both(store: FileStore, database: Database, tmp_path: Path) -> None:
    commits = database.commits
    digest = put(store, database, b"payload")
    assert database.commits == commits + 1
    with sqlite3.connect(tmp_path / "objects/small.db") as small:
        assert small.execute("SELECT count(*) FROM small").fetchone() == (0,)
    other = joined(tmp_path, database)  # it remembers nothing
    assert other.read(digest) == b"payload"
    assert (other.size(digest), other.has(digest), other.verify(digest)) == (7, True, True)
    other.place(digest, tmp_path / "placed")
    assert (tmp_path / "placed").read_bytes() == other.path(digest).read_bytes() == b"payload"
    other.close()


def test_what_is_undone_leaves_no_payload(store: FileStore, database: Database, tmp_path: Path) -> None:
    (stored,), within = store.put_within([b"payload"])
    assert within is not None

    def step(tx: Tx) -> None:
        within(tx)
        raise KeyError("the step fails")

    with pytest.raises(KeyError):
        database.transact(step)
    assert not store.has(stored.digest)
    assert list(store.digests()) == []


def test_a_payload_that_is_in_both_files_is_one(store: FileStore, database: Database) -> None:
    digest = put(store, database, b"payload")
    assert put(store, database, b"payload") == digest
    assert store.put_bytes(b"payload").digest == digest
    assert list(store.digests()) == [digest]
    assert (store.moved().written, store.moved().known) == (14, 7)
    store.delete(digest)
    assert not store.has(digest)
    assert list(store.digests()) == []


def test_payloads_are_deleted_with_a_transaction_that_is_under_way(
    store: FileStore, database: Database
) -> None:
    digests = [put(store, database, b"payload"), store.put_bytes(b"other").digest]

    def step(tx: Tx, *, fails: bool) -> None:
        store.delete_many(digests[:1], tx)
        if fails:
            raise KeyError("the step fails")

    with pytest.raises(KeyError):
        database.transact(lambda tx: step(tx, fails=True))
    assert store.has(digests[0])
    database.transact(lambda tx: step(tx, fails=False))
    assert [store.has(digest) for digest in digests] == [False, True]


def test_large_payloads_are_durable_before(store: FileStore) -> None:
    stored, within = store.put_within([b"small", b"x" * (SMALL + 1)])
    assert within is None
    assert all(store.verify(one.digest) for one in stored)


def test_a_store_of_its_own_puts_at_once(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "objects")
    (stored,), within = store.put_within([b"payload"])
    assert within is None
    assert store.read(stored.digest) == b"payload"
    store.close()


def test_a_damaged_row_is_found_and_mended(store: FileStore, database: Database, tmp_path: Path) -> None:
    digest = put(store, database, b"payload")
    database.transact(lambda tx: tx.run("UPDATE small SET data = x'00'"))
    with pytest.raises(StoreError, match=r"names\.db"):
        joined(tmp_path, database).read(digest)
    put(store, database, b"payload")
    assert joined(tmp_path, database).verify(digest)
