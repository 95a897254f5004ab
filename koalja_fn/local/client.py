"""The client of a running entry: found by the folder's `run.json`; it tries again what may be tried again.

Sending the same again is safe, since every event has its id before the first try.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from koalja_fn.errors import Busy, Conflict, Full, KoaljaError, NotFound, Refused
from koalja_fn.events import BATCH_TYPE, Event, batch_body, binary_headers

_PATIENCE = 30.0
_LONGEST = 5.0
# The entry is on this machine: a proxy of the environment would only get in the way.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Entry:
    """A running entry: where it is, whose, and which types the wiring gives to wires."""

    url: str
    circuit: str
    types: Mapping[str, str]


Ask = Callable[[str, Any, dict[str, str]], list[dict[str, Any]]]
"""Posts a body, bytes or a file, with headers to an address; returns the receipts."""


class Unreachable(Busy):
    """Nobody answers where an entry should be."""


def running(state: Path) -> Entry | None:
    """The entry that `STATE/run.json` names, if it answers and serves the circuit it says."""
    try:
        found = json.loads((state / "run.json").read_text())
        url, circuit = str(found["url"]).rstrip("/"), str(found["circuit"])
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            return None  # values go to this machine only, whatever stands in the file
        with _OPENER.open(f"{url}/healthz", timeout=3) as answer:
            health = json.loads(answer.read(65_536))
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return None
    if not isinstance(health, dict) or health.get("circuit") != circuit:
        return None
    types = health.get("types")
    return Entry(url, circuit, types if isinstance(types, dict) else {})


def post(
    entry: Entry,
    wire: str,
    group: Sequence[Event],
    *,
    patience: float = _PATIENCE,
    told: Callable[[str], None] | None = None,
    pause: Callable[[float], None] = time.sleep,
    ask: Ask | None = None,
) -> list[dict[str, Any]]:
    """Post events, one in binary mode, several as a batch; return the receipts.

    429, 503 and a broken connection are tried again with growing pauses until `patience` seconds are over.
    `ask` takes a request to where it goes and gives the receipts, where that is not simply over HTTP.

    Raises:
        Unreachable: Nobody answered to the end.
        Full: The backlog stayed full.
        NotFound, Conflict, Refused: As the entry said.
    """
    until = time.monotonic() + patience
    delay = 0.1
    while True:
        try:
            return _once(entry, wire, group, ask or _answer)
        except (Full, Unreachable) as error:
            wait = max(delay, min(error.retry_after, _LONGEST)) if isinstance(error, Full) else delay
            if time.monotonic() + wait > until:
                raise
            if told is not None:
                told(f"{error.what}; trying again")
            pause(wait)
            delay = min(delay * 2, _LONGEST)


def _once(entry: Entry, wire: str, group: Sequence[Event], ask: Ask) -> list[dict[str, Any]]:
    url = f"{entry.url}/{quote(entry.circuit, safe='')}/{quote(wire, safe='')}"
    if len(group) != 1:
        return ask(url, batch_body(group), {"Content-Type": BATCH_TYPE})
    headers, payload = binary_headers(group[0]), group[0].payload
    if isinstance(payload, bytes):
        return ask(url, payload, headers)
    with payload.open("rb") as body:
        return ask(url, body, {**headers, "Content-Length": str(payload.stat().st_size)})


def _answer(url: str, body: Any, headers: dict[str, str]) -> list[dict[str, Any]]:
    request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310 - http, checked above
    try:
        with _OPENER.open(request, timeout=600) as answer:
            accepted: list[dict[str, Any]] = json.loads(answer.read())["accepted"]
            return accepted
    except urllib.error.HTTPError as error:
        with error:
            raise error_of(error.code, error.read(65_536), error.headers.get("Retry-After")) from error
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        raise Unreachable(
            f"the running circuit at {url} did not answer",
            why=str(error),
            cure="look at what `koalja-fn run` says, then send the same again",
        ) from error


def error_of(status: int, body: bytes, retry_after: str | None) -> KoaljaError:
    """What an entry's refusal means."""
    try:
        said = json.loads(body)
        what, why, cure = str(said["what"]), str(said.get("why", "")), str(said.get("cure", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        what, why, cure = f"the entry answered {status}", body[:200].decode("utf-8", "replace"), ""
    if status == 404:
        return NotFound(what, why=why, cure=cure)
    if status == 422:
        return Conflict(what, why=why, cure=cure)
    if status == 429:
        seconds = float(retry_after) if retry_after and retry_after.isdigit() else 1.0
        return Full(what, why=why, cure=cure, retry_after=seconds)
    if status >= 500:
        return Unreachable(what, why=why, cure=cure)
    return Refused(what, why=why, cure=cure, http_status=status)
