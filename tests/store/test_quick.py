"""The quick way to a bucket, by a real LocalStack: what it answers, and when botocore is asked instead."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from koalja_fn.store.buckets import Bucket
from koalja_fn.store.cache import Cache
from koalja_fn.store.quick import LARGEST, Unsure, quick
from koalja_fn.store.s3 import S3Store
from tests.aws.localstack import LocalStack, shared
from tests.ports import free_port

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> LocalStack:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, text in KEYS.items():
        monkeypatch.setenv(name, text)
    return shared()


@pytest.fixture
def bucket(stack: LocalStack) -> Bucket:
    return Bucket(stack.bucket(), "p/", stack.url)


@pytest.fixture
def store(bucket: Bucket, tmp_path: Path) -> Iterator[S3Store]:
    found = S3Store(bucket, Cache(tmp_path / "cache"))
    yield found
    found.close()


SMALL_ONLY = """
import sys
from pathlib import Path
from koalja_fn.store import open_store
store = open_store(sys.argv[1], cache=Path(sys.argv[2]))
stored = store.put_bytes(b"small")
assert store.put_bytes(b"small") == stored
store.close()
other = open_store(sys.argv[1], cache=Path(sys.argv[2] + "2"))
assert other.has(stored.digest) and not other.has("sha256:" + "0" * 64)
assert other.read(stored.digest) == b"small"
assert other.verify(stored.digest)
assert not {"botocore", "boto3", "urllib3"} & set(sys.modules), "botocore was imported"
print(other.moved().read, other.moved().written)
"""


def test_small_payloads_come_and_go_without_botocore(bucket: Bucket, tmp_path: Path) -> None:
    assert bucket.endpoint is not None
    done = subprocess.run(
        [sys.executable, "-c", SMALL_ONLY, f"s3://{bucket.name}/p", str(tmp_path / "cache")],
        env={"PATH": os.environ["PATH"], **KEYS, "AWS_ENDPOINT_URL_S3": bucket.endpoint},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["5", "0"]


def test_an_object_that_is_there_is_not_replaced(bucket: Bucket) -> None:
    way = quick(bucket)
    assert way is not None
    assert way.size("p/k") is None
    assert way.put("p/k", b"first")
    assert not way.put("p/k", b"second one")
    assert (way.get("p/k").read(), way.size("p/k")) == (b"first", 5)


def test_of_what_is_absent_or_large_the_other_client_has_the_last_word(
    bucket: Bucket, store: S3Store, tmp_path: Path
) -> None:
    way = quick(bucket)
    assert way is not None
    with pytest.raises(Unsure):
        way.get("p/none")
    large = store.put_bytes(os.urandom(LARGEST + 1))
    with pytest.raises(Unsure):
        way.get(large.uri.partition(f"{bucket.name}/")[2])
    again = S3Store(bucket, Cache(tmp_path / "again"))
    assert len(again.read(large.digest)) == LARGEST + 1
    again.close()


def test_a_client_that_fails_again_and_again_is_not_asked_any_more(bucket: Bucket, store: S3Store) -> None:
    dead = quick(Bucket(bucket.name, "p/", f"http://127.0.0.1:{free_port()}"))
    assert dead is not None
    store._quick = dead
    for n in range(4):
        payload = store.put_bytes(b"%d" % n)
        assert store.has(payload.digest)
    assert dead._troubles == 3
    with pytest.raises(Unsure):
        dead.put("k", b"")


@pytest.mark.parametrize(
    ("environ", "usual"),
    [
        (KEYS, True),
        ({}, False),
        ({**KEYS, "AWS_PROFILE": "work"}, False),
        ({**KEYS, "AWS_SESSION_TOKEN": "t"}, True),
    ],
)
def test_what_is_unusual_is_left_to_botocore(environ: dict[str, str], usual: bool) -> None:
    place = Bucket("b", "", "http://127.0.0.1:1")
    assert (quick(place, environ) is not None) is usual
    assert quick(Bucket("b"), environ) is None  # of what region?
    far = Bucket("b", region="eu-west-1")
    assert (quick(far, environ) is not None) is usual
    assert quick(far, {**environ, "AWS_CA_BUNDLE": "/ca.pem"}) is None
