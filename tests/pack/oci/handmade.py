"""A small registry of our own, for what a good one never does: break off, forget, ask for tokens, lie."""

import hashlib
import json
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Behaviour:
    """What the registry does wrong, and what it saw."""

    break_after: list[int] = field(default_factory=list)  # bytes of an upload's body, then the line is cut
    statuses: list[int] = field(default_factory=list)  # answered first, whatever was asked
    forgets_broken: bool = False
    takes_chunks: bool = True
    least_chunk: int = 0
    token: str = ""  # wanted as Bearer
    token_realm: str = ""
    cut_downloads: list[int] = field(default_factory=list)
    elsewhere: str = ""  # blobs are redirected to this origin
    digest_offset: int = 0
    seen: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    received: int = 0
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    @property
    def how(self) -> Behaviour:
        return self.server.behaviour

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        sent = {"Content-Length": str(len(body))} | (headers or {})
        for key, value in sent.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def _any(self) -> None:
        how = self.how
        url = urlsplit(self.path)
        how.seen.append((self.command, self.path))
        how.headers.append(dict(self.headers))
        if url.path == "/token":
            self._token()
            return
        if how.statuses:
            status = how.statuses.pop(0)
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._answer(status, {"Retry-After": "0"} if status == 429 else {})
            return
        if how.token and self.headers.get("Authorization") != f"Bearer {how.token}":
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            name = re.match(r"/v2/(.+?)/(blobs|manifests)", url.path)
            scope = f"repository:{name[1]}:pull" if name else ""
            challenge = f'Bearer realm="{how.token_realm}",service="handmade",scope="{scope}"'
            self._answer(401, {"WWW-Authenticate": challenge})
            return
        self._registry(url.path, parse_qs(url.query))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815

    def _token(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.how.bodies.append(body)
        data = json.dumps({"token": self.how.token, "expires_in": 300}).encode()
        self._answer(200, {"Content-Type": "application/json"}, data)

    def _registry(self, path: str, query: dict[str, list[str]]) -> None:
        upload = re.fullmatch(r"/v2/.+/blobs/uploads/([0-9a-f-]*)", path)
        blob = re.fullmatch(r"(?:/v2/.+)?/blobs/(sha256:[0-9a-f]{64})", path)
        manifest = re.fullmatch(r"/v2/.+/manifests/(.+)", path)
        if upload:
            self._upload(path, upload[1], query)
        elif blob:
            self._blob(blob[1], path)
        elif manifest:
            self._manifest(manifest[1])
        else:
            self._answer(404)

    def _blob(self, digest: str, path: str) -> None:
        how = self.how
        if digest not in how.blobs:
            self._answer(404)
            return
        if how.elsewhere and self.command == "GET":
            self._answer(307, {"Location": f"{how.elsewhere}{path}"})
            return
        data = how.blobs[digest]
        start = int((re.search(r"bytes=(\d+)-", self.headers.get("Range", "")) or [0, "0"])[1])
        if how.cut_downloads and self.command == "GET":
            cut = how.cut_downloads.pop(0)
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            self.wfile.write(data[start : start + cut])
            self._cut()
            return
        self._answer(206 if start else 200, {}, data[start:])

    def _manifest(self, which: str) -> None:
        how = self.how
        if self.command == "PUT":
            data = self.rfile.read(int(self.headers["Content-Length"]))
            how.manifests[which] = how.manifests[_digest(data)] = (self.headers["Content-Type"], data)
            self._answer(201, {"Docker-Content-Digest": _digest(data)})
        elif which in how.manifests:
            kind, data = how.manifests[which]
            self._answer(200, {"Content-Type": kind, "Docker-Content-Digest": _digest(data)}, data)
        else:
            self._answer(404)

    def _upload(self, path: str, session: str, query: dict[str, list[str]]) -> None:
        how = self.how
        if self.command == "POST":
            session = str(uuid.uuid4())
            how.uploads[session] = bytearray()
            least = {"OCI-Chunk-Min-Length": str(how.least_chunk)} if how.least_chunk else {}
            self._answer(202, {"Location": f"{path}{session}", "Range": "0-0", **least})
            return
        if session not in how.uploads:
            self._answer(404)
            return
        kept = how.uploads[session]
        if self.command == "GET":
            self._answer(204, {"Location": path, "Range": f"0-{max(len(kept) - 1, 0)}"})
        elif self.command == "DELETE":
            del how.uploads[session]
            self._answer(204)
        elif self.command == "PATCH" and not how.takes_chunks:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(405)
        elif self.command == "PATCH":
            start = int(self.headers["Content-Range"].split("-")[0])
            if start != len(kept):
                self.rfile.read(int(self.headers["Content-Length"]))
                self._answer(416)
            elif self._receive(session, kept):
                self._answer(202, {"Location": path, "Range": f"0-{len(kept) - 1}"})
        elif self._receive(session, kept):
            self._finish(session, bytes(kept), query["digest"][0])

    def _finish(self, session: str, data: bytes, wanted: str) -> None:
        del self.how.uploads[session]
        if _digest(data) != wanted:
            body = json.dumps({"errors": [{"code": "DIGEST_INVALID", "message": "no"}]}).encode()
            self._answer(400, {}, body)
            return
        self.how.blobs[wanted] = data
        self._answer(201, {"Location": f"/v2/x/blobs/{wanted}"})

    def _receive(self, session: str, kept: bytearray) -> bool:
        """Read the body into the upload; False where the line was cut meanwhile."""
        how = self.how
        left = int(self.headers.get("Content-Length") or 0)
        cut = how.break_after.pop(0) if how.break_after and left else None
        while left and (cut is None or cut > 0):
            piece = self.rfile.read(min(left, 65536 if cut is None else min(cut, 65536)))
            if not piece:
                return False
            kept += piece
            how.received += len(piece)
            left -= len(piece)
            cut = None if cut is None else cut - len(piece)
        if cut is None:
            return True
        if how.forgets_broken:
            del how.uploads[session]
        self._cut()
        return False

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.close()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@contextmanager
def handmade(behaviour: Behaviour) -> Iterator[str]:
    """The registry's host, for as long as it runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.behaviour = behaviour  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
