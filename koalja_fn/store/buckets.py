"""Talking to S3: one client for all threads, and its errors in our words.

botocore is imported when the first request is made; boto3's own layer upon it is not needed, and is 3 MB.
Retries (throttling, lost connections, 5xx) are botocore's, in its standard mode; what is raised here has been
tried several times.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from koalja_fn.errors import StoreError, UsageError

_TRIES = 5
_CONNECT, _READ = 5, 60  # seconds
_CONNECTIONS = 16

PRESENT = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
"""The server's words for: the condition does not hold, there is something else."""
NO_CONDITIONS = {"NotImplemented", "501", "InvalidArgument"}
ABSENT = {"NoSuchKey", "NoSuchVersion", "404", "NotFound"}

_DENIED = {
    "AccessDenied",
    "403",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
}
_ELSEWHERE = {
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "301",
    "IllegalLocationConstraintException",
}


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket and what all keys begin with. `endpoint` is for other servers than Amazon's."""

    name: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None

    def __str__(self) -> str:
        return f"s3://{self.name}/{self.prefix}".rstrip("/")


def bucket_of(url: str, endpoint: str | None = None, region: str | None = None) -> Bucket:
    """Read `s3://BUCKET[/PREFIX][?endpoint=URL&region=NAME]`; what is given besides stands.

    Raises:
        UsageError: It is none.
    """
    parts = urlsplit(url)
    asked = parse_qs(parts.query)
    unknown = sorted(asked.keys() - {"endpoint", "region"})
    if parts.scheme != "s3" or not parts.netloc or parts.fragment or unknown or "@" in parts.netloc:
        raise UsageError(
            f"{url!r} is no bucket",
            why=f"unknown: {', '.join(unknown)}" if unknown else "",
            cure="write s3://BUCKET or s3://BUCKET/PREFIX; credentials come from the environment",
        )
    prefix = unquote(parts.path).strip("/")
    return Bucket(
        parts.netloc,
        f"{prefix}/" if prefix else "",
        endpoint or next(iter(asked.get("endpoint", [])), None),
        region or next(iter(asked.get("region", [])), None),
    )


class Clients:
    """Makes the client of a bucket's server when it is first asked for; `tries` of a request at most."""

    def __init__(self, bucket: Bucket, tries: int = _TRIES) -> None:
        self._bucket = bucket
        self._tries = tries
        self._lock = threading.Lock()
        self._client: Any = None

    def get(self) -> Any:
        """The client; it may be used by several threads."""
        with self._lock:
            if self._client is None:
                self._client = _client(self._bucket, self._tries)
            return self._client

    def close(self) -> None:
        """Close its connections."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None


def _client(bucket: Bucket, tries: int) -> Any:
    try:
        import botocore.session
        from botocore.config import Config
    except ImportError as error:
        raise StoreError(
            f"{bucket} can't be used", why="boto3 is not installed", cure="pip install 'koalja-fn[s3]'"
        ) from error
    custom = bucket.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    config = Config(
        connect_timeout=_CONNECT,
        read_timeout=_READ,
        retries={"mode": "standard", "max_attempts": tries},
        max_pool_connections=_CONNECTIONS,
        # Each payload carries its own SHA-256; a second checksum would cost time and trailers.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if custom else "auto"},
        user_agent_extra="koalja-fn",
    )
    with explained(bucket, "be opened"):
        region = bucket.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        return botocore.session.get_session().create_client(
            "s3",
            region_name=region or ("us-east-1" if custom else None),
            endpoint_url=bucket.endpoint,
            config=config,
        )


def code_of(error: BaseException) -> str:
    """The server's word for what went wrong; empty where it is not the server's."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


@contextmanager
def explained(bucket: Bucket, what: str) -> Iterator[None]:
    """Turn botocore's errors into `StoreError`; `what` says what could not be done."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        if not type(error).__module__.startswith(("botocore", "boto3", "urllib3")):
            raise
        raise _in_our_words(bucket, what, error) from error


def _in_our_words(bucket: Bucket, what: str, error: Exception) -> StoreError:
    code, kind = code_of(error), type(error).__name__
    said = f"{bucket} can't {what}"
    if code in ("NoSuchBucket", "404") and code != "404":
        return StoreError(
            said, why=f"there is no bucket {bucket.name}", cure=f"make it: aws s3 mb s3://{bucket.name}"
        )
    if code in _DENIED:
        return StoreError(
            said,
            why=f"access is denied ({code})",
            cure=f"the credentials need s3:GetObject, s3:PutObject and s3:ListBucket on {bucket.name}",
        )
    if code in _ELSEWHERE:
        return StoreError(
            said, why="the bucket is in another region", cure="set AWS_REGION to the bucket's region"
        )
    if kind in ("NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError"):
        return StoreError(
            said,
            why="there are no credentials",
            cure="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role",
        )
    if kind in ("NoRegionError",):
        return StoreError(said, why="no region is set", cure="set AWS_REGION")
    if kind in (
        "EndpointConnectionError",
        "ConnectTimeoutError",
        "ConnectionClosedError",
        "ReadTimeoutError",
    ):
        return StoreError(said, why=str(error), cure="see whether the server is up, and the endpoint right")
    return StoreError(said, why=str(error), cure="try again; what was acknowledged is safe")
