"""Answers as bytes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from http import HTTPStatus

from koalja_fn.web.heads import BadRequest

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
_BARE = (204, 304)
_date = (0, "")


def answer(status: str, headers: Iterable[tuple[str, str]], body: bytes, *, kept: bool, bare: bool) -> bytes:
    """A whole answer; `bare`: of a HEAD request, which has no body."""
    lines = [f"HTTP/1.1 {status}", f"Date: {_now()}", "Server: koalja-fn"]
    told = False
    for name, value in headers:
        lower = name.lower()
        if lower in ("connection", "transfer-encoding"):  # the server's own affair
            continue
        told = told or lower == "content-length"
        lines.append(f"{name}: {value}")
    bodiless = status[:3] in ("204", "304")
    if not told and not bodiless:
        lines.append(f"Content-Length: {len(body)}")
    if not kept:
        lines.append("Connection: close")
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    return head if bare or bodiless else head + body


def short(status: int, body: bytes, kind: str, *, kept: bool) -> bytes:
    """An answer with nothing but a body of this type, or with none."""
    typed = f"\r\nContent-Type: {kind}" if body else ""
    end = "" if kept else "\r\nConnection: close"
    head = (
        f"HTTP/1.1 {_LINES[status]}\r\nDate: {_now()}\r\nServer: koalja-fn{typed}"
        f"\r\nContent-Length: {len(body)}{end}\r\n\r\n"
    )
    return head.encode("latin-1") + body


def problem(status: int, what: str, why: str = "", cure: str = "", retry: int = 0) -> bytes:
    """The answer to what never came as far as the application; the connection ends with it."""
    body = json.dumps({"status": status, "what": what, "why": why, "cure": cure}).encode() + b"\n"
    headers = [("Content-Type", "application/json")]
    if retry:
        headers.append(("Retry-After", str(retry)))
    return answer(_LINES[status], headers, body, kept=False, bare=False)


def refusal(error: BadRequest) -> bytes:
    """The answer to what is no request."""
    return problem(error.status, error.what, error.why, error.cure)


def _now() -> str:
    """The date, made once a second."""
    global _date
    second = int(time.time())
    if _date[0] != second:
        days = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
        months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
        t = time.gmtime(second)
        day = f"{days[t.tm_wday]}, {t.tm_mday:02} {months[t.tm_mon - 1]} {t.tm_year}"
        _date = (second, f"{day} {t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} GMT")
    return _date[1]
