"""The proxy that answers from the record: what went through it is asked for again, and nobody is there."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koalja_fn.lookups import Asking, Limits, Proxy, Record, outside
from koalja_fn.lookups.recorded import Missing
from koalja_fn.registry.lookups import Body, Lookup, LookupRow
from tests.services.test_relaying import Desk, Service, answered, ask


class Shelf(Desk):
    """A desk whose service answers once; what it said is then on record, and it is gone."""

    def record(
        self, behave: Callable[[Service], None], *requests: tuple[Any, ...], **limits: Any
    ) -> list[Lookup]:
        connection = self.open(behave, **limits)
        for method, path, *more in requests:
            ask(connection, method, path, *more)
        self.switch.refuse("it is gone")
        return self.recorded()

    def replay(self, recorded: Sequence[Lookup], **limits: Any) -> http.client.HTTPConnection:
        rows = [LookupRow(100 + n, 1, n, one, "", "", 0) for n, one in enumerate(recorded)]
        proxy = Proxy(self.store, lambda: time.time_ns() // 1000, Limits(**limits))
        self._stack.callback(proxy.close)
        self.asking: Asking = proxy.replay({"lookup": Record(rows)})
        self.port = int(dict(self.asking.env)["KOALJA_LOOKUP_URL"].rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self._stack.callback(connection.close)
        return connection

    def why(self, connection: http.client.HTTPConnection, *request: Any, **more: Any) -> str:
        """What a request is told that has no answer; the record says the same."""
        with answered(connection, *request, **more) as answer:
            told = answer.read().decode()
            assert (answer.status, answer.getheader("Content-Type")) == (502, "application/json")
        (last,) = self.recorded()[-1:]
        assert (last.status, last.replayed) == (502, None)
        assert last.problem in told
        assert last.problem == self.asking.missing
        return last.problem


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    with ExitStack() as stack:
        yield Shelf(tmp_path, stack)


def told(service: Service) -> None:
    service.tell(f"{service.command} {service.path} ".encode() + service.body())


def test_an_answer_is_given_again_and_is_on_record_as_such(shelf: Shelf) -> None:
    first = shelf.record(
        lambda s: s.tell(b"yes:" + s.body(), 201, X_Kind="wise"), ("PATCH", "/a?b=c", b"hello")
    )
    connection = shelf.replay(first)
    with answered(connection, "PATCH", "/a?b=c", b"hello") as answer:
        assert (answer.status, answer.read(), answer.getheader("X-Kind")) == (201, b"yes:hello", "wise")
    (again,) = shelf.recorded()
    assert again.replayed == 100
    assert shelf.asking.missing == ""
    assert replace(again, at=0, took=0, replayed=None, headers={}) == replace(
        first[0], at=0, took=0, headers={}
    )
    # And what was replayed is replayed again: the row that was truly asked stays the one that is named.
    assert ask(shelf.replay([again]), "PATCH", "/a?b=c", b"hello") == (201, b"yes:hello")
    assert shelf.recorded()[0].replayed == 100


def test_other_requests_are_told_why_they_have_no_answer(shelf: Shelf) -> None:
    first = shelf.record(told, ("POST", "/a", b"x"), ("GET", "/b"))
    named = "look-up {} of 'lookup' has no answer on record: {}"
    assert shelf.why(shelf.replay(first), "GET", "/a") == named.format("GET /a", "it was not asked")
    assert "POST /a with 1 B sha256:" in (why := shelf.why(shelf.replay(first), "POST", "/a", b"y"))
    assert "it was asked with another body" in why
    assert "nothing was asked" in shelf.why(shelf.replay([]), "GET", "/a")
    connection = shelf.replay(first)
    assert ask(connection, "GET", "/b") == (200, b"GET /b ")
    assert "it was asked once, and not once more" in shelf.why(connection, "GET", "/b")
    long = "/" + "x" * 5000
    why = shelf.why(shelf.replay(shelf.record(told, ("GET", long))), "GET", long)
    assert "xxx… of 'lookup' has no answer on record: its path is too long to be on record whole" in why
    assert len(why) < 400


def test_equal_requests_get_their_answers_in_order_whatever_stands_between(shelf: Shelf) -> None:
    count = iter("123")
    first = shelf.record(
        lambda s: s.tell(next(count).encode()), ("GET", "/n"), ("GET", "/n"), ("GET", "/other")
    )
    connection = shelf.replay(first)
    assert [ask(connection, "GET", path)[1] for path in ("/other", "/n", "/n")] == [b"3", b"1", b"2"]


def test_secrets_may_be_others_and_are_never_given_out_masked(shelf: Shelf) -> None:
    def behave(service: Service) -> None:
        service.tell(b"come in", Set_Cookie="session=topsecret", X_Long="y" * 2000, X_Short="y")

    first = shelf.record(
        behave, ("GET", "/?api_key=topsecret&n=1", None, {"Authorization": "Bearer topsecret"})
    )
    with answered(
        shelf.replay(first), "GET", "/?api_key=new&n=1", headers={"Authorization": "Bearer new"}
    ) as answer:
        assert (answer.status, answer.read()) == (200, b"come in")
        assert (answer.getheader("Set-Cookie"), answer.getheader("X-Long")) == (None, None)
        assert answer.getheader("X-Short") == "y"
    (again,) = shelf.recorded()
    assert [name for name, _ in again.headers["leftOut"]] == ["Set-Cookie", "X-Long"]  # type: ignore[attr-defined]
    assert "topsecret" not in str(again)


def test_what_concerned_the_old_connection_is_not_repeated(shelf: Shelf) -> None:
    def behave(service: Service) -> None:
        service.send_response(200)
        for name, value in {
            "Transfer-Encoding": "chunked",
            "Connection": "close, X-Hop",
            "Keep-Alive": "timeout=1",
            "X-Hop": "gone",
            "Koalja-Answered": "7",
        }.items():
            service.send_header(name, value)
        service.end_headers()
        service.wfile.write(b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n")

    connection = shelf.replay(shelf.record(behave, ("GET", "/"), ("GET", "/2")))
    with answered(connection, "GET", "/") as answer:
        assert answer.read() == b"abcde"
        names = {name.lower() for name, _ in answer.getheaders()}
        assert answer.getheader("Content-Length") == "5"
        assert not names & {"transfer-encoding", "connection", "keep-alive", "x-hop", "koalja-answered"}
    assert ask(connection, "GET", "/2") == (200, b"abcde")  # the connection is still there


def test_answers_without_bodies_have_none(shelf: Shelf) -> None:
    def behave(service: Service) -> None:
        if service.path == "/none":
            service.send_response(204)
            service.end_headers()
        elif service.path == "/same":
            service.send_response(304)
            service.send_header("ETag", '"1"')
            service.end_headers()
        else:
            service.tell(b"12345")

    conditional = {"If-None-Match": '"1"'}
    first = shelf.record(
        behave, ("HEAD", "/"), ("GET", "/none"), ("GET", "/same", None, conditional), ("GET", "/after")
    )
    connection = shelf.replay(first)
    with answered(connection, "HEAD", "/") as answer:
        assert (answer.status, answer.read(), answer.getheader("Content-Length")) == (200, b"", "5")
    assert ask(connection, "GET", "/none") == (204, b"")
    assert ask(connection, "GET", "/same", headers=conditional) == (304, b"")
    assert ask(connection, "GET", "/after") == (200, b"12345")


def test_a_request_for_a_part_or_in_another_form_is_another_request(shelf: Shelf) -> None:
    def behave(service: Service) -> None:
        said = f"{service.headers.get('Range')} {service.headers.get('Accept-Language')}"
        service.tell(said.encode(), Vary="accept-language, *")

    german, english = {"Accept-Language": "de"}, {"Accept-Language": "en"}
    first = shelf.record(
        behave,
        ("GET", "/", None, {"Range": "bytes=0-1", **german}),
        ("GET", "/", None, {"Range": "bytes=2-3", **german}),
        ("GET", "/", None, english),
    )
    connection = shelf.replay(first)
    assert ask(connection, "GET", "/", headers={**english, "User-Agent": "another"})[1] == b"None en"
    assert ask(connection, "GET", "/", headers={"Range": "bytes=2-3", **german})[1] == b"bytes=2-3 de"
    why = shelf.why(connection, "GET", "/", headers={"Range": "bytes=0-1", **english})
    assert "it was asked with other headers (accept-language)" in why


def test_where_the_service_gave_no_answer_then_there_is_none_now(shelf: Shelf) -> None:
    def break_off(service: Service) -> None:
        service.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        service.close_connection = True

    connection = shelf.open(break_off)
    with pytest.raises(http.client.IncompleteRead):
        ask(connection, "GET", "/")
    (first,) = shelf.recorded()
    assert first.problem
    why = shelf.why(shelf.replay([first]), "GET", "/")
    assert "it got no answer then: service 'lookup' broke off in the middle" in why
    # A program that asked once more had its answer: that is the first one now.
    second = shelf.record(told, ("GET", "/"))
    assert ask(shelf.replay([first, *second]), "GET", "/") == (200, b"GET / ")


def test_an_answer_that_is_not_in_the_store_is_none(shelf: Shelf) -> None:
    (first,) = shelf.record(told, ("GET", "/"))
    too_large = [replace(first, told=Body(f"sha256:{'0' * 64}", 1 << 30))]
    assert "its answer of 1073741824 bytes was too large to be kept" in shelf.why(
        shelf.replay(too_large), "GET", "/"
    )
    cut = [replace(first, told=Body("", 7))]
    assert "the end of its answer was not seen" in shelf.why(shelf.replay(cut), "GET", "/")
    unknown = [replace(first, asked=Body("", 7))]
    assert "it was asked with another body" in shelf.why(shelf.replay(unknown), "GET", "/")
    shelf.store.delete(first.told.digest)
    assert "its answer of 6 bytes was purged, lost or damaged" in shelf.why(shelf.replay([first]), "GET", "/")


def test_a_damaged_answer_is_none(shelf: Shelf, tmp_path: Path) -> None:
    (first,) = shelf.record(lambda s: s.tell(bytes(100_000)), ("GET", "/"))
    (file,) = [
        path
        for path in (tmp_path / "objects").rglob("*")
        if path.is_file() and path.stat().st_size == 100_000
    ]
    file.chmod(0o600)
    file.write_bytes(b"x" * 100_000)
    assert "its answer of 100000 bytes was purged, lost or damaged" in shelf.why(
        shelf.replay([first]), "GET", "/"
    )


def test_bodies_in_chunks_and_large_ones_are_known_by_their_digest(shelf: Shelf) -> None:
    def behave(service: Service) -> None:
        service.tell(str(len(service.body())).encode())

    large = bytes(300_000)
    (first,) = shelf.record(behave, ("POST", "/", large), kept=1000)
    assert not first.asked.kept
    connection = shelf.replay([first, first], kept=1000)
    assert ask(connection, "POST", "/", large) == (200, b"300000")
    pieces = (large[:100], large[100:])
    assert ask(connection, "POST", "/", iter(pieces), encode_chunked=True) == (200, b"300000")


def test_what_is_refused_is_refused_and_no_miss(shelf: Shelf) -> None:
    shelf.replay([])
    assert b" 403 " in shelf.raw("GET http://elsewhere/ HTTP/1.1\nHost: elsewhere\n\n")
    assert shelf.recorded()[0].status == 403
    assert shelf.asking.missing == ""


def test_an_outside_service_sends_to_itself_as_it_did(shelf: Shelf) -> None:
    def behave(service: Service) -> None:
        service.tell(b"", 302, Location=f"http://{service.headers['Host']}/v1/there")

    target = shelf.listen(behave)
    connection = shelf.door(outside(f"http://127.0.0.1:{target.port}/v1"))
    assert ask(connection, "GET", "/here")[0] == 302
    first = shelf.recorded()
    with answered(shelf.replay(first), "GET", "/here") as answer:
        assert (answer.status, answer.getheader("Location")) == (302, "/there")
    assert shelf.recorded()[0].place == f"http://127.0.0.1:{target.port}/v1"


_REQUESTS = st.tuples(
    st.sampled_from(["GET", "POST"]), st.sampled_from(["/", "/a", "/a?n=1"]), st.sampled_from(["", "x", "y"])
)


@given(then=st.lists(_REQUESTS, max_size=12), now=st.lists(_REQUESTS, max_size=12))
def test_each_request_gets_the_next_answer_to_its_equals_or_none(then: Any, now: Any) -> None:
    def looked_up(request: tuple[str, str, str], n: int) -> LookupRow:
        method, path, text = request
        return LookupRow(n, 1, n, Lookup("w", method, path, n, status=200, asked=body_of(text)), "", "", 0)

    def body_of(text: str) -> Body:
        return Body(f"sha256:{text}", len(text)) if text else Body()

    record = Record([looked_up(request, n) for n, request in enumerate(then)])
    left = list(enumerate(then))
    for request in now:
        expected = next((number for number, one in left if one == request), None)
        left = [(number, one) for number, one in left if number != expected]
        try:
            given_out: int | None = record.take(request[0], request[1], body_of(request[2]), []).id
        except Missing:
            given_out = None
        assert given_out == expected


def test_many_at_once_get_each_answer_once(shelf: Shelf) -> None:
    lock, count = threading.Lock(), iter(range(1000))

    def behave(service: Service) -> None:
        with lock:
            service.tell(str(next(count)).encode())

    first = shelf.record(behave, *[("GET", "/next")] * 60)
    shelf.replay(first)
    found: list[str] = []

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", shelf.port, timeout=30)
        found.extend(ask(connection, "GET", "/next")[1].decode() for _ in range(10))
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(int, found)) == list(range(60))
    assert sorted(one.replayed or 0 for one in shelf.recorded()) == list(range(100, 160))
