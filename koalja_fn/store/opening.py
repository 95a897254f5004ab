"""Opening a store by its address: a folder, `file:` or `s3:`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from koalja_fn.errors import UsageError
from koalja_fn.store.files import FileStore
from koalja_fn.store.protocol import Store


def open_store(
    place: str | Path, *, cache: Path | None = None, endpoint: str | None = None, region: str | None = None
) -> Store:
    """Open the store at `place`: a folder, its `file:` URI, or `s3://BUCKET[/PREFIX][?endpoint=…&region=…]`.

    Args:
        place: Where the payloads lie.
        cache: Where payloads from a bucket are kept at hand; `cache.cache_folder()` where it is None.
        endpoint: The server's URL, for other S3 than Amazon's; also $AWS_ENDPOINT_URL_S3, $AWS_ENDPOINT_URL.
        region: The bucket's region; also $AWS_REGION.

    Raises:
        UsageError: There is no such kind of store.
        StoreError: It can't be opened.
    """
    if isinstance(place, Path):
        return FileStore(place)
    parts = urlsplit(place)
    if parts.scheme == "s3":
        from koalja_fn.store.buckets import bucket_of
        from koalja_fn.store.cache import Cache, cache_folder, cache_limit
        from koalja_fn.store.s3 import S3Store

        bucket = bucket_of(place, endpoint, region)
        return S3Store(bucket, Cache(cache or cache_folder(), cache_limit()))
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return FileStore(Path(unquote(parts.path)))
    if "://" not in place:
        return FileStore(Path(place))
    raise UsageError(
        f"no store of the kind {parts.scheme}: is known",
        cure="give a folder, such as .koalja/objects, or s3://BUCKET/PREFIX",
    )
