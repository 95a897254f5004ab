"""What a record must not keep: the values of headers and parameters that carry secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable

MASK = "***"
_SECRET = re.compile(
    r"auth|cookie|token|secret|passw|key|credential|session|signature|\bsig\b", re.IGNORECASE
)
_HARMLESS = frozenset({"www-authenticate", "proxy-authenticate", "idempotency-key"})
_LONGEST = 1024


def headers(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Headers as they go on record, each name and value; long values are cut."""
    return [[name, MASK if _is_secret(name) else value[:_LONGEST]] for name, value in pairs]


def path(text: str) -> str:
    """A request's path with its query, the values of secret parameters masked."""
    place, mark, query = text.partition("?")
    return (
        place[: 4 * _LONGEST] + mark + "&".join(_parameter(part) for part in query.split("&"))[: 4 * _LONGEST]
    )


def is_cut(path: str) -> bool:
    """Whether a path on record may have been longer."""
    place, _, query = path.partition("?")
    return max(len(place), len(query)) >= 4 * _LONGEST


def is_lost(value: str) -> bool:
    """Whether a header's value on record may not be what it was: a secret, or too long."""
    return value == MASK or len(value) >= _LONGEST


def _parameter(text: str) -> str:
    name, equals, _ = text.partition("=")
    return f"{name}={MASK}" if equals and _is_secret(name) else text


def _is_secret(name: str) -> bool:
    return name.lower() not in _HARMLESS and _SECRET.search(name) is not None
