"""The head of a request: bytes in, a `Head` out, or a refusal. No sockets.

Strict, as RFC 9112 allows where senders and proxies might read a message in two ways: no folded lines, no
bare line feeds, no space before a colon, one Host, one length, and `chunked` as the only coding.
"""

from __future__ import annotations

import re
from typing import NamedTuple

CHUNKED = -1
_REQUEST = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,40}) ([\x21-\x7e]+) HTTP/1\.([01])")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LENGTH = re.compile(r"[0-9]{1,18}")
_ONCE = frozenset(("host", "content-length", "transfer-encoding", "content-type"))
# Senders use the same few names all the time: each is checked once.
_known: dict[str, str] = {}
_MOST_KNOWN = 1000


class BadRequest(Exception):
    """What came is no request that is answered with less than this status; the connection ends with it."""

    def __init__(self, status: int, what: str, why: str, cure: str = "send plain HTTP/1.1") -> None:
        super().__init__(what)
        self.status, self.what, self.why, self.cure = status, what, why, cure


class Head(NamedTuple):
    """A request's line and header fields.

    `fields` have lower-case names; those that came more than once are one, with commas between. Their
    text is Latin-1, as WSGI has it. `length` of the body is None where none was told, `CHUNKED` where it
    comes in chunks.
    """

    method: str
    target: str
    minor: int
    fields: dict[str, str]
    length: int | None

    @property
    def is_kept(self) -> bool:
        """Whether the sender keeps the connection for a next request."""
        said = self.fields.get("connection")
        if said is None:
            return self.minor == 1
        words = {word.strip() for word in said.lower().split(",")}
        return "close" not in words and (self.minor == 1 or "keep-alive" in words)

    @property
    def waits(self) -> bool:
        """Whether the sender waits for a word before it sends the body."""
        return self.minor == 1 and self.fields.get("expect", "").lower() == "100-continue"


def parse(block: bytes) -> Head:
    """Read a head, without the empty line at its end.

    Raises:
        BadRequest: It breaks a rule.
    """
    text = block.decode("latin-1")
    first, *lines = text.split("\r\n")
    if text.count("\r") != len(lines) or text.count("\n") != len(lines) or _CONTROL.search(text):
        raise _invalid("it has control characters")
    found = _REQUEST.fullmatch(first)
    if found is None:
        raise _invalid(f"{first[:80]!r} is no request line")
    fields: dict[str, str] = {}
    for line in lines:
        written, colon, value = line.partition(":")
        name = _known.get(written) or _name(written, colon)
        if name not in fields:
            fields[name] = value.strip(" \t")
        elif name in _ONCE:
            raise _invalid(f"{written} is there twice")
        else:
            fields[name] = f"{fields[name]}, {value.strip(' ' + chr(9))}"
    method, target, minor = found.groups()
    if minor == "1" and "host" not in fields:
        raise _invalid("it has no Host")
    return Head(method, _origin(target), int(minor), fields, _length(fields, minor))


def _name(written: str, colon: str) -> str:
    if not colon or not _TOKEN.fullmatch(written):
        raise _invalid(f"{written[:80]!r} is no name of a header field")
    name = written.lower()
    if len(_known) < _MOST_KNOWN:
        _known[written] = name
    return name


def _origin(target: str) -> str:
    """The target as path and query, also where a proxy's form of it was sent."""
    if target.startswith("/") or target == "*":
        return target
    if target[:7].lower() == "http://":
        _, slash, path = target[7:].partition("/")
        return slash + path if slash else "/"
    raise _invalid(f"the target {target[:80]!r} is no path")


def _length(fields: dict[str, str], minor: str) -> int | None:
    coding, text = fields.get("transfer-encoding"), fields.get("content-length")
    if coding is not None:
        if text is not None or minor != "1":
            raise _invalid("Transfer-Encoding and Content-Length contradict each other")
        if coding.lower() != "chunked":
            raise BadRequest(501, "this transfer coding is not decoded", coding[:80], "send it chunked")
        return CHUNKED
    if text is None:
        return None
    if not _LENGTH.fullmatch(text):
        raise _invalid("Content-Length is invalid")
    return int(text)


def _invalid(why: str) -> BadRequest:
    return BadRequest(400, "this is no valid request", why)
