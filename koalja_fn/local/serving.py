"""The HTTP entry of a circuit: an event or raw bytes by POST to `/CIRCUIT/WIRE`, 202 once they are durable.

It answers 202 only after the intake has accepted, and everything else with JSON of what, why and
cure. It is meant for programs on this machine: a Host that is not loopback and a foreign Origin are
refused, so that a web page in somebody's browser can't post here (DNS rebinding). Names in the
address are looked up in the circuit, and never become paths.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from koalja_fn import events
from koalja_fn.engine.arriving import Receipt
from koalja_fn.errors import Conflict, Full, KoaljaError, NotFound, Refused
from koalja_fn.local.express import Express
from koalja_fn.local.ghosting import Ghosts, ghosts_among
from koalja_fn.local.hosts import LOOPBACK, is_own
from koalja_fn.local.offering import Intake, check_wire, offers_of, untyped_on
from koalja_fn.local.server import Server
from koalja_fn.local.spool import Spooled, spool_stream, too_large
from koalja_fn.web import Answer

__all__ = ["LOOPBACK", "Express", "Server", "entry", "told"]

RAW_SOURCE = "/http"
_LOG = logging.getLogger(__name__)


def entry(
    intake: Intake,
    limits: events.Limits = events.DEFAULT_LIMITS,
    *,
    spool: Path,
    hosts: Collection[str] | None = LOOPBACK,
    ghosts: Ghosts | None = None,
) -> Flask:
    """The WSGI application. It answers to the names in `hosts`; to any if None (behind an ingress).

    `ghosts` has events without a payload, which say that they are ghosts, walk from a wire.
    """
    app = Flask(__name__, static_folder=None)

    @app.before_request
    def guard() -> None:
        if hosts is not None:
            _check_host(hosts)

    @app.get("/")
    def about() -> Response:
        return Response(_about(intake, request.host_url), mimetype="text/plain")

    @app.get("/healthz")
    def health() -> Response:
        types = {name: wire.type for name, wire in intake.circuit.wires.items() if wire.type}
        return _json(200, {"status": "ok", "circuit": intake.circuit.name, "types": types})

    @app.post("/<circuit>/<wire>")
    def arrive(circuit: str, wire: str) -> Response:
        if circuit != intake.circuit.name:
            raise NotFound(
                f"here is no circuit {circuit[:80]!r}", cure=f"did you mean '{intake.circuit.name}'?"
            )
        check_wire(intake.circuit, wire)
        body = _body(spool, limits)
        try:
            found = _events(intake, wire, body, limits)
            if ghosts_among(found):
                return _json(202, {"accepted": _walked(ghosts, wire, found)})
            receipts = intake.accept(offers_of(found, wire)) if found else []
        finally:
            if isinstance(body, Path):
                body.unlink(missing_ok=True)
        return _json(202, {"accepted": [_receipt(r) for r in receipts]})

    app.register_error_handler(KoaljaError, _refusal)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)
    return app


def _events(intake: Intake, wire: str, body: bytes | Path, limits: events.Limits) -> list[events.Event]:
    headers = dict(request.headers.items())
    found = events.read(headers, body, limits, untyped_on(intake.circuit, wire))
    key = headers.get("Idempotency-Key")
    if key is not None and len(found) == 1 and not found[0].id:  # a raw payload has no id of its own
        found = [replace(found[0], source=RAW_SOURCE, id=_key(key))]
    return found


def _walked(ghosts: Ghosts | None, wire: str, found: list[events.Event]) -> list[dict[str, Any]]:
    if ghosts is None:
        raise Refused("ghosts do not walk from here", cure="koalja-fn ghost DIR", http_status=422)
    return [{"ghost": True, "wire": wire, **asdict(walked)} for walked in ghosts(wire, found)]


def _key(key: str) -> str:
    text = key.strip().strip('"')
    if not 1 <= len(text) <= 256 or not (text.isascii() and text.isprintable()):
        raise Refused(
            "the Idempotency-Key is not allowed",
            why="it is 1 to 256 printable ASCII characters",
            cure="use a UUID, for example",
        )
    return text


def _body(spool: Path, limits: events.Limits) -> bytes | Path:
    """The request's body; a server of ours has spooled it already, from others it is streamed."""
    environ = request.environ
    spooled = environ.get("koalja.body")
    length = request.content_length
    if length is None and not (environ.get("wsgi.input_terminated") and "HTTP_TRANSFER_ENCODING" in environ):
        raise Refused(
            "the request has no length",
            why="neither Content-Length nor Transfer-Encoding is there, so a body could get lost unseen",
            cure="send the value by `curl --data-binary @FILE`; an empty one by `curl -d ''`",
            http_status=411,
        )
    if length is not None and length > limits.body:
        raise too_large(limits.body)
    if isinstance(spooled, Spooled):
        return spooled.take()
    if isinstance(spooled, bytes):
        return spooled
    return spool_stream(cast(BinaryIO, request.stream), spool, limits.body)


def _check_host(hosts: Collection[str]) -> None:
    host = request.environ.get("HTTP_HOST", "")
    if not is_own(host, hosts):
        raise Refused(
            f"this entry does not answer to the host name {host[:80]!r}",
            why="it is for programs on this machine, and for no web page that points here",
            cure="use http://127.0.0.1:PORT",
            http_status=403,
        )
    origin = request.environ.get("HTTP_ORIGIN")
    if origin is not None and origin.lower() != f"http://{host}".lower():
        raise Refused(
            f"posts from the web page {origin[:80]!r} are not taken",
            why="a page of another origin must not feed a circuit",
            cure="send from a program, or through a proxy that drops the Origin",
            http_status=403,
        )


def told(receipt: Receipt) -> Answer:
    """The answer to one value, as `entry` gives it: names and ids need no escapes."""
    duplicate = "true" if receipt.duplicate else "false"
    text = (
        f'{{"accepted":[{{"id":"{receipt.id}","wire":"{receipt.wire}",'
        f'"position":{receipt.position + 1},"duplicate":{duplicate}}}]}}\n'
    )
    return Answer(202, text.encode())


def _receipt(receipt: Receipt) -> dict[str, Any]:
    return {
        "id": receipt.id,
        "wire": receipt.wire,
        "position": receipt.position + 1,  # from 1, as wherever programs of others read it
        "duplicate": receipt.duplicate,
    }


def _json(status: int, data: Any, headers: Mapping[str, str] | None = None) -> Response:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n"
    return Response(text.encode("utf-8", "replace"), status, dict(headers or {}), "application/json")


def problem(status: int, what: str, why: str = "", cure: str = "") -> dict[str, Any]:
    """The body of every answer that is not 2xx."""
    return {"status": status, "what": what, "why": why, "cure": cure}


def _refusal(error: KoaljaError) -> Response:
    status, headers = 503, {"Retry-After": "5"}  # disk or registry trouble: the operator can mend it
    if isinstance(error, Full):
        status, headers = 429, {"Retry-After": str(max(1, math.ceil(error.retry_after)))}
    elif isinstance(error, Refused | Conflict):
        status, headers = error.http_status, {}
    elif isinstance(error, NotFound):
        status, headers = 404, {}
    if status >= 500:
        _LOG.error("a value was not taken: %s", error)
    return _json(status, problem(status, error.what, error.why, error.cure), headers)


def _http_error(error: HTTPException) -> Response:
    """404, 405 and the like of Flask, in the form of all other answers; its headers (Allow) are kept."""
    status = error.code or 500
    cure = "POST to /CIRCUIT/WIRE; GET / tells which there are"
    headers = {name: text for name, text in error.get_headers() if name.lower() != "content-type"}
    return _json(status, problem(status, error.name.lower(), error.description or "", cure), headers)


def _unexpected(error: Exception) -> Response:
    _LOG.exception("unexpected error in the entry", exc_info=error)
    what = "something unexpected went wrong"
    return _json(500, problem(500, what, type(error).__name__, "see the log of koalja-fn"))


def _about(intake: Intake, base: str) -> str:
    circuit = intake.circuit
    sources = circuit.sources or tuple(sorted(circuit.wires))
    lines = [f"circuit {circuit.name}", ""]
    lines += [
        f"  {wire}{'  (a source)' if wire in circuit.sources else ''}" for wire in sorted(circuit.wires)
    ]
    first = sources[0] if sources else "WIRE"
    lines += ["", "Send a value:", f"  curl --data-binary @FILE {base}{circuit.name}/{first}", ""]
    return "\n".join(lines)
