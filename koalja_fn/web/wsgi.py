"""A request for a WSGI application, and its answer as a whole."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO
from urllib.parse import unquote_to_bytes

from koalja_fn.web import answers
from koalja_fn.web.heads import Head

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


def environ_of(
    head: Head, size: int | None, stream: BinaryIO, address: tuple[str, int], peer: tuple[str, int]
) -> dict[str, Any]:
    """The environment; `size` of the body, None where the sender told nothing of one."""
    path, _, query = head.target.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": head.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": address[0],
        "SERVER_PORT": str(address[1]),
        "SERVER_PROTOCOL": f"HTTP/1.{head.minor}",
        "REMOTE_ADDR": peer[0],
        "REMOTE_PORT": str(peer[1]),
        "SERVER_SOFTWARE": "koalja-fn",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": stream,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    for name, value in head.fields.items():
        if "_" in name:  # it could be taken for another one with a hyphen
            continue
        if name == "content-type":
            environ["CONTENT_TYPE"] = value
        elif name not in ("content-length", "transfer-encoding", "connection", "expect"):
            environ["HTTP_" + name.upper().replace("-", "_")] = value
    if size is not None:
        environ["CONTENT_LENGTH"] = str(size)
    return environ


def called(app: Application, environ: dict[str, Any], *, kept: bool) -> bytes:
    """Call the application; its answer, which is small."""
    said: list[Any] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[[bytes], None]:
        said[:] = [status, headers]
        return written.append

    pieces = app(environ, start_response)
    try:
        written.extend(pieces)
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
    status, headers = said
    bare = environ["REQUEST_METHOD"] == "HEAD"
    return answers.answer(status, headers, b"".join(written), kept=kept, bare=bare)
