"""Values that go through the console: a real process posts them to a real server, as in the pod."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from koalja_fn.cluster.client import Cluster
from koalja_fn.cluster.console import Console
from koalja_fn.cluster.sending import post
from koalja_fn.errors import NotFound, Refused
from koalja_fn.events import Event
from koalja_fn.local import client
from tests.cluster.applying.api import Api

ROOT = Path(__file__).resolve().parents[3]


class Entry(BaseHTTPRequestHandler):
    seen: ClassVar[list[tuple[str, str, str]]] = []

    def do_POST(self) -> None:
        body, left = hashlib.sha256(), int(self.headers["Content-Length"])
        while left:
            piece = self.rfile.read(min(left, 1 << 16))
            body.update(piece)
            left -= len(piece)
        self.seen.append((self.path, self.headers["ce-id"], body.hexdigest()))
        gone = self.path.endswith("/gone")
        said = b'{"what": "no such wire"}' if gone else b'{"accepted": [{"id": "v1"}]}'
        self.send_response(404 if gone else 202)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def entry() -> Iterator[client.Entry]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Entry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Entry.seen.clear()
    yield client.Entry(f"http://127.0.0.1:{server.server_port}", "c", {})
    server.shutdown()
    server.server_close()


@pytest.fixture
def console(api: Api, cluster: Cluster, tmp_path: Path) -> Console:
    layer = tmp_path / "layers/koalja_function/runtime/python"
    layer.mkdir(parents=True)
    (layer / "koalja_fn").symlink_to(ROOT / "koalja_fn")
    api.environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "CNB_LAYERS_DIR": str(tmp_path / "layers"),
    }
    return Console(cluster, "there", "p")


def event(payload: bytes | Path) -> Event:
    return Event(payload, "/s", "e1", "text/plain")


def said(console: Console, entry: client.Entry, wire: str, payload: Any) -> list[dict[str, Any]]:
    return post(console, entry, wire, [event(payload)], None)


def test_a_file_is_read_as_it_is_sent_and_arrives_whole(
    console: Console, entry: client.Entry, tmp_path: Path
) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(range(256)) * 12_345)
    assert said(console, entry, "w", file) == [{"id": "v1"}]
    assert Entry.seen == [("/c/w", "e1", hashlib.sha256(file.read_bytes()).hexdigest())]
    assert said(console, entry, "w", b"") == [{"id": "v1"}]


def test_a_refusal_comes_back_as_it_is(console: Console, entry: client.Entry) -> None:
    with pytest.raises(NotFound, match="no such wire"):
        said(console, entry, "gone", b"x")


def test_what_the_entry_would_not_take_is_refused_before_it_is_sent(
    console: Console, entry: client.Entry, tmp_path: Path
) -> None:
    file = tmp_path / "huge"
    with file.open("wb") as out:
        out.truncate((1 << 30) + 1)
    with pytest.raises(Refused, match="larger than 1073741824 bytes"):
        said(console, entry, "w", file)
    assert Entry.seen == []
