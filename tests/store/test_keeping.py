"""What is put comes back, under its digest, once."""

import hashlib
import io
from pathlib import Path

import pytest

from koalja_fn.errors import Refused, StoreError, UsageError
from koalja_fn.store import FileStore, open_store

from .conftest import LARGE, SMALL

SIZES = [0, 1, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 3_000_000]


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def data_of(size: int) -> bytes:
    return (b"%d." % size * size)[:size]


@pytest.mark.parametrize("size", SIZES)
def test_bytes_come_back_under_their_digest(store: FileStore, size: int) -> None:
    stored = store.put_bytes(data_of(size))
    assert (stored.digest, stored.size) == (digest(data_of(size)), size)
    assert store.read(stored.digest) == data_of(size)
    assert store.has(stored.digest)
    assert store.size(stored.digest) == size
    assert store.verify(stored.digest)


@pytest.mark.parametrize("size", SIZES)
def test_every_way_in_gives_the_same_object(store: FileStore, tmp_path: Path, size: int) -> None:
    data = data_of(size)
    file = tmp_path / "file"
    file.write_bytes(data)
    ways = [
        store.put_bytes(data),
        store.put_many([data])[0],
        store.put_file(file),
        store.put_stream(io.BytesIO(data)),
        store.put_file(file, take=True),
    ]
    assert len(set(ways)) == 1
    assert list(store.digests()) == [digest(data)]


def test_objects_are_there_after_a_restart(store: FileStore, root: Path) -> None:
    put = store.put_many([SMALL, LARGE])
    store.close()
    again = FileStore(root)
    assert [again.read(s.digest) for s in put] == [SMALL, LARGE]
    again.close()


def test_the_first_bytes_can_be_read_alone(store: FileStore) -> None:
    for data in (SMALL, LARGE):
        assert store.read(store.put_bytes(data).digest, limit=4) == data[:4]


def test_known_bytes_are_not_written_again(store: FileStore) -> None:
    for data in (SMALL, LARGE):
        store.put_bytes(data)
    before = store.moved()
    for data in (SMALL, LARGE):
        store.put_bytes(data)
    after = store.moved()
    assert after.written == before.written
    assert after.known == before.known + len(SMALL) + len(LARGE)


def test_a_group_of_small_payloads_is_one_commit(store: FileStore) -> None:
    before = store._small._db.commits
    stored = store.put_many([b"%d" % i for i in range(1000)])
    assert store._small._db.commits == before + 1
    assert [store.read(s.digest) for s in stored] == [b"%d" % i for i in range(1000)]


def test_the_same_bytes_twice_in_a_group_are_one_object(store: FileStore) -> None:
    first, second = store.put_many([SMALL, SMALL])
    assert first == second
    assert store.moved().written == len(SMALL)


def test_a_stream_above_its_limit_is_refused_and_leaves_nothing(store: FileStore, root: Path) -> None:
    for limit in (5, 20_000, len(LARGE) - 1):
        with pytest.raises(Refused) as refused:
            store.put_stream(io.BytesIO(LARGE), limit=limit)
        assert refused.value.http_status == 413
    assert list(store.digests()) == []
    assert [p for p in (root / "tmp").rglob("*") if p.is_file() and p.suffix != ".lock"] == []
    assert store.put_stream(io.BytesIO(LARGE), limit=len(LARGE)).size == len(LARGE)


def test_a_stream_that_gives_little_at_a_time_is_read_to_its_end(store: FileStore) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 7, 7) if size != -1 else 7)

    assert store.put_stream(Slow(SMALL * 3000)).digest == digest(SMALL * 3000)


def test_deleted_objects_are_gone_and_may_come_again(store: FileStore) -> None:
    for data in (SMALL, LARGE):
        name = store.put_bytes(data).digest
        store.path(name)
        store.delete(name)
        store.delete(name)
        assert not store.has(name)
        assert not store.verify(name)
        with pytest.raises(StoreError, match="missing"):
            store.read(name)
        store.put_bytes(data)
        assert store.read(name) == data


@pytest.mark.parametrize("name", ["", "sha256:", "sha256:../../etc/passwd", "md5:00", "sha256:" + "A" * 64])
def test_what_is_no_digest_never_becomes_a_path(store: FileStore, name: str) -> None:
    with pytest.raises(StoreError, match="no digest"):
        store.read(name)


def test_a_store_is_opened_by_path_or_uri(root: Path) -> None:
    for place in (root, str(root), root.as_uri()):
        store = open_store(place)
        assert store.root == root
        store.close()
    with pytest.raises(UsageError):
        open_store("gopher://bucket")
