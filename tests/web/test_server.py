"""The server over real sockets: what senders may do with a connection, and the express way."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from koalja_fn.web import Answer, Head, Server

LARGE = 300_000
PATIENCE = 20


class Memory:
    """A large body, in memory."""

    def __init__(self) -> None:
        self._data = io.BytesIO()

    def __len__(self) -> int:
        return self._data.tell()

    def append(self, data: bytes) -> None:
        self._data.write(data)

    def getfile(self) -> io.BytesIO:
        return io.BytesIO(self._data.getvalue())

    def close(self) -> None:
        self._data = io.BytesIO()


def echo(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    body = environ["wsgi.input"].read()
    if environ["PATH_INFO"] == "/length":
        body = b"%d" % len(body)
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Path", environ["PATH_INFO"])])
    return [body]


class Batches:
    """Takes what goes to /express; what says so is left to the application. `hold` has it wait."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.begun = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def take(self, head: Head, body: bytes) -> bytes | None:
        return body if head.target == "/express" else None

    def settle(self, taken: Sequence[bytes]) -> list[Answer | None]:
        self.sizes.append(len(taken))
        self.begun.set()
        self.go.wait(PATIENCE)
        if b"bug" in taken:
            raise ZeroDivisionError
        return [None if body == b"special" else Answer(202, b"took " + body, "text/plain") for body in taken]


@pytest.fixture
def batches() -> Batches:
    return Batches()


@pytest.fixture
def server(batches: Batches) -> Iterator[Server]:
    server = Server(echo, spool=Memory, body=LARGE, headers=8000, threads=3, express=batches)
    server.start()
    yield server
    batches.go.set()
    assert server.drain(PATIENCE)


def connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)


def answers(raw: socket.socket, count: int) -> list[tuple[bytes, bytes]]:
    """The next answers: status and body."""
    found, data = [], b""
    while len(found) < count:
        head, end, rest = data.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]) if end else 0
        if end and len(rest) >= length:
            found.append((head[9:12], rest[:length]))
            data = rest[length:]
            continue
        piece = raw.recv(65536)
        assert piece, data
        data += piece
    assert data == b""
    return found


def post(path: str, body: bytes, more: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_requests_one_behind_the_other_are_answered_in_their_order(server: Server) -> None:
    with connected(server) as raw:
        raw.sendall(post("/", b"a") + post("/express", b"b") + post("/", b"c") + post("/express", b"d"))
        assert answers(raw, 4) == [(b"200", b"a"), (b"202", b"took b"), (b"200", b"c"), (b"202", b"took d")]


def test_a_request_may_come_in_the_smallest_pieces(server: Server) -> None:
    with connected(server) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post("/", b"abc"):
            raw.sendall(bytes([byte]))
        assert answers(raw, 1) == [(b"200", b"abc")]


def test_who_closes_its_side_gets_its_answer(server: Server, batches: Batches) -> None:
    batches.go.clear()
    with connected(server) as raw:
        raw.sendall(post("/express", b"a"))
        raw.shutdown(socket.SHUT_WR)
        assert batches.begun.wait(PATIENCE)
        batches.go.set()
        assert answers(raw, 1) == [(b"202", b"took a")]
        assert raw.recv(1) == b""


def test_large_and_chunked_bodies_arrive_whole(server: Server) -> None:
    body = bytes(range(256)) * 1000
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(p), p) for p in (body[n : n + 9999] for n in range(0, len(body), 9999))
    )
    with connected(server) as raw:
        raw.sendall(post("/", body))
        assert answers(raw, 1) == [(b"200", body)]
        raw.sendall(
            b"POST /length HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
        )
        assert answers(raw, 1) == [(b"200", b"256000")]


def test_a_chunked_body_above_the_limit_is_413(server: Server) -> None:
    with connected(server) as raw:
        raw.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n")
        raw.sendall(bytes(LARGE + 1))
        assert answers(raw, 1)[0][0] == b"413"


def test_who_waits_for_a_word_before_the_body_gets_it(server: Server) -> None:
    with connected(server) as raw:
        raw.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert raw.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(b"abc")
        assert answers(raw, 1) == [(b"200", b"abc")]
        raw.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\nExpect: 100-continue\r\n\r\n")
        assert answers(raw, 1)[0][0] == b"413"  # before anything is sent in vain


def test_head_has_no_body_and_http_1_0_closes(server: Server) -> None:
    with connected(server) as raw:
        raw.sendall(b"HEAD /x%20y HTTP/1.0\r\n\r\n")
        said = b""
        while piece := raw.recv(1000):
            said += piece
        assert said.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"X-Path: /x y\r\n" in said
        assert said.endswith(b"Connection: close\r\n\r\n")


def test_what_the_express_way_leaves_is_the_applications(server: Server, batches: Batches) -> None:
    with connected(server) as raw:
        raw.sendall(post("/express", b"special") + post("/express", b"bug") + post("/other", b"x"))
        assert answers(raw, 3) == [(b"200", b"special"), (b"200", b"bug"), (b"200", b"x")]
    assert batches.sizes == [1, 1]


def test_requests_that_wait_are_settled_together(server: Server, batches: Batches) -> None:
    batches.go.clear()
    with connected(server) as first, connected(server) as second:
        for raw in (first, second):  # both who settle are at it
            batches.begun.clear()
            raw.sendall(post("/express", b"x"))
            assert batches.begun.wait(PATIENCE)
        others = [connected(server) for _ in range(5)]
        for raw in others:
            raw.sendall(post("/express", b"y"))
        with connected(server) as raw:  # by now the loop has read the five
            raw.sendall(post("/", b"z"))
            answers(raw, 1)
        batches.go.set()
        for raw in (first, second):
            assert answers(raw, 1) == [(b"202", b"took x")]
        for raw in others:
            assert answers(raw, 1) == [(b"202", b"took y")]
            raw.close()
    assert batches.sizes[2:] == [5]


def test_many_senders_at_once_get_each_their_own_answer(server: Server) -> None:
    wrong: list[object] = []

    def sender(me: int) -> None:
        with connected(server) as raw:
            for n in range(50):
                body = b"%d-%d" % (me, n)
                path, said = (("/express", b"took " + body), ("/", body))[n % 2]
                raw.sendall(post(path, body))
                found = answers(raw, 1)[0][1]
                if found != said:
                    wrong.append((found, said))

    threads = [threading.Thread(target=sender, args=(me,)) for me in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_answer_that_is_larger_than_the_sockets_buffer_arrives(batches: Batches) -> None:
    size = 30 << 20

    def large(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [])
        return [bytes(size)]

    server = Server(large, spool=Memory, body=LARGE, headers=8000)
    server.start()
    with connected(server) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        ((status, body),) = answers(raw, 1)
        assert (status, len(body)) == (b"200", size)
    assert server.drain(PATIENCE)


def test_drain_waits_for_what_is_on_the_express_way(server: Server, batches: Batches) -> None:
    batches.go.clear()
    with connected(server) as raw, connected(server) as late:
        raw.sendall(post("/express", b"a"))
        assert batches.begun.wait(PATIENCE)
        server.refuse()
        late.sendall(post("/express", b"b"))
        assert answers(late, 1)[0][0] == b"503"
        ended = threading.Thread(target=server.drain)
        ended.start()
        batches.go.set()
        assert answers(raw, 1) == [(b"202", b"took a")]
        ended.join(PATIENCE)
    with pytest.raises(OSError):
        connected(server)


def test_idle_connections_are_closed_and_busy_ones_are_not(batches: Batches) -> None:
    server = Server(echo, spool=Memory, body=LARGE, headers=8000, express=batches, idle=0.1)
    server.start()
    batches.go.clear()
    with connected(server) as idle, connected(server) as half, connected(server) as busy:
        busy.sendall(post("/express", b"a"))
        half.sendall(b"POST / HT")
        assert idle.recv(1) == b""
        assert half.recv(1) == b""
        batches.go.set()
        assert answers(busy, 1) == [(b"202", b"took a")]
    assert server.drain(PATIENCE)


def test_senders_that_go_away_at_any_moment_leave_nothing_behind(server: Server) -> None:
    whole = post("/", b"x" * 100) + post("/express", b"y" * 100)
    for cut in range(0, len(whole), 7):
        with connected(server) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset, not closed
            raw.sendall(whole[:cut])
    with connected(server) as raw:
        raw.sendall(post("/", b"still there"))
        assert answers(raw, 1) == [(b"200", b"still there")]
