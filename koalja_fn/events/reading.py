"""HTTP messages to events: binary, structured and batch mode, and anything else as a raw payload.

The mode is decided by the Content-Type first, as the specification says (the library looks for any
header `ce-…` instead, so that a structured event with one stray header breaks it). Payloads are the
bytes as sent: the body in binary mode, the exact text of `data` in the JSON modes.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from koalja_fn.errors import Refused
from koalja_fn.events import jsontext
from koalja_fn.events.attributes import (
    DEFAULT_LIMITS,
    Limits,
    check_amount,
    check_name,
    check_value,
    header_text,
    media_type,
    microseconds,
    moment,
)

UNTYPED = "application/octet-stream"
REQUIRED = ("specversion", "id", "source", "type")
_NOT_EMPTY = ("subject", "datacontenttype", "dataschema")
_OWN = frozenset(("specversion", "id", "source", "time", "datacontenttype", "sequence", "koaljaname"))
_KNOWN = frozenset((*REQUIRED, "time", "subject", "datacontenttype", "dataschema"))
_FORM = "application/x-www-form-urlencoded"  # what curl says when nobody told it a type


class Mode(Enum):
    """How an HTTP message carries events; RAW is no event, only a payload."""

    BINARY = "binary"
    STRUCTURED = "structured"
    BATCH = "batch"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class Event:
    """What one event says, as the engine's `Offer` wants it, but for the wire.

    Identity is (`source`, `id`); both empty for a raw payload. `created` is in microseconds since 1970.
    `attributes` are the event's `type`, `subject`, `dataschema` and extensions.
    """

    payload: bytes | Path
    source: str = ""
    id: str = ""
    type: str = UNTYPED
    created: int | None = None
    name: str = ""
    sequence: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


def mode_of(headers: Mapping[str, str]) -> Mode:
    """Decide the mode; `headers` have lower-case names. 415 for a format that is not JSON."""
    essence, _, parameters = headers.get("content-type", "").lower().partition(";")
    essence = essence.strip()
    if not essence.startswith("application/cloudevents"):
        return Mode.BINARY if any(h.startswith("ce-") for h in headers) else Mode.RAW
    modes = {
        "application/cloudevents+json": Mode.STRUCTURED,
        "application/cloudevents-batch+json": Mode.BATCH,
    }
    if essence not in modes:
        raise Refused(
            f"events of the type '{essence[:80]}' are not read",
            why="only the JSON format of CloudEvents is",
            cure="send application/cloudevents+json or application/cloudevents-batch+json, or binary mode",
            http_status=415,
        )
    for parameter in parameters.split(";"):
        key, _, value = parameter.partition("=")
        if key.strip() == "charset" and value.strip().strip('"') not in ("utf-8", "utf8", "us-ascii"):
            raise Refused("the event is not UTF-8", why=f"it says {parameter.strip()[:80]}", http_status=415)
    return modes[essence]


def read(
    headers: Mapping[str, str],
    body: bytes | Path,
    limits: Limits = DEFAULT_LIMITS,
    untyped: str = UNTYPED,
) -> list[Event]:
    """Read all events of an HTTP message; raise `Refused` for what breaks a rule or a limit.

    `headers` are as WSGI gives them (Latin-1), names in any case. A `Path` is a spooled body. `untyped` is
    the type of a payload that has none of its own.
    """
    return read_fields({name.lower(): value for name, value in headers.items()}, body, limits, untyped)


def read_fields(
    lower: Mapping[str, str],
    body: bytes | Path,
    limits: Limits = DEFAULT_LIMITS,
    untyped: str = UNTYPED,
) -> list[Event]:
    """Like `read`, for headers whose names are lower-case already."""
    encoding = lower.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise Refused(
            f"the content encoding '{encoding[:40]}' is not decoded",
            cure="send the body as it is, without Content-Encoding",
            http_status=415,
        )
    mode = mode_of(lower)
    if mode is Mode.RAW:
        return [Event(body, type=_raw_type(lower, untyped))]
    if mode is Mode.BINARY:
        return [_binary(lower, body, limits, untyped)]
    try:
        return _json_events(mode, _document(body, limits), limits, untyped)
    except Refused as error:
        if error.http_status == 431:  # it speaks of header fields, and these were none
            error.http_status = 400
        raise


def _json_events(mode: Mode, text: str, limits: Limits, untyped: str) -> list[Event]:
    if mode is Mode.STRUCTURED:
        return [_structured(jsontext.members(text), limits, untyped)]
    events: list[Event] = []
    for found in jsontext.each_object(text):
        if len(events) == limits.batch:
            raise Refused(
                f"the batch has more than {limits.batch} events", cure="send smaller batches", http_status=413
            )
        try:
            events.append(_structured(found, limits, untyped))
        except Refused as error:
            error.what = f"event {len(events) + 1} of the batch: {error.what}"
            raise
    return events


def _raw_type(headers: Mapping[str, str], untyped: str) -> str:
    content_type = headers.get("content-type", "").strip()
    if not content_type or content_type.partition(";")[0].strip().lower() == _FORM:
        return untyped
    return media_type(content_type)


def _document(body: bytes | Path, limits: Limits) -> str:
    size = len(body) if isinstance(body, bytes) else body.stat().st_size
    if size > limits.document:
        raise Refused(
            f"the event document has {size} bytes",
            why=f"structured and batch events are read in memory: at most {limits.document} bytes",
            cure="send large data in binary mode, where they are streamed",
            http_status=413,
        )
    try:
        return (body if isinstance(body, bytes) else body.read_bytes()).decode("utf-8")
    except UnicodeDecodeError as error:
        raise jsontext.broken(f"it is not UTF-8: byte {error.start + 1}") from error


def _binary(headers: Mapping[str, str], body: bytes | Path, limits: Limits, untyped: str) -> Event:
    found = {h[3:]: v for h, v in headers.items() if h.startswith("ce-")}
    check_amount(found, limits)
    texts = {check_name(n, limits): check_value(n, header_text(n, v), limits) for n, v in found.items()}
    if "datacontenttype" in texts:
        raise Refused(
            "the header 'ce-datacontenttype' is not allowed",
            why="in binary mode the type of the data is the Content-Type",
            cure="rename the header to Content-Type",
        )
    content_type = headers.get("content-type", "").strip()
    if content_type:
        texts["datacontenttype"] = media_type(content_type)
    empty = body == b"" if isinstance(body, bytes) else not body.stat().st_size
    return _event(texts, body, not empty, texts.get("datacontenttype", untyped))


def _structured(found: dict[str, jsontext.Member], limits: Limits, untyped: str) -> Event:
    data = found.pop("data", None)
    encoded = found.pop("data_base64", None)
    check_amount(found, limits)
    texts: dict[str, str] = {}
    for name, member in found.items():
        if name not in _KNOWN:
            check_name(name, limits)
        value = member[0]
        if type(value) is not str or member[1][0] != '"':
            value = _attribute(name, member)
        if value is not None:
            texts[name] = check_value(name, value, limits)
    if "datacontenttype" in texts:
        media_type(texts["datacontenttype"])
    declared = texts.get("datacontenttype")
    if data is not None and encoded is not None:
        raise Refused(
            "the event has 'data' and 'data_base64'",
            why="CloudEvents allows one of them",
            cure="leave out one",
        )
    if encoded is not None and jsontext.kind(encoded) != "null":
        return _event(texts, _decoded(encoded), True, declared or untyped)
    if data is not None and jsontext.kind(data) != "null":
        payload = _payload(data, declared)
        return _event(texts, payload, True, declared or "application/json")  # implied by the JSON format
    return _event(texts, b"", False, declared or untyped)


def _attribute(name: str, member: jsontext.Member) -> str | None:
    """Booleans and whole numbers as their text, for that is how headers carry them; null means: not set."""
    kind = jsontext.kind(member)
    if kind == "null":
        return None
    whole = kind == "number" and member[1].lstrip("-").isdigit()
    if (whole or kind in ("true", "false")) and name not in REQUIRED:
        return member[1]
    raise Refused(
        f"the attribute '{name}' is of the JSON type {kind}",
        why="CloudEvents attributes are strings; extensions may be whole numbers and booleans, too",
        cure=f"write '{name}' as a string, or move it into 'data'",
    )


def _payload(data: jsontext.Member, declared: str | None) -> bytes:
    """The bytes of `data`: its exact JSON text, or the string itself where its type is not JSON."""
    parsed, text = data
    if jsontext.kind(data) == "string" and not _is_json(declared):
        text = parsed
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise jsontext.broken("'data' has half of a surrogate pair") from error


def _is_json(declared: str | None) -> bool:
    if declared is None:
        return True
    essence = declared.partition(";")[0].strip().lower()
    return essence.endswith(("/json", "+json"))


def _decoded(encoded: jsontext.Member) -> bytes:
    try:
        if jsontext.kind(encoded) != "string":
            raise ValueError(f"it is of the JSON type {jsontext.kind(encoded)}")
        return base64.b64decode(encoded[0], validate=True)
    except (ValueError, binascii.Error) as error:
        raise Refused(
            "'data_base64' is not base64", why=str(error), cure="encode the data with `base64 -w0`"
        ) from error


def _event(texts: dict[str, str], payload: bytes | Path, has_data: bool, content_type: str) -> Event:
    """Judge the attributes, then make the event of them."""
    missing = [name for name in REQUIRED if not texts.get(name)]
    if missing:  # the library would draw an id, a time and a version of its own
        raise Refused(
            f"the event lacks {', '.join(missing)}",
            why="CloudEvents requires specversion, id, source and type",
            cure="add what is missing; for plain data leave out all headers 'ce-…'",
        )
    if texts["specversion"] != "1.0":
        raise Refused(
            f"CloudEvents version '{texts['specversion'][:20]}' is not read", cure="send specversion 1.0"
        )
    time: datetime | None = moment(texts["time"]) if "time" in texts else None
    _judge(texts, time)
    if "dataref" in texts and not has_data:
        raise Refused(
            "the event has a 'dataref' and no data",
            why="addresses in events of strangers are never fetched",
            cure="send the data themselves",
        )
    name = texts.get("koaljaname", "")
    if "/" in name or name in (".", ".."):
        raise Refused(
            "'koaljaname' is no file name", why="a name is not a path", cure="send the last part only"
        )
    return Event(
        payload,
        texts["source"],
        texts["id"],
        content_type,
        microseconds(time) if time else None,
        name,
        texts.get("sequence", ""),
        {name: text for name, text in texts.items() if name not in _OWN},
    )


_SOME_TIME = moment("1970-01-01T00:00:00Z")  # spares the library a look at the clock


@cache
def _library() -> tuple[type[Any], type[Exception]]:
    """The library's event and its error, imported when there is something to be refused."""
    from cloudevents.core.exceptions import BaseCloudEventException
    from cloudevents.core.v1.event import CloudEvent

    return CloudEvent, BaseCloudEventException


def _judge(texts: Mapping[str, str], time: datetime | None) -> None:
    """Refuse what the library refuses, in its words; it is asked only where it will."""
    if "data" not in texts and all(texts.get(name, "x") for name in _NOT_EMPTY):
        return  # names, values and what is required were looked at already: the library has no other rules
    cloud_event, invalid = _library()
    judged = {**texts, "time": time or _SOME_TIME}  # a copy: the constructor keeps and changes its dict
    try:
        cloud_event(judged, None)
    except (invalid, ValueError, TypeError, AttributeError) as error:
        _refuse(error)


def _refuse(error: Exception) -> NoReturn:
    causes = getattr(error, "errors", {})
    why = "; ".join(str(e) for found in causes.values() for e in found) or str(error)
    raise Refused(
        "the event is not valid", why=why[:500], cure="see the list of attributes in CloudEvents 1.0"
    ) from error
