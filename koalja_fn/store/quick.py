"""The quick way to a bucket, for small objects: requests by obstore, whose client is compiled.

On a LocalStack, 1 KB objects: the first request takes 20 ms and 12 MB, botocore's 205 ms and 33 MB; each one
after it 1.0 ms and 0.15 ms of processor time, botocore's 2.5 ms and 1.2 ms (`benchmarks/bucket.py`). It is
for what is usual: credentials in the environment, a region that is known. Where anything else is asked for
(profiles, roles, certificates), and whenever an answer is not what was expected, botocore has the last word.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from koalja_fn.store.buckets import Bucket

if TYPE_CHECKING:
    from obstore.store import S3Config

LARGEST = 1 << 20
"""Larger objects are streamed by botocore: here one is in memory as a whole."""

_CONNECT, _READ = timedelta(seconds=5), timedelta(seconds=60)
_TRIES = 2  # botocore tries again after that
_TROUBLES = 3  # so often in a row, and it is left to botocore for good
_STATIC = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
# Of these the two clients have different notions.
_UNUSUAL = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_S3_ADDRESSING_STYLE",
)
_CERTIFICATES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")


class Unsure(Exception):
    """The answer was none of those that are usual; nothing is known."""


class Body(io.BytesIO):
    """The bytes of an object."""

    def iter_chunks(self, size: int) -> Iterator[bytes]:
        """Yield them in pieces."""
        while piece := self.read(size):
            yield piece


class Quick:
    """Requests to one bucket. Each raises `Unsure` where the other client is to be asked."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._troubles = 0

    def put(self, key: str, data: bytes) -> bool:
        """Store an object where there is none of that key; False where there is one."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        self._check()
        try:
            obstore.put(self._store, key, data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        except Exception as error:
            raise self._unsure() from error
        self._troubles = 0
        return True

    def get(self, key: str) -> Body:
        """An object; `Unsure` where it is large, or there is none."""
        import obstore
        from obstore.exceptions import NotFoundError

        self._check()
        try:
            found = obstore.get(self._store, key)
            if found.meta["size"] <= LARGEST:
                body = Body(found.bytes().to_bytes())
                self._troubles = 0
                return body
        except (FileNotFoundError, NotFoundError) as error:  # is it the object, or the bucket?
            raise Unsure from error
        except Exception as error:
            raise self._unsure() from error
        raise Unsure

    def size(self, key: str) -> int | None:
        """An object's size; None where there is none."""
        import obstore
        from obstore.exceptions import NotFoundError

        self._check()
        try:
            return int(obstore.head(self._store, key)["size"])
        except (FileNotFoundError, NotFoundError):
            return None
        except Exception as error:
            raise self._unsure() from error

    def _check(self) -> None:
        if self._troubles >= _TROUBLES:
            raise Unsure

    def _unsure(self) -> Unsure:
        with self._lock:
            self._troubles += 1
        return Unsure()


def quick(bucket: Bucket, environ: Mapping[str, str] = os.environ) -> Quick | None:
    """The quick way to a bucket, where it is one that is usual and obstore is installed."""
    named = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    endpoint = bucket.endpoint or named
    region = bucket.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    region = region or ("us-east-1" if endpoint else None)
    plain = bool(endpoint and endpoint.startswith("http:"))
    unusual = any(environ.get(name) for name in (*_UNUSUAL, *(() if plain else _CERTIFICATES)))
    if unusual or region is None or not all(environ.get(name) for name in _STATIC):
        return None
    try:
        from obstore.store import S3Store
    except ImportError:
        return None
    config: S3Config = {
        "access_key_id": environ[_STATIC[0]],
        "secret_access_key": environ[_STATIC[1]],
        "region": region,
        "checksum_algorithm": "SHA256",  # the server checks it
        "virtual_hosted_style_request": not endpoint and "." not in bucket.name,
    }
    if environ.get("AWS_SESSION_TOKEN"):
        config["session_token"] = environ["AWS_SESSION_TOKEN"]
    if endpoint:
        config["endpoint"] = endpoint
    try:
        store = S3Store(
            bucket.name,
            config=config,
            client_options={
                "allow_http": plain,
                "connect_timeout": _CONNECT,
                "timeout": _READ,
                "user_agent": "koalja-fn",
            },
            retry_config={"max_retries": _TRIES, "retry_timeout": timedelta(seconds=20)},
        )
    except Exception:
        return None  # botocore will say what is wrong
    return Quick(store)
