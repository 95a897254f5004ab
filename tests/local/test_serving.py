"""The HTTP entry over real sockets, and its application against whatever somebody may send."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from standin import MemoryIntake

from koalja_fn import events
from koalja_fn.errors import Full, StoreError
from koalja_fn.local.serving import Server, entry

JSON = {"Content-Type": "application/cloudevents+json"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}
EVENT = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"a": 1}}


class Client:
    """One request for each call, on a connection of its own."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, object], http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, headers or {})  # type: ignore[arg-type]
            answer = connection.getresponse()
            text = answer.read()
            kind = answer.headers["Content-Type"]
            return (
                answer.status,
                json.loads(text) if "json" in kind else {"text": text.decode()},
                answer.headers,
            )
        finally:
            connection.close()


@pytest.fixture
def intake() -> MemoryIntake:
    return MemoryIntake()


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def server(intake: MemoryIntake, spool: Path) -> Iterator[Server]:
    limits = events.Limits(body=300_000)
    server = Server(entry(intake, limits, spool=spool), spool=spool, limits=limits)
    server.start()
    yield server
    server.drain(5)


@pytest.fixture
def call(server: Server) -> Client:
    return Client(server.port)


def test_raw_bytes_are_a_value(call: Client, intake: MemoryIntake):
    status, said, _ = call("POST", "/demo/in", b"\x00\xff", {"Content-Type": "image/png"})
    assert status == 202
    (accepted,) = said["accepted"]  # type: ignore[misc]
    assert accepted == {"id": accepted["id"], "wire": "in", "position": 1, "duplicate": False}
    assert intake.payloads == [b"\x00\xff"]
    assert intake.offers[0].type == "image/png"
    assert (intake.offers[0].event_source, intake.offers[0].event_id) == ("", "")


def test_the_wiring_types_what_has_no_type(call: Client, intake: MemoryIntake):
    call("POST", "/demo/other", b"{}")
    assert intake.offers[0].type == "application/json"


def test_all_three_modes_arrive(call: Client, intake: MemoryIntake):
    binary = {
        "ce-specversion": "1.0",
        "ce-id": "b",
        "ce-source": "/s",
        "ce-type": "t",
        "Content-Type": "text/plain",
    }
    assert call("POST", "/demo/in", b"x", binary)[0] == 202
    assert call("POST", "/demo/in", json.dumps(EVENT), JSON)[0] == 202
    batch = json.dumps([{**EVENT, "id": str(n)} for n in range(3)])
    said = call("POST", "/demo/in", batch, BATCH)[1]
    assert [a["duplicate"] for a in said["accepted"]] == [False, True, False]  # type: ignore[attr-defined]
    assert [o.event_id for o in intake.offers] == ["b", "1", "0", "2"]
    assert call("POST", "/demo/in", "[]", BATCH)[:2] == (202, {"accepted": []})


def test_an_idempotency_key_makes_a_repeat_harmless(call: Client, intake: MemoryIntake):
    for expected in (False, True):
        _, said, _ = call("POST", "/demo/in", b"x", {"Idempotency-Key": '"k-1"'})
        assert said["accepted"][0]["duplicate"] is expected  # type: ignore[index]
    assert (intake.offers[0].event_source, intake.offers[0].event_id) == ("/http", "k-1")
    assert call("POST", "/demo/in", b"x", {"Idempotency-Key": ""})[0] == 400
    assert call("POST", "/demo/in", b"y", {"Idempotency-Key": "k-1"})[0] == 422


def test_large_bodies_go_through_the_spool_folder_and_leave_nothing(
    call: Client, intake: MemoryIntake, spool: Path
):
    body = bytes(range(256)) * 1000
    assert call("POST", "/demo/in", body)[0] == 202
    assert intake.payloads == [body]
    assert isinstance(intake.offers[0].payload, Path)
    assert intake.offers[0].payload.parent == spool
    pieces = (body[n : n + 7000] for n in range(0, len(body), 7000))
    assert call("POST", "/demo/in", pieces)[0] == 202
    assert intake.payloads[1] == body
    assert call("POST", "/demo/nowhere", body)[0] == 404
    time.sleep(0.05)
    assert list(spool.iterdir()) == []


def test_bodies_above_the_limit_are_413(call: Client, intake: MemoryIntake):
    assert call("POST", "/demo/in", b"x" * 300_000)[0] == 202
    connection = http.client.HTTPConnection("127.0.0.1", call.port, timeout=10)
    connection.putrequest("POST", "/demo/in")
    connection.putheader("Content-Length", "300001")
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert json.loads(answer.read())["cure"]
    connection.close()
    assert len(intake.payloads) == 1


def test_a_body_without_length_is_411(call: Client):
    with socket.create_connection(("127.0.0.1", call.port), timeout=10) as raw:
        raw.sendall(b"POST /demo/in HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert raw.recv(1000).startswith(b"HTTP/1.1 411")
    assert call("POST", "/demo/in", b"", {"Content-Length": "0"})[0] == 202


def test_too_large_headers_are_431(call: Client):
    status, said, _ = call("POST", "/demo/in", b"", {f"X-{n}": "v" * 1000 for n in range(70)})
    assert (status, bool(said["what"])) == (431, True)
    assert call("POST", "/demo/in", b"", {"ce-x": "v" * 5000})[0] == 431


def test_unknown_names_are_404_with_a_guess(call: Client):
    assert "demo" in str(call("POST", "/dmo/in", b"")[1]["cure"])
    assert "other" in str(call("POST", "/demo/othr", b"")[1]["cure"])
    paths = ("/demo/..%2f..%2fetc%2fpasswd", "/demo/%00", "/demo/in/", "/demo", "//demo/xx", "/%ff/in")
    for path in (*paths, "/demo/%C3%A9", "/demo/" + "x" * 5000):
        assert call("POST", path, b"")[0] in (404, 405), path


def test_wrong_methods_are_405(call: Client):
    status, said, headers = call("GET", "/demo/in")
    assert status == 405
    assert "POST" in headers["Allow"]
    assert said["what"]
    assert call("BREW", "/demo/in")[0] == 405


def test_health_and_help(call: Client):
    assert call("GET", "/healthz")[1] == {
        "status": "ok",
        "circuit": "demo",
        "types": {"other": "application/json"},
    }
    text = str(call("GET", "/")[1]["text"])
    assert f"curl --data-binary @FILE http://127.0.0.1:{call.port}/demo/in" in text


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost:80:90", "", "[::2]"]
)
def test_foreign_hosts_are_refused(call: Client, intake: MemoryIntake, host: str):
    assert call("POST", "/demo/in", b"x", {"Host": host})[0] in (400, 403)
    assert intake.payloads == []


def test_foreign_origins_are_refused(call: Client, intake: MemoryIntake):
    for origin in ("http://evil.example", "null", f"http://localhost:{call.port}", "http://127.0.0.1:1", ""):
        assert call("POST", "/demo/in", b"x", {"Origin": origin})[0] == 403
    assert intake.payloads == []
    assert call("POST", "/demo/in", b"x", {"Origin": f"http://127.0.0.1:{call.port}"})[0] == 202
    assert call("POST", "/demo/in", b"x", {"Host": "LOCALHOST"})[0] == 202


def test_a_full_backlog_is_429_with_the_time_to_wait(call: Client, intake: MemoryIntake):
    def full() -> None:
        raise Full("full", retry_after=2.2)

    intake.before = full
    status, _, headers = call("POST", "/demo/in", b"x")
    assert (status, headers["Retry-After"]) == (429, "3")


def test_trouble_with_the_disk_is_503_and_a_bug_is_500(
    call: Client, intake: MemoryIntake, caplog: pytest.LogCaptureFixture
):
    def no_room() -> None:
        raise StoreError("no room")

    def bug() -> None:
        raise ZeroDivisionError

    intake.before = no_room
    status, said, headers = call("POST", "/demo/in", b"x")
    assert (status, said["what"], headers["Retry-After"]) == (503, "no room", "5")
    intake.before = bug
    assert call("POST", "/demo/in", b"x")[0] == 500


def test_drain_answers_what_is_in_flight_and_refuses_the_rest(server: Server, intake: MemoryIntake):
    begun, go = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        go.wait(10)

    intake.before = slow
    call = Client(server.port)
    late = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    late.connect()
    answers: list[int] = []
    first = threading.Thread(target=lambda: answers.append(call("POST", "/demo/in", b"x")[0]))
    first.start()
    assert begun.wait(5)
    ended = threading.Thread(target=server.drain)
    ended.start()
    time.sleep(0.1)
    late.request("POST", "/demo/in", b"y")
    answer = late.getresponse()
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    answer.read()
    late.close()
    go.set()
    first.join(5)
    ended.join(5)
    assert answers == [202]
    assert intake.payloads == [b"x"]
    with pytest.raises(OSError):
        call("GET", "/healthz")


def test_drain_gives_up_after_its_time(spool: Path, intake: MemoryIntake):
    go = threading.Event()
    intake.before = lambda: go.wait(10) and None
    server = Server(entry(intake, spool=spool), spool=spool)
    port = server.start()

    def cut_off() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            Client(port)("POST", "/demo/in", b"x")

    stuck = threading.Thread(target=cut_off)
    stuck.start()
    time.sleep(0.2)
    assert server.drain(0.1) is False
    go.set()
    stuck.join(5)


def test_a_taken_port_is_an_error_at_start(server: Server, spool: Path, intake: MemoryIntake):
    with pytest.raises(OSError):
        Server(entry(intake, spool=spool), spool=spool, port=server.port).start()


def test_what_an_earlier_process_left_in_the_spool_is_removed(spool: Path, intake: MemoryIntake):
    spool.mkdir()
    (spool / "body-old").write_text("x")
    (spool / "other").write_text("x")
    server = Server(entry(intake, spool=spool), spool=spool)
    server.start()
    server.drain()
    assert [p.name for p in spool.iterdir()] == ["other"]


def test_many_first_requests_at_once(server: Server, intake: MemoryIntake):
    call = Client(server.port)
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(call("POST", "/demo/in", b"x")[0])) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [202] * 20


def test_broken_http_is_a_4xx(server: Server):
    for text in (
        b"POST /demo/in HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /demo/in HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"POST /demo/in HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\r\n\r\n",
        b"POST /demo/in HTTP/1.1\r\nHost : localhost\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
            raw.sendall(text)
            answer = raw.recv(4000)
            assert answer.startswith((b"HTTP/1.0 4", b"HTTP/1.1 4")), text[:60]


names = st.sampled_from(
    [
        "Content-Type",
        "ce-id",
        "ce-source",
        "ce-type",
        "ce-specversion",
        "ce-time",
        "ce-x",
        "Idempotency-Key",
        "Host",
        "Origin",
        "Content-Encoding",
        "Content-Length",
        "Transfer-Encoding",
    ]
)
contents = st.sampled_from(["1.0", "1", JSON["Content-Type"], BATCH["Content-Type"], "chunked", "localhost"])
documents = st.recursive(
    st.none() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*EVENT, "time", "data_base64"]), inner)
    ),
)
fuzz_headers = st.lists(
    st.tuples(
        names | st.from_regex(r"[A-Za-z-]{1,10}", fullmatch=True),
        contents | st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=15),
    ),
    max_size=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    method=st.sampled_from(["POST", "GET", "PUT", "OPTIONS", "HEAD"]),
    path=st.sampled_from(["/demo/in", "/demo/other"]) | st.text(max_size=20).map(lambda t: "/" + t),
    headers=fuzz_headers,
    body=st.binary(max_size=80) | documents.map(lambda value: json.dumps(value).encode()),
)
def test_nothing_that_comes_is_a_500(
    tmp_path: Path, method: str, path: str, headers: list[tuple[str, str]], body: bytes
):
    app = entry(MemoryIntake(), spool=tmp_path)
    plain = [(n, v) for n, v in headers if n not in ("Content-Length", "Transfer-Encoding")]
    for given_headers in (
        headers,
        [("Host", "localhost"), *plain],
        [("Host", "localhost"), *BATCH.items(), *plain],
    ):
        try:
            answer = app.test_client().open(path, method=method, headers=given_headers, data=body)
        except (ValueError, UnicodeError):  # the test client itself can't form such a request
            continue
        assert answer.status_code < 500, answer.data
