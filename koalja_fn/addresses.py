"""What `from` and `to` may name besides files: buckets (`s3://BUCKET/KEY*.json`) and queues (`sqs://NAME`).

Words only: nothing is asked here. A key may have any character, so an address is never taken apart as a URL
would be: what stands behind the bucket is the key, up to `?endpoint=…&region=…` at its very end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from koalja_fn.errors import UsageError
from koalja_fn.model import SINK_FIELDS, AnnotatedValue, Circuit, is_address

LONGEST_KEY = 1024
"""Bytes that a key in S3 may have."""

_OPTIONS = re.compile(r"\?((?:endpoint|region)=[^&?\s]+(?:&(?:endpoint|region)=[^&?\s]+)*)$")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_QUEUE = re.compile(r"[A-Za-z0-9_-]{1,75}(\.fifo)?")
_ACCOUNT = re.compile(r"\d{12}")
_AMAZON = re.compile(r"sqs\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Objects:
    """Objects of a bucket: those whose key matches `pattern` (`from`), or is made by it (`to`)."""

    bucket: str
    pattern: str
    endpoint: str | None = None
    region: str | None = None

    def matches(self, key: str) -> bool:
        """Whether a key is meant: `*` is any text without a slash, `**` any text, `?` one character."""
        return re.fullmatch(_expression(self.pattern), key, re.DOTALL) is not None

    def key(self, value: AnnotatedValue) -> str:
        """Where `to` puts a value; what comes from the value adds no folder, and is cut if need be."""
        texts = sink_texts(value)
        pattern = self.pattern + "{id}" * (self.pattern.endswith("/") or not self.pattern)

        def fill(found: re.Match[str]) -> str:
            return texts[found[1]].replace("/", "_") if found[1] in SINK_FIELDS else found[0]

        key = _FIELD.sub(fill, pattern)
        data = key.encode("utf-8", "backslashreplace")
        if len(data) <= LONGEST_KEY:
            return data.decode()
        return data[: LONGEST_KEY - 13].decode(errors="ignore") + "~" + value.id[:12]

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.pattern}"


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue by its name, with its owner's account where that is another one."""

    name: str
    account: str | None = None
    endpoint: str | None = None
    region: str | None = None

    @property
    def ordered(self) -> bool:
        """Whether it keeps order within its message groups."""
        return self.name.endswith(".fifo")

    def __str__(self) -> str:
        return f"sqs://{self.account}/{self.name}" if self.account else f"sqs://{self.name}"


@dataclass(frozen=True, slots=True)
class Inlet:
    """A wire that is fed by queues; `objects` are those of which a notification in them may tell."""

    wire: str
    queues: tuple[Queue, ...]
    objects: tuple[Objects, ...]


def sink_texts(value: AnnotatedValue) -> Mapping[str, str]:
    """What the fields of a `to` stand for."""
    return {
        "id": value.id,
        "wire": value.wire,
        "name": value.name or value.id,
        "position": f"{value.position + 1:06d}",
        "digest": value.digest.removeprefix("sha256:"),
        "key": value.key,
    }


def objects_of(text: str) -> Objects:
    """Read `s3://BUCKET/PATTERN[?endpoint=URL&region=NAME]`.

    Raises:
        UsageError: It is none.
    """
    rest, options = _options(text.removeprefix("s3://"))
    bucket, _, pattern = rest.partition("/")
    if not text.startswith("s3://") or not _BUCKET.fullmatch(bucket):
        raise UsageError(
            f"{text!r} names no bucket", cure="write s3://BUCKET/KEY, such as s3://photos/in/*.jpg"
        )
    return Objects(bucket, pattern, **options)


def queue_of(text: str) -> Queue:
    """Read `sqs://NAME`, `sqs://ACCOUNT/NAME` or a queue's own URL, each with `?endpoint=URL&region=NAME`.

    Raises:
        UsageError: It is none.
    """
    scheme, _, rest = text.partition("://")
    rest, options = _options(rest)
    *where, name = rest.rstrip("/").split("/")
    if where and (amazon := _AMAZON.fullmatch(where[0])):
        options.setdefault("region", amazon[1])
        where = where[1:]
    elif where and scheme in ("http", "https"):
        options.setdefault("endpoint", f"{scheme}://{where[0]}")
        where = [part for part in where[1:] if part != "queue"]
    account = where[0] if where else None
    known = scheme in ("sqs", "http", "https") and len(where) < 2
    if not known or not _QUEUE.fullmatch(name) or (account and not _ACCOUNT.fullmatch(account)):
        raise UsageError(
            f"{text!r} names no queue",
            cure="write sqs://NAME, sqs://ACCOUNT/NAME or https://sqs.REGION.amazonaws.com/ACCOUNT/NAME",
        )
    return Queue(name, account, **options)


def check_source(text: str) -> Queue | Objects:
    """Read one address of a `from`.

    Raises:
        UsageError: It is neither a queue nor a bucket.
    """
    if text.startswith("s3:"):
        return objects_of(text)
    if text.startswith(("sqs:", "http:", "https:")):
        return queue_of(text)
    raise UsageError(
        f"values can't be taken from {text!r}",
        why=f"{text.partition(':')[0]}: is not known",
        cure="name files, such as from = inbox/*, a queue, such as from = sqs://NAME, or post values",
    )


def check_sink(text: str) -> Objects:
    """Read an address of a `to`.

    Raises:
        UsageError: It is no bucket.
    """
    if text.startswith("s3:"):
        return objects_of(text)
    raise UsageError(
        f"values can't be written to {text!r}",
        why=f"{text.partition(':')[0]}: is not known",
        cure="name files, such as to = outbox/{id}, or a bucket, such as to = s3://BUCKET/{id}",
    )


def inlets(circuit: Circuit) -> list[Inlet]:
    """The wires that queues feed.

    Raises:
        UsageError: A `from` names what is neither a file, a queue nor a bucket.
    """
    found = []
    for wire in circuit.wires.values():
        texts = [part.strip() for part in (wire.source or "").split(",")]
        named = [check_source(text) for text in texts if is_address(text)]
        queues = tuple(one for one in named if isinstance(one, Queue))
        if queues:
            found.append(Inlet(wire.name, queues, tuple(one for one in named if isinstance(one, Objects))))
    return found


def _options(text: str) -> tuple[str, dict[str, str]]:
    found = _OPTIONS.search(text)
    if found is None:
        return text, {}
    return text[: found.start()], dict(pair.split("=", 1) for pair in found[1].split("&"))


def _expression(pattern: str) -> str:
    signs = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    whole = pattern + "**" * (pattern.endswith("/") or not pattern)
    return "".join(signs.get(piece, re.escape(piece)) for piece in re.findall(r"\*\*|.", whole, re.DOTALL))
