"""The recording proxy by itself: what it hands on, what it refuses, what it records. No processes."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from koalja_fn.errors import UsageError
from koalja_fn.lookups import Asking, Limits, Proxy, Switch, Target, outside
from koalja_fn.registry.lookups import Lookup
from koalja_fn.store import FileStore
from tests.services.hall import wait_for


class Service(BaseHTTPRequestHandler):
    """Answers as the test says: `behave` gets the handler."""

    protocol_version = "HTTP/1.1"
    behave: Callable[[Service], None]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return lambda: type(self).behave(self)
        raise AttributeError(name)

    def log_message(self, *words: object) -> None:
        pass

    def tell(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found


class Desk:
    """A proxy with one door, before a service that behaves as the test says."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._stack = stack
        self.store = FileStore(folder / "objects")
        stack.callback(self.store.close)
        self.switch = Switch("server")

    def listen(self, behave: Callable[[Service], None]) -> Target:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Behaving", (Service,), {"behave": behave}))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self._stack.callback(server.server_close)
        self._stack.callback(server.shutdown)
        return Target("127.0.0.1", server.server_address[1], answered=7, version="sha256:v")

    def open(
        self, behave: Callable[[Service], None], patience: float = 20.0, **limits: Any
    ) -> http.client.HTTPConnection:
        self.switch.switch(self.listen(behave))
        return self.door(self.switch, patience, **limits)

    def door(self, upstream: Any, patience: float = 20.0, **limits: Any) -> http.client.HTTPConnection:
        proxy = Proxy(self.store, lambda: time.time_ns() // 1000, Limits(**limits))
        self._stack.callback(proxy.close)
        self.asking: Asking = proxy.open({"lookup": upstream}, {"lookup": patience})
        self.port = int(dict(self.asking.env)["KOALJA_LOOKUP_URL"].rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self._stack.callback(connection.close)
        return connection

    def recorded(self) -> list[Lookup]:
        return self.asking.close()

    def raw(self, text: str) -> bytes:
        """Send bytes as they are; all that comes back."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as client:
            client.sendall(text.replace("\n", "\r\n").replace("PORT", str(self.port)).encode())
            found = b""
            while piece := client.recv(65536):
                found += piece
            return found


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with ExitStack() as stack:
        yield Desk(tmp_path, stack)


@contextmanager
def answered(connection: http.client.HTTPConnection, *request: Any, **more: Any) -> Iterator[Any]:
    connection.request(*request, **more)
    with connection.getresponse() as answer:
        yield answer


def ask(connection: http.client.HTTPConnection, *request: Any, **more: Any) -> tuple[int, bytes]:
    with answered(connection, *request, **more) as answer:
        return answer.status, answer.read()


def echo(service: Service) -> None:
    service.tell(service.body())


def test_a_request_and_its_answer_are_handed_on_and_recorded(desk: Desk) -> None:
    connection = desk.open(lambda s: s.tell(f"{s.command} {s.path} ".encode() + s.body(), X_Kind="wise"))
    with answered(connection, "PATCH", "/a/b?c=d", b"hello") as answer:
        assert (answer.status, answer.read()) == (200, b"PATCH /a/b?c=d hello")
        assert answer.getheader("X-Kind") == "wise"
    assert ask(connection, "PURGE", "/") == (200, b"PURGE / ")  # the same connection, another method
    first, second = desk.recorded()
    assert (first.method, first.path, first.status, first.problem) == ("PATCH", "/a/b?c=d", 200, "")
    assert (first.answered, first.version, first.place) == (7, "sha256:v", "")
    assert desk.store.read(first.asked.digest) == b"hello"
    assert desk.store.read(first.told.digest) == b"PATCH /a/b?c=d hello"
    assert (second.method, second.asked.digest, second.asked.size) == ("PURGE", "", 0)
    assert first.at <= second.at
    assert first.took > 0


def test_an_answer_is_streamed(desk: Desk) -> None:
    go_on = threading.Event()

    def slowly(service: Service) -> None:
        service.send_response(200)
        service.send_header("Transfer-Encoding", "chunked")
        service.end_headers()
        service.wfile.write(b"5\r\nfirst\r\n")
        go_on.wait(30)
        service.wfile.write(b"4\r\nlast\r\n0\r\n\r\n")

    with answered(desk.open(slowly), "GET", "/") as answer:
        assert answer.read1() == b"first"  # while the service still has more to say
        go_on.set()
        assert answer.read() == b"last"
    (one,) = desk.recorded()
    assert desk.store.read(one.told.digest) == b"firstlast"


def test_a_request_is_streamed(desk: Desk) -> None:
    seen = threading.Event()

    def look(service: Service) -> None:
        size = int(service.rfile.readline(), 16)
        assert service.rfile.read(size + 2) == b"first\r\n"
        seen.set()
        service.tell(service.body())

    def pieces() -> Iterator[bytes]:
        yield b"first"
        assert seen.wait(30)  # the service has it before the rest is there
        yield b"last"

    assert ask(desk.open(look), "POST", "/", pieces(), encode_chunked=True) == (200, b"last")
    (one,) = desk.recorded()
    assert desk.store.read(one.asked.digest) == b"firstlast"


def test_an_answer_without_a_length_reaches_old_and_new_programs(desk: Desk) -> None:
    def until_the_end(service: Service) -> None:
        service.wfile.write(b"HTTP/1.0 200 OK\r\n\r\nall of it")
        service.close_connection = True

    connection = desk.open(until_the_end)
    assert ask(connection, "GET", "/") == (200, b"all of it")
    old = desk.raw("GET / HTTP/1.0\n\n")
    assert old.startswith(b"HTTP/1.1 200 OK\r\n")
    assert old.endswith(b"\r\n\r\nall of it")


def test_heads_have_no_bodies(desk: Desk) -> None:
    connection = desk.open(lambda s: s.tell(b"12345"))
    with answered(connection, "HEAD", "/") as answer:
        assert answer.getheader("Content-Length") == "5"
        assert answer.read() == b""
    assert ask(connection, "GET", "/") == (200, b"12345")


@pytest.mark.parametrize(
    ("request_text", "status", "words"),
    [
        ("GET http://169.254.169.254/latest HTTP/1.1\nHost: 169.254.169.254\n\n", 403, "another place"),
        ("GET / HTTP/1.1\nHost: example.org\n\n", 403, "Host header"),
        ("CONNECT example.org:443 HTTP/1.1\nHost: example.org:443\n\n", 501, "no tunnels"),
        (
            "GET / HTTP/1.1\nHost: 127.0.0.1:PORT\nUpgrade: websocket\nConnection: Upgrade\n\n",
            501,
            "no WebSockets",
        ),
        (
            "POST / HTTP/1.1\nHost: 127.0.0.1:PORT\nContent-Length: 3\nTransfer-Encoding: chunked\n\n0\n\n",
            400,
            "either chunked",
        ),
        (
            "POST / HTTP/1.1\nHost: 127.0.0.1:PORT\nContent-Length: 3\nContent-Length: 4\n\nabcd",
            400,
            "Content-Length",
        ),
        ("POST / HTTP/1.1\nHost: 127.0.0.1:PORT\nTransfer-Encoding: chunked\n\nxyz\n", 400, "chunk"),
        ("POST / HTTP/1.1\nHost: 127.0.0.1:PORT\nContent-Length: 1001\n\n", 413, "1000 bytes"),
        (
            "POST / HTTP/1.1\nHost: 127.0.0.1:PORT\nTransfer-Encoding: chunked\n\n3e9\n"
            + "x" * 1001
            + "\n0\n\n",
            413,
            "1000 bytes",
        ),
        ("GET / HTTP/1.1\nHost: 127.0.0.1:PORT\n" + "A: b\n" * 200 + "\n", 431, ""),
        ("PRI * HTTP/2.0\n\n", 505, ""),
    ],
)
def test_what_is_not_to_be_handed_on_is_refused_clearly(
    desk: Desk, request_text: str, status: int, words: str
) -> None:
    asked: list[str] = []
    desk.open(lambda s: asked.append(s.path), body=1000)
    answer = desk.raw(request_text)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert words in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert [path for path in asked if "POST" not in request_text] == []


def test_an_offer_to_upgrade_that_nobody_need_take_is_passed_over(desk: Desk) -> None:
    """As HTTP clients make it that would like HTTP/2."""
    connection = desk.open(lambda s: s.tell(str(s.headers.get("Upgrade")).encode()))
    headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABk"}
    assert ask(connection, "GET", "/", headers=headers) == (200, b"None")


def test_a_service_that_does_not_answer_in_time_is_a_504_that_says_so(desk: Desk) -> None:
    over = threading.Event()
    connection = desk.open(lambda s: over.wait(30) and None, patience=0.2)
    status, body = ask(connection, "GET", "/")
    over.set()
    assert status == 504
    assert json.loads(body)["error"] == "service 'lookup' gave no answer within 0.2 s"
    (one,) = desk.recorded()
    assert (one.status, one.answered) == (504, 7)
    assert "no answer" in one.problem


def test_a_service_that_never_comes_is_a_504_one_that_is_gone_for_good_a_503(desk: Desk) -> None:
    connection = desk.door(desk.switch, patience=0.2)
    assert ask(connection, "GET", "/")[0] == 504
    desk.switch.refuse("it is a dead letter")
    status, body = ask(connection, "GET", "/")
    assert status == 503
    assert "it is a dead letter" in json.loads(body)["error"]
    assert [one.answered for one in desk.recorded()] == [None, None]


def test_an_answer_that_breaks_off_is_seen_to_break_off(desk: Desk) -> None:
    def break_off(service: Service) -> None:
        service.send_response(200)
        service.send_header("Content-Length", "100")
        service.end_headers()
        service.wfile.write(b"half")
        service.close_connection = True

    connection = desk.open(break_off)
    with answered(connection, "GET", "/") as answer, pytest.raises(http.client.IncompleteRead):
        answer.read()
    (one,) = desk.recorded()
    assert (one.status, one.told.digest, one.told.size) == (200, "", 4)
    assert "broke off" in one.problem


def test_a_request_waits_for_the_next_process_when_one_has_gone(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        desk.switch.switch(Target("127.0.0.1", gone.getsockname()[1]))
    connection = desk.door(desk.switch)
    answers: list[Any] = []
    asker = threading.Thread(target=lambda: answers.append(ask(connection, "POST", "/", b"x")))
    asker.start()
    desk.switch.switch(desk.listen(echo))
    asker.join(30)
    assert answers == [(200, b"x")]


def test_an_execution_that_ends_while_its_request_waits_for_a_service_ends_at_once(desk: Desk) -> None:
    connection = desk.door(desk.switch, patience=300.0)
    connection.request("GET", "/")
    wait_for(lambda: desk.asking._count)
    began = time.monotonic()
    (one,) = desk.recorded()
    assert one.problem == "cut off: the program ended"
    assert time.monotonic() - began < 4


def test_secrets_are_masked_in_the_record_and_reach_the_service(desk: Desk) -> None:
    seen: dict[str, str] = {}

    def look(service: Service) -> None:
        seen.update(service.headers, path=service.path)
        service.tell(b"", Set_Cookie="session=topsecret", X_Count="1")

    headers = {
        "Authorization": "Bearer topsecret",
        "X-Api-Key": "topsecret",
        "Cookie": "a=topsecret",
        "X-N": "1",
    }
    ask(desk.open(look), "GET", "/?api_key=topsecret&n=1&access_token=topsecret", headers=headers)
    assert seen["Authorization"] == "Bearer topsecret"
    assert "api_key=topsecret" in seen["path"]
    (one,) = desk.recorded()
    text = json.dumps(one.headers) + one.path
    assert "topsecret" not in text
    assert one.path == "/?api_key=***&n=1&access_token=***"
    assert ["X-N", "1"] in one.headers["asked"]
    assert ["Set-Cookie", "***"] in one.headers["told"]


def test_large_bodies_go_on_record_by_their_digest_only(desk: Desk) -> None:
    connection = desk.open(echo, kept=100_000)
    for size in (50, 50_000, 200_000):
        assert ask(connection, "POST", "/", b"x" * size) == (200, b"x" * size)
    kept = [(one.told.size, one.told.kept) for one in desk.recorded()]
    assert kept == [(50, True), (50_000, True), (200_000, False)]


def test_an_execution_that_asks_without_end_is_stopped(desk: Desk) -> None:
    connection = desk.open(echo, lookups=3)
    assert [ask(connection, "POST", "/", b"x")[0] for _ in range(4)] == [200, 200, 200, 429]
    assert len(desk.recorded()) == 3


def test_many_at_once_are_each_answered_and_recorded(desk: Desk) -> None:
    desk.open(echo)

    def some(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", desk.port, timeout=30)
        for n in range(10):
            text = f"{number}.{n}".encode()
            assert ask(connection, "POST", "/", text) == (200, text)
        connection.close()

    threads = [threading.Thread(target=some, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    found = desk.recorded()
    assert len(found) == 80
    assert {desk.store.read(one.told.digest) for one in found} == {
        f"{n}.{m}".encode() for n in range(8) for m in range(10)
    }


def outsider(desk: Desk, behave: Callable[[Service], None], path: str) -> http.client.HTTPConnection:
    target = desk.listen(behave)
    return desk.door(outside(f"http://127.0.0.1:{target.port}{path}"))


def test_an_outside_service_is_asked_below_its_path_only(desk: Desk) -> None:
    connection = outsider(desk, lambda s: s.tell(f"{s.path} {s.headers['Host']}".encode()), "/api/v1/")
    status, text = ask(connection, "GET", "/names?x=1")
    assert (status, text.split()[0]) == (200, b"/api/v1/names?x=1")
    assert str(desk.port) not in text.decode()  # it sees its own name
    for path in ("/../admin", "/a/%2e%2E/b", "/..%2fadmin"):
        assert ask(connection, "GET", path)[0] == 400
    assert desk.recorded()[0].place.endswith("/api/v1")


def test_where_an_outside_service_sends_to_itself_the_program_stays_with_us(desk: Desk) -> None:
    def moved(service: Service) -> None:
        away = service.path.endswith("away")
        own = f"http://{service.headers['Host']}/api/new"
        service.tell(b"", 302, Location="https://example.org/" if away else own)

    connection = outsider(desk, moved, "/api")
    with answered(connection, "GET", "/old") as answer:
        assert answer.getheader("Location") == "/new"
        answer.read()
    with answered(connection, "GET", "/away") as answer:
        assert answer.getheader("Location") == "https://example.org/"


def test_an_outside_service_that_is_not_there_is_a_502(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    status, body = ask(desk.door(outside(f"http://127.0.0.1:{port}")), "GET", "/")
    assert status == 502
    assert "can't be reached" in json.loads(body)["error"]
    assert desk.recorded()[0].place == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    "address", ["https://me:secret@example.org", "ftp://example.org", "https://x/?key=1"]
)
def test_an_outside_address_is_a_place_and_nothing_else(address: str) -> None:
    with pytest.raises(UsageError, match="at = ") as caught:
        outside(address)
    assert "secret" not in str(caught.value)
