"""Payloads in a bucket, by a real LocalStack: the store's promises, and what goes wrong on the way."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from koalja_fn.errors import StoreError, UsageError
from koalja_fn.store import open_store
from koalja_fn.store.buckets import Bucket, bucket_of
from koalja_fn.store.cache import Cache
from koalja_fn.store.s3 import S3Store

from ..aws.localstack import LocalStack, shared

SMALL = b"a reading\n"
LARGE = os.urandom(1 << 20)
PART = 5 << 20


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> LocalStack:
    found = shared()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    return found


@pytest.fixture
def bucket(stack: LocalStack) -> Bucket:
    return Bucket(stack.bucket(), "some/prefix/", stack.url)


Opener = Callable[..., S3Store]


@pytest.fixture
def opened(bucket: Bucket, tmp_path: Path) -> Iterator[Opener]:
    """Opens stores of the same bucket, each with a cache of its own."""
    stores: list[S3Store] = []

    def make(place: Bucket = bucket, limit: int = 1 << 30) -> S3Store:
        cache = Cache(tmp_path / f"cache-{len(stores)}", limit)
        stores.append(S3Store(place, cache, part=PART))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


@pytest.mark.parametrize("data", [b"", SMALL, LARGE, LARGE * 11], ids=["empty", "small", "large", "parts"])
def test_what_one_process_puts_another_reads(opened: Opener, tmp_path: Path, data: bytes) -> None:
    stored = opened().put_bytes(data)
    other = opened()
    assert stored.digest == digest_of(data)
    assert (other.has(stored.digest), other.size(stored.digest)) == (True, len(data))
    assert other.read(stored.digest) == data
    assert other.read(stored.digest, limit=3) == data[:3]
    other.place(stored.digest, tmp_path / "placed")
    assert (tmp_path / "placed").read_bytes() == data
    assert other.path(stored.digest).read_bytes() == data
    assert other.verify(stored.digest)


def test_an_object_lies_under_its_digest_and_the_prefix(
    opened: Opener, bucket: Bucket, stack: LocalStack
) -> None:
    stored = opened().put_bytes(SMALL)
    name = stored.digest.removeprefix("sha256:")
    key = f"some/prefix/{name[:2]}/{name[2:]}"
    assert stored.uri == f"s3://{bucket.name}/{key}"
    assert stack.client("s3").get_object(Bucket=bucket.name, Key=key)["Body"].read() == SMALL


@pytest.mark.parametrize("data", [SMALL, LARGE, LARGE * 6])
def test_an_object_that_is_there_is_not_sent_again(opened: Opener, data: bytes) -> None:
    first, second = opened(), opened()
    first.put_bytes(data)
    second.put_bytes(data)
    assert (first.moved().written, first.moved().known) == (len(data), 0)
    assert (second.moved().written, second.moved().known) == (0, len(data))


def test_a_payload_is_fetched_only_once_whoever_wants_it(opened: Opener) -> None:
    stored = opened().put_bytes(LARGE)
    store = opened()
    threads = [threading.Thread(target=store.read, args=(stored.digest,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.moved().read == len(LARGE)


def test_files_and_streams_are_stored_and_taken_files_are_gone(opened: Opener, tmp_path: Path) -> None:
    store, files = opened(), [tmp_path / name for name in "abc"]
    for number, file in enumerate(files):
        file.write_bytes(SMALL * (number + 1) * 2000)
    stored = store.put_files(files, take=True)
    assert [one.size for one in stored] == [len(SMALL) * n * 2000 for n in (1, 2, 3)]
    assert store.put_stream(io.BytesIO(LARGE)).digest == digest_of(LARGE)
    assert sorted(store.digests()) == sorted({*(one.digest for one in stored), digest_of(LARGE)})


def test_the_cache_keeps_what_was_used_last_within_its_limit(opened: Opener) -> None:
    store = opened(limit=3 << 20)
    payloads = [bytes([n]) + LARGE[1:] for n in range(6)]
    names = [store.put_bytes(data).digest for data in payloads]
    assert store.moved().read == 0
    assert store.read(names[-1]) == payloads[-1]
    assert store.moved().read == 0
    assert store.read(names[0]) == payloads[0]
    assert store.moved().read == len(LARGE)
    assert sum(path.stat().st_size for path in store._cache.files.root.rglob("*") if path.is_file()) < 5 << 20


def test_a_cache_of_a_killed_process_is_not_believed_to_be_in_the_bucket(
    opened: Opener, bucket: Bucket, tmp_path: Path
) -> None:
    """What lies in the cache may never have reached the bucket: putting it again must send it."""
    cache = Cache(tmp_path / "left", 1 << 30)
    cache.files.put_bytes(SMALL)
    cache.close()
    store = S3Store(bucket, Cache(tmp_path / "left", 1 << 30))
    stored = store.put_bytes(SMALL)
    store.close()
    assert opened().read(stored.digest) == SMALL


def test_a_damaged_object_is_found_and_never_given_out(
    opened: Opener, bucket: Bucket, stack: LocalStack
) -> None:
    stored = opened().put_bytes(SMALL)
    key = stored.uri.removeprefix(f"s3://{bucket.name}/")
    stack.client("s3").put_object(Bucket=bucket.name, Key=key, Body=b"b reading\n")
    store = opened()
    assert not store.verify(stored.digest)
    with pytest.raises(StoreError, match="damaged"):
        store.read(stored.digest)


def test_a_missing_object_is_told(opened: Opener) -> None:
    store = opened()
    with pytest.raises(StoreError, match="missing"):
        store.read(digest_of(b"nothing"))
    assert not store.has(digest_of(b"nothing"))
    assert not store.verify(digest_of(b"nothing"))


def test_a_deleted_object_is_gone_for_all(opened: Opener) -> None:
    store = opened()
    stored = store.put_bytes(SMALL)
    store.delete(stored.digest)
    store.delete(stored.digest)
    assert not store.has(stored.digest)
    with pytest.raises(StoreError):
        store.read(stored.digest)


def test_a_bucket_that_is_not_there_is_named_with_the_cure(opened: Opener, stack: LocalStack) -> None:
    with pytest.raises(StoreError, match="can't store") as caught:
        opened(Bucket("no-such-bucket", "", stack.url)).put_bytes(SMALL)
    assert "no bucket no-such-bucket" in caught.value.why
    assert "aws s3 mb" in caught.value.cure


def test_a_server_that_is_not_there_is_told_within_seconds(opened: Opener, bucket: Bucket) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        store = opened(Bucket(bucket.name, "", f"http://127.0.0.1:{free.getsockname()[1]}"))
    with pytest.raises(StoreError) as caught:
        store.put_bytes(SMALL)
    assert "endpoint" in caught.value.cure


def test_no_credentials_are_told_and_none_are_shown(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreError) as caught:
        opened().put_bytes(SMALL)
    assert "no credentials" in caught.value.why


class Breaking:
    """A proxy that lets so many bytes through, then cuts the connection; `cuts` times."""

    def __init__(self, port: int, most: int, cuts: int) -> None:
        self.cuts, self._most, self._port = cuts, most, port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        passed = 0
        try:
            while data := source.recv(65536):
                passed += len(data)
                if up and passed > self._most and self.cuts > 0:
                    self.cuts -= 1
                    break
                target.sendall(data)
        except OSError:
            pass
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.close()


@pytest.mark.parametrize("data", [LARGE, LARGE * 11], ids=["one", "parts"])
def test_a_connection_that_breaks_in_the_middle_is_tried_again(
    opened: Opener, bucket: Bucket, stack: LocalStack, data: bytes
) -> None:
    proxy = Breaking(int(stack.url.rpartition(":")[2]), 300_000, cuts=2)
    stored = opened(Bucket(bucket.name, bucket.prefix, proxy.url)).put_bytes(data)
    proxy.close()
    assert proxy.cuts == 0
    assert opened().read(stored.digest) == data


def test_an_upload_that_fails_for_good_leaves_no_object_and_no_parts(
    opened: Opener, bucket: Bucket, stack: LocalStack
) -> None:
    proxy = Breaking(int(stack.url.rpartition(":")[2]), 300_000, cuts=1000)
    store = opened(Bucket(bucket.name, bucket.prefix, proxy.url))
    with pytest.raises(StoreError):
        store.put_bytes(LARGE * 11)
    proxy.close()
    assert list(opened().digests()) == []
    with pytest.raises(StoreError):
        store.read(digest_of(LARGE * 11))


KILLED = """
import sys
from pathlib import Path
from koalja_fn.store import open_store
store = open_store(sys.argv[1], cache=Path(sys.argv[2]), endpoint=sys.argv[3])
print("ready", flush=True)
n = 0
while True:
    stored = store.put_bytes(b"%d " % n * 100_000)
    print(stored.digest, flush=True)
    n += 1
"""


def test_what_was_acknowledged_before_a_kill_is_in_the_bucket_and_the_cache_goes_on(
    opened: Opener, bucket: Bucket, tmp_path: Path
) -> None:
    cache = tmp_path / "shared"
    url = f"s3://{bucket.name}/{bucket.prefix}"
    acknowledged: list[str] = []
    for round_ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, url, str(cache), str(bucket.endpoint)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        acknowledged += [process.stdout.readline().strip() for _ in range(3 + round_)]
        time.sleep(0.002 * round_)
        process.kill()
        process.wait()
        process.stdout.close()
    store = opened()
    assert all(store.verify(digest) for digest in acknowledged)
    again = open_store(url, cache=cache, endpoint=bucket.endpoint)
    assert {digest_of(again.read(digest)) for digest in acknowledged} == set(acknowledged)
    again.close()


@pytest.mark.parametrize("url", ["s3://", "s3:bucket", "s3://b/p?color=red", "s3://key:secret@bucket/"])
def test_what_is_no_bucket_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is no bucket"):
        bucket_of(url)


def test_a_url_may_say_all() -> None:
    found = bucket_of("s3://b/a%20b/c/?endpoint=http://localhost:4566&region=eu-west-1")
    assert found == Bucket("b", "a b/c/", "http://localhost:4566", "eu-west-1")


def test_nothing_of_boto_is_imported_before_the_first_request(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom koalja_fn.store import open_store\n"
        "open_store('s3://b', cache=Path(sys.argv[1])).close()\n"
        "assert not [name for name in sys.modules if name.startswith('boto')]\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
