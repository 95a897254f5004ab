"""Names, values and limits of what comes with a payload.

CloudEvents 1.0: names are lower-case letters and digits; values are text without control characters;
a header value may be in quotes and has percent-escapes of UTF-8, and what is not UTF-8 is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote_to_bytes

from koalja_fn.errors import Refused


@dataclass(frozen=True, slots=True)
class Limits:
    """What a sender may send; sizes in bytes. `document` is for JSON modes, which are read in memory."""

    body: int = 1 << 30
    document: int = 64 << 20
    batch: int = 10_000
    attributes: int = 64
    name: int = 64
    value: int = 4096
    total: int = 16_384
    headers: int = 65_536


DEFAULT_LIMITS = Limits()

_NAME = re.compile(r"[a-z0-9]+")
# CloudEvents 1.0, type String: no C0 or C1 control characters, no surrogates, no non-characters.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+([ \t]*;[\x20-\x7e\t]*)?")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d):(\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


def check_name(name: str, limits: Limits = DEFAULT_LIMITS) -> str:
    """Refuse what is no name of a CloudEvents attribute."""
    # fullmatch: the library's own pattern lets "ab\n" through, and any length.
    if not _NAME.fullmatch(name) or len(name) > limits.name:
        raise Refused(
            f"the attribute name {name[:80]!r} is not allowed",
            why=f"CloudEvents names are 1 to {limits.name} lower-case letters and digits",
            cure=f"rename it, for example to '{re.sub('[^a-z0-9]', '', name.lower())[:20] or 'name'}'",
        )
    return name


def check_value(name: str, value: str, limits: Limits = DEFAULT_LIMITS) -> str:
    """Refuse what is no value of a CloudEvents attribute, or a too large one."""
    if _FORBIDDEN.search(value):
        raise Refused(
            f"the value of '{name}' has characters that are not allowed",
            why="CloudEvents attributes are text without control characters",
            cure="put binary data into the event's data",
        )
    if len(value) > limits.value or (not value.isascii() and len(value.encode()) > limits.value):
        raise Refused(
            f"the value of '{name}' is too long",
            why=f"an attribute has at most {limits.value} bytes",
            cure="put large things into the event's data",
            http_status=431,
        )
    return value


def check_amount(attributes: Mapping[str, object], limits: Limits) -> None:
    """Refuse too many attributes, or too much text in them."""
    if len(attributes) > limits.attributes:
        raise Refused(
            f"the event has {len(attributes)} attributes",
            why=f"at most {limits.attributes} are taken",
            cure="put them into the event's data",
            http_status=431,
        )
    size = sum(len(n) + len(str(v)) for n, v in attributes.items())
    if size > limits.total:
        raise Refused(
            f"the event's attributes have {size} characters",
            why=f"all together may have {limits.total}",
            cure="put large things into the event's data",
            http_status=431,
        )


def media_type(text: str) -> str:
    """Check a media type such as `text/csv; header=present`; it is kept as written."""
    text = text.strip(" \t")
    if len(text) > 256 or not _TYPE.fullmatch(text):
        raise Refused(
            f"{text[:80]!r} is not a media type",
            why="a content type is TYPE/SUBTYPE with optional parameters, in ASCII, at most 256 characters",
            cure="use one such as application/json, text/csv or application/octet-stream",
        )
    return text


def header_text(name: str, value: str) -> str:
    """Decode an attribute's header: first quotes, then one round of percent-escapes, as UTF-8.

    WSGI gives the bytes of a header as Latin-1. Raw UTF-8 bytes are taken as such, for Knative
    sends them when it turns a structured event into a binary one.
    """
    if value.startswith('"'):
        quoted = _QUOTED.fullmatch(value)
        if not quoted:
            raise Refused(
                f"the quotes of the header 'ce-{name}' are not closed",
                cure="write the value without quotes, or close them",
            )
        value = _ESCAPED.sub(r"\1", quoted[1])
    if value.isascii() and "%" not in value:
        return value
    try:
        return unquote_to_bytes(value.encode("latin-1")).decode("utf-8")
    except ValueError as error:  # UnicodeError is one; the library would put U+FFFD instead
        raise Refused(
            f"the header 'ce-{name}' is not UTF-8",
            why="CloudEvents header values are percent-encoded UTF-8; other bytes must be refused",
            cure="encode the value as UTF-8, then percent-encode it",
        ) from error


def moment(text: str) -> datetime:
    """Read an RFC 3339 time; digits below the microsecond are cut off."""
    found = _TIME.fullmatch(text)
    try:
        if not found:
            raise ValueError("not of the form 2026-01-31T12:00:00Z")
        day, clock, second, fraction, zone = found.groups()
        leap = second == "60"
        offset = "+00:00" if zone in "Zz" else zone
        stamp = f"{day}T{clock}:{'59' if leap else second}.{(fraction or '')[:6]:0<6}{offset}"
        instant = datetime.fromisoformat(stamp)
        instant = instant.replace(microsecond=999_999) if leap else instant
        return instant.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Refused(
            f"the time {text[:64]!r} is not RFC 3339",
            why=str(error),
            cure="write it like 2026-01-31T12:00:00.123456Z, with a zone",
        ) from error


def microseconds(instant: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return (instant - _EPOCH) // _MICROSECOND


def instant_of(micro: int) -> datetime:
    """The instant so many microseconds after 1970; OverflowError outside the years 1 to 9999."""
    return _EPOCH + timedelta(microseconds=micro)
