"""Media types by a file's ending, and endings by media type.

A small table of our own comes first: it is the same on every machine, and the standard module
takes longer to load than a program to start.
"""

from __future__ import annotations

import re
from functools import lru_cache

UNTYPED = "application/octet-stream"

_TYPES = {
    ".json": "application/json",
    ".ndjson": "application/x-ndjson",
    ".jsonl": "application/jsonl",
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".txt": "text/plain",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".html": "text/html",
    ".htm": "text/html",
    ".xml": "application/xml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".toml": "application/toml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".pdf": "application/pdf",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".gz": "application/gzip",
    ".zip": "application/zip",
    ".tar": "application/x-tar",
    ".parquet": "application/vnd.apache.parquet",
    ".arrow": "application/vnd.apache.arrow.file",
    ".npy": "application/x-npy",
    ".py": "text/x-python",
    ".c": "text/x-c",
    ".js": "text/javascript",
    ".css": "text/css",
    ".bin": UNTYPED,
}
_ENDINGS = {kind: ending for ending, kind in reversed(_TYPES.items())}
_ALSO = {"text/json": ".json", "text/xml": ".xml", "text/yaml": ".yaml", "application/x-yaml": ".yaml"}
_ENDING = re.compile(r"\.[A-Za-z0-9]{1,10}")


def media_type(name: str) -> str:
    """The media type that a file's name tells; application/octet-stream if it tells none."""
    return told_type(name) or UNTYPED


@lru_cache(1024)
def told_type(name: str) -> str | None:
    """The media type that a file's name tells, if any."""
    stem, dot, last = name.rpartition(".")
    if not dot or not stem:
        return None
    known = _TYPES.get(f".{last.lower()}")
    if known is not None:
        return known
    import mimetypes

    return mimetypes.guess_type(f"x.{last}")[0]


@lru_cache(1024)
def ending(kind: str, name: str = "") -> str:
    """The ending, with its dot, of a file of media type `kind`; `name` is what its source called it.

    The type decides. Where it says nothing, or nothing that is known, the source's own ending does.
    """
    essence = kind.partition(";")[0].strip().lower()
    own = _own_ending(name)
    if essence != UNTYPED:
        known = _ENDINGS.get(essence) or _ALSO.get(essence)
        if known is not None:
            return known
        if essence.endswith("+json"):
            return ".json"
        if essence.endswith("+xml"):
            return ".xml"
    if own:
        return own
    if essence == UNTYPED or not essence:
        return ".bin"
    if essence.startswith("text/"):
        return ".txt"
    import mimetypes

    return mimetypes.guess_extension(essence) or ".bin"


def sniffed(start: bytes) -> str:
    """The type of data without a name, by its first bytes: text or not."""
    if b"\0" in start:
        return UNTYPED
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        # A character may be cut in two by the end of what was read.
        return "text/plain" if error.start >= len(start) - 3 and error.start > 0 else UNTYPED
    return "text/plain"


def _own_ending(name: str) -> str:
    stem, dot, last = name.rpartition(".")
    return dot + last if stem and _ENDING.fullmatch(dot + last) else ""
