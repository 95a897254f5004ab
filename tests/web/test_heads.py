"""Heads of requests and bodies in chunks, against whatever bytes may come."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koalja_fn.web.chunks import Chunks
from koalja_fn.web.heads import CHUNKED, BadRequest, Head, parse

POST = b"POST /demo/in HTTP/1.1\r\nHost: x\r\n"


def test_a_head_is_read() -> None:
    head = parse(POST + b"Content-Length: 3\r\nCE-Id:\t a b \r\nX: 1\r\nx: 2")
    assert head == Head(
        "POST", "/demo/in", 1, {"host": "x", "content-length": "3", "ce-id": "a b", "x": "1, 2"}, 3
    )
    assert head.is_kept
    assert not head.waits


def test_the_connection_is_kept_as_the_sender_says() -> None:
    assert not parse(POST + b"Connection: Close").is_kept
    assert not parse(b"GET / HTTP/1.0").is_kept
    assert parse(b"GET / HTTP/1.0\r\nConnection: keep-alive").is_kept


def test_a_proxys_form_of_the_target_is_its_path() -> None:
    assert parse(b"GET http://a.example:80/demo?x HTTP/1.1\r\nHost: x").target == "/demo?x"
    assert parse(b"GET http://a.example HTTP/1.1\r\nHost: x").target == "/"


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"Content-Length: 1\r\nContent-Length: 1", 400),
        (b"Content-Length: 1, 1", 400),
        (b"Content-Length: +1", 400),
        (b"Content-Length: -1", 400),
        (b"Content-Length: 0x10", 400),
        (b"Content-Length: " + b"9" * 5000, 400),
        (b"Content-Length: 1\r\nTransfer-Encoding: chunked", 400),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        (b"Transfer-Encoding: gzip, chunked", 501),
        (b"Transfer-Encoding: xchunked", 501),
        (b"Host: y", 400),
        (b"X : 1", 400),
        (b"X: 1\r\n folded", 400),
        (b"X: 1\nY: 2", 400),
        (b"X: 1\rY: 2", 400),
        (b"X: \x00", 400),
        (b"no colon", 400),
        (b": no name", 400),
    ],
)
def test_what_two_readers_might_read_in_two_ways_is_refused(lines: bytes, status: int) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(POST + lines)
    assert caught.value.status == status


@pytest.mark.parametrize(
    "line",
    [
        b"POST  / HTTP/1.1",
        b"POST /",
        b"POST / HTTP/2.0",
        b"PO ST / HTTP/1.1",
        b"POST a HTTP/1.1",
        b"",
        b"\x16",
    ],
)
def test_what_is_no_request_line_is_refused(line: bytes) -> None:
    with pytest.raises(BadRequest):
        parse(line + b"\r\nHost: x")
    with pytest.raises(BadRequest):
        parse(b"POST / HTTP/1.1")  # HTTP/1.1 has a Host


@given(st.binary(max_size=200) | st.binary(max_size=80).map(lambda data: POST + data))
def test_any_bytes_are_a_head_or_a_refusal(data: bytes) -> None:
    try:
        head = parse(data)
    except BadRequest:
        pass
    else:
        assert not any(c in text for text in head.fields.values() for c in "\r\n\0")


tokens = st.from_regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}", fullmatch=True)
values = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=20)


@given(st.dictionaries(tokens.map(str.lower), values.map(str.strip), max_size=6))
def test_what_was_written_is_read(fields: dict[str, str]) -> None:
    fields = {
        n: v.strip(" \t") for n, v in fields.items() if n not in ("content-length", "transfer-encoding")
    }
    fields["host"] = "x"
    text = "".join(f"\r\n{name.title()}: {value} " for name, value in fields.items())
    assert parse(f"GET / HTTP/1.1{text}".encode("latin-1")).fields == fields


def chunked(pieces: list[bytes], trailer: bytes = b"") -> bytes:
    lines = [b"%X;x=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece]
    return b"".join(lines) + b"0\r\n" + trailer + b"\r\n"


@given(
    st.lists(st.binary(max_size=40), max_size=6),
    st.sampled_from([b"", b"X: 1\r\n"]),
    st.integers(1, 60),
    st.binary(max_size=5),
)
def test_chunks_are_joined_however_they_come(
    pieces: list[bytes], trailer: bytes, step: int, following: bytes
) -> None:
    sent = chunked(pieces, trailer) + following
    buffer, chunks, found = bytearray(), Chunks(), b""
    for at in range(0, len(sent), step):
        buffer += sent[at : at + step]
        found += b"".join(chunks.feed(buffer))
    assert chunks.done
    assert found == b"".join(pieces)
    assert bytes(buffer) == following


@given(st.binary(max_size=100))
def test_any_bytes_are_chunks_or_a_refusal(data: bytes) -> None:
    with contextlib.suppress(BadRequest):
        Chunks().feed(bytearray(data))


@pytest.mark.parametrize(
    "data", [b"zz\r\n", b"1\r\nab", b"-1\r\n", b"1\nx\r\n", b"f" * 5000, b"3\r\nabcd\r\n"]
)
def test_broken_chunks_are_refused(data: bytes) -> None:
    with pytest.raises(BadRequest):
        Chunks().feed(bytearray(data + b"x" * 10))


def test_chunked_has_no_length() -> None:
    assert parse(POST + b"Transfer-Encoding: Chunked").length == CHUNKED
