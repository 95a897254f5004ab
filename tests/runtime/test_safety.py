"""DESIGN, section 14, point by point: each test tries the attack on a runtime that serves."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.broker import OF_BROKER, post, send
from tests.runtime.cluster import Cluster, wait_for

WIRING = """
[c]
(in) copy (out)
    run = cat {in}
wire in
    accept = com.example
"""
EVENT = {"specversion": "1.0", "id": "1", "source": "/s", "type": "com.example"}
JSON = {"Content-Type": "application/cloudevents+json"}
SECRET = "s3cret-that-no-program-sees"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("safety") / "c"
    folder.mkdir()
    (folder / "c.koalja").write_text(WIRING)
    made = Cluster(folder, folder.parent / "home")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def metadata() -> Iterator[tuple[str, list[bytes]]]:
    """An address that must not be asked, and what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        ended = threading.Event()

        def listen() -> None:
            while not ended.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    asked.append(connection.recv(1000))

        thread = threading.Thread(target=listen)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/latest/meta-data/iam/", asked
        ended.set()
        thread.join()


def test_a_dataref_is_never_fetched(cluster: Cluster, metadata: tuple[str, list[bytes]]) -> None:
    """No request forgery: neither from an event of a stranger nor from what looks like one of ours."""
    address, asked = metadata
    foreign = {**EVENT, "id": "dataref", "dataref": address}
    assert post(f"{cluster.entry}/c/in", foreign)[0] == 400, "data that are elsewhere are not fetched"
    assert send(cluster.entry, json.dumps({**foreign, "id": "dataref2"}).encode(), JSON)[0] == 400
    assert post(f"{cluster.entry}/c/in", foreign, "text/plain", b"with data")[0] == 202
    ours = {
        **EVENT,
        "type": "dev.koalja.value.v1",
        "koaljacircuit": "c",
        "koaljawire": "in",
        "dataref": address,
    }
    for path in ("", "/sink", "/letters"):
        assert post(cluster.entry + path, ours)[0] == 202
    assert post(cluster.pods["copy"][0].url, ours, headers=OF_BROKER)[0] == 202
    wait_for(lambda: "with data" in cluster.contents("out") and cluster.is_idle())
    assert asked == []


@pytest.mark.parametrize("wire", ["..", "../../etc", "..%2f..%2fetc%2fpasswd", "%2e%2e", "in%00", "a" * 5000])
def test_a_name_never_becomes_a_path(cluster: Cluster, wire: str) -> None:
    status, body = send(f"{cluster.entry}/c/{wire}", b"x", {"Content-Type": "text/plain"})
    assert status in (400, 404, 405)
    assert b"root:" not in body


def test_names_in_events_are_no_paths_either(cluster: Cluster) -> None:
    assert post(f"{cluster.entry}/c/in", {**EVENT, "id": "p", "koaljaname": "../../x"}, "a/b", b"1")[0] == 400
    ring = {**EVENT, "type": "dev.koalja.ring.v1", "koaljatask": "../../x", "koaljawire": "../.."}
    assert post(cluster.pods["copy"][0].url, ring)[0] == 202
    assert post(f"{cluster.entry}/letters", ring)[0] == 202


def test_large_headers_are_refused(cluster: Cluster) -> None:
    assert post(f"{cluster.entry}/c/in", {**EVENT, "long": "x" * 10_000})[0] == 431
    assert post(f"{cluster.entry}/c/in", {**EVENT, "long": "x" * 5000})[0] == 431
    many = {f"a{n}": "x" for n in range(200)}
    assert post(f"{cluster.entry}/c/in", {**EVENT, **many})[0] == 431
    assert post(f"{cluster.pods['copy'][0].url}", {**EVENT, **{f"a{n}": "x" for n in range(80)}})[0] == 431


def test_a_body_that_is_too_large_is_refused_before_it_is_read(cluster: Cluster) -> None:
    for url in (f"{cluster.pods['entry'][0].url}/c/in", cluster.pods["copy"][0].url):
        host, port = url.split("/")[2].split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            path = "/c/in" if url.endswith("/c/in") else "/"
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n"
            events = "".join(f"ce-{name}: {text}\r\n" for name, text in EVENT.items())
            connection.sendall(f"{head}{events}\r\n".encode())
            assert b" 413 " in connection.recv(100)


def test_a_million_attributes_cost_a_moment_and_are_refused(cluster: Cluster) -> None:
    million = json.dumps({**EVENT, **{f"a{n}": "x" for n in range(1_000_000)}}).encode()
    fewer = json.dumps({**EVENT, **{f"a{n}": "x" for n in range(100_000)}}).encode()
    began = time.monotonic()
    for url in (f"{cluster.entry}/c/in", cluster.pods["copy"][0].url):
        assert send(url, million, JSON)[0] == 413
        assert send(url, fewer, JSON)[0] == 400
    assert time.monotonic() - began < 20
    assert post(cluster.entry, {**EVENT, "id": "still there"})[0] == 202


def test_a_batch_of_too_many_events_is_refused_whole(cluster: Cluster) -> None:
    batch = json.dumps([{**EVENT, "id": f"many{n}"} for n in range(10_001)]).encode()
    before = len(cluster.contents("in"))
    kind = {"Content-Type": "application/cloudevents-batch+json"}
    assert send(f"{cluster.entry}/c/in", batch, kind)[0] == 413
    assert len(cluster.contents("in")) == before


def test_statements_in_names_are_text(cluster: Cluster) -> None:
    attack = "x'); DROP TABLE value; --"
    status, _ = send(f"{cluster.entry}/c/{attack.replace(' ', '%20')}", b"x", {})
    assert status in (400, 404)
    event = {
        **EVENT,
        "id": attack,
        "source": attack,
        "subject": attack,
        "koaljaname": "x'; DROP TABLE wire; --",
    }
    assert send(f"{cluster.entry}/c/in", json.dumps({**event, "data": attack}).encode(), JSON)[0] == 202
    letter = {**event, "type": "dev.koalja.ring.v1", "koaljatask": attack, "knativeerrordata": attack}
    assert send(f"{cluster.entry}/letters", json.dumps(letter).encode(), JSON)[0] == 202
    assert json.dumps(attack) in cluster.contents("in")
    assert cluster.findings() == []


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /c/in HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /c/in HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /c/in HTTP/1.1\r\nHost: x\r\nContent Length: 1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET " + b"/" * 9000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_hardly_http_is_refused_and_hurts_nobody(cluster: Cluster, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", cluster.pods["entry"][0].port), timeout=15) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        said = connection.recv(200)
    assert said == b"" or said.split()[1][:1] == b"4"
    assert post(cluster.entry, {**EVENT, "id": "after"})[0] == 202


INTRUDER = """
[c]
(in) intruder (out)
    run = sh intruder.sh
wire out
    type = text/plain
"""


def test_a_program_finds_none_of_the_wrappers_credentials(tmp_path: Path) -> None:
    """It runs as the wrapper's user, in a container as no-one with special rights: so does this test."""
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / "c.koalja").write_text(INTRUDER)
    shutil.copy(Path(__file__).with_name("intruder.sh"), folder)
    registry = tmp_path / "of-the-wrapper"
    registry.mkdir()
    settings = {
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": SECRET,
        "KOALJA_REGISTRY": f"sqlite:{registry}/{SECRET}.db",
        "SOME_TOKEN": SECRET,
    }
    cluster = Cluster(
        folder, tmp_path / "home", registry=settings["KOALJA_REGISTRY"], settings=settings, plain=True
    )
    try:
        cluster.start()
        assert cluster.send("in", b"go") == 202
        wait_for(lambda: cluster.told("intruder"), what=cluster.logs())
        assert cluster.told("intruder")[0]["outcome"] == "done", cluster.logs()
        with cluster.looking() as (_, store):
            found = store.read(cluster.told("intruder")[0]["values"][0]["digest"])
        assert b"KOALJA_SNAPSHOT=" in found, "it did look"
        assert SECRET.encode() not in found
        for line in cluster.logs().splitlines():
            assert SECRET not in line
        for name, pods in cluster.pods.items():
            assert pods[0].process is not None
            environ = Path(f"/proc/{pods[0].process.pid}/environ")
            if os.geteuid() == 0:  # even to root the block is empty
                assert SECRET.encode() not in environ.read_bytes(), name
    finally:
        cluster.stop()
