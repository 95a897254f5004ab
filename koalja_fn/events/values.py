"""Annotated values as CloudEvents without data, and back.

An AV travels as a claim check in binary mode: attributes only, `dataref` says where the payload is.
Brokers compare and forward attributes byte for byte, and neither encode nor decode percent-escapes
(sdk-go), so that every value is kept to URL-safe ASCII without `%`. What is not is written as
`b64:` and its base64url form; so is a text that happens to begin with `b64:`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

from koalja_fn.errors import Refused
from koalja_fn.events.attributes import instant_of, media_type, microseconds, moment
from koalja_fn.model import AnnotatedValue

VALUE_TYPE = "dev.koalja.value.v1"
_MARK = "b64:"
_SAFE = re.compile(r"[A-Za-z0-9._~:/?#@!$&'()*+,;=-]+")
_SEGMENT = re.compile(r"[A-Za-z0-9._~-]+")
_TRACING = ("traceparent", "tracestate")
_TEXTS = {  # extension: field
    "koaljacircuit": "circuit",
    "koaljawire": "wire",
    "koaljadigest": "digest",
    "koaljaname": "name",
    "koaljasnapshot": "snapshot",
    "koaljaversion": "version",
    "koaljaregion": "region",
    "koaljakey": "key",
    "koaljaeventsource": "event_source",
    "koaljaeventid": "event_id",
    "sequence": "sequence",
}
_NUMBERS = {
    "koaljaposition": "position",
    "koaljaarrived": "arrived",
    "koaljasize": "size",
    "koaljaindex": "index",
    "koaljahops": "hops",
}


def to_event(value: AnnotatedValue, dataref: str = "") -> tuple[dict[str, str], bytes]:
    """Headers and (empty) body of the value's event in binary mode.

    Source is `/circuits/C/tasks/T` for what a task made, `/circuits/C/wires/W` for what came from outside.
    Empty fields are left out. `time` is the source's clock.
    """
    from cloudevents.core.bindings.http import to_binary
    from cloudevents.core.formats.json import JSONFormat
    from cloudevents.core.v1.event import CloudEvent

    attributes: dict[str, Any] = {
        "specversion": "1.0",
        "id": armour(value.id),
        "type": VALUE_TYPE,
        "source": _source(value),
        "subject": armour(value.wire),
    }
    texts = {name: str(getattr(value, field)) for name, field in _TEXTS.items()}
    texts |= {name: str(getattr(value, field)) for name, field in _NUMBERS.items()}
    texts["koaljasource"] = "" if _by_task(value) else value.source
    if value.ghost:
        texts["koaljaghost"] = "true"
    if value.attributes:
        texts["koaljaattributes"] = json.dumps(dict(value.attributes), sort_keys=True, separators=(",", ":"))
    try:
        attributes["time"] = instant_of(value.created)
    except OverflowError:  # a clock beyond the years 1 to 9999
        attributes["time"] = instant_of(0)
        texts["koaljacreated"] = str(value.created)
    if _plain(value.type):
        attributes["datacontenttype"] = value.type
    else:
        texts["koaljatype"] = value.type
    if dataref:
        texts["dataref" if _SAFE.fullmatch(dataref) else "koaljadataref"] = dataref
    attributes |= {name: armour(text) for name, text in texts.items() if text}
    for name in _TRACING:
        text = value.attributes.get(name, "")
        if _SAFE.fullmatch(text):
            attributes[name] = text
    message = to_binary(CloudEvent(attributes, None), JSONFormat())
    return dict(message.headers), message.body


def from_av_event(headers: Mapping[str, str]) -> tuple[AnnotatedValue, str]:
    """Read an event of `to_event` back: the value and its `dataref` ('' where there is none).

    Attributes that were added on the way (`knativearrivaltime`) are ignored.

    Raises:
        Refused: It is no AV event, or a damaged one.
    """
    lower = {name.lower(): text for name, text in headers.items()}
    found = {name[3:]: bare(name, text) for name, text in lower.items() if name.startswith("ce-")}
    if found.get("type") != VALUE_TYPE or found.get("specversion") != "1.0":
        raise Refused(f"this is no event of the type {VALUE_TYPE}")
    lost = [n for n in ("id", "time", "koaljacircuit", "koaljawire", "koaljaposition") if n not in found]
    if lost:
        raise Refused("the value's event is damaged", why=f"it lacks {', '.join(lost)}")
    try:
        fields: dict[str, Any] = {field: found.get(name, "") for name, field in _TEXTS.items()}
        fields |= {field: int(found.get(name, "0")) for name, field in _NUMBERS.items()}
        created = found.get("koaljacreated")
        fields["created"] = int(created) if created else microseconds(moment(found["time"]))
        attributes = json.loads(found.get("koaljaattributes", "{}"))
        if not isinstance(attributes, dict):
            raise ValueError("koaljaattributes is no object")
    except ValueError as error:
        raise Refused("the value's event is damaged", why=str(error)) from error
    value = AnnotatedValue(
        id=found["id"],
        source=found.get("koaljasource") or _task_of(found.get("source", "")),
        type=found.get("koaljatype") or lower.get("content-type", ""),
        ghost=found.get("koaljaghost") == "true",
        attributes={str(name): str(text) for name, text in attributes.items()},
        **fields,
    )
    return value, found.get("dataref") or found.get("koaljadataref", "")


def armour(text: str) -> str:
    """Text as URL-safe ASCII without `%`."""
    if _SAFE.fullmatch(text) and not text.startswith(_MARK):
        return text
    encoded = base64.urlsafe_b64encode(text.encode("utf-8", "surrogateescape")).decode("ascii")
    return _MARK + encoded.rstrip("=")


def bare(name: str, text: str) -> str:
    """Undo `armour`."""
    if not text.startswith(_MARK):
        return text
    encoded = text.removeprefix(_MARK)
    try:
        data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        return data.decode("utf-8", "surrogateescape")
    except (ValueError, binascii.Error) as error:
        raise Refused("the value's event is damaged", why=f"{name} is no base64: {error}") from error


def _plain(content_type: str) -> bool:
    """Whether a type may stand in Content-Type; one of CloudEvents' own would change the event's mode."""
    if content_type.lower().startswith("application/cloudevents"):
        return False
    try:
        return media_type(content_type) == content_type
    except Refused:
        return False


def _by_task(value: AnnotatedValue) -> bool:
    return bool(value.snapshot) and bool(_SEGMENT.fullmatch(value.source))


def _source(value: AnnotatedValue) -> str:
    if _by_task(value):
        return f"/circuits/{_segment(value.circuit)}/tasks/{value.source}"
    return f"/circuits/{_segment(value.circuit)}/wires/{_segment(value.wire)}"


def _segment(name: str) -> str:
    """A name as one segment of a path; names that the wiring allows stay as they are."""
    return name if _SEGMENT.fullmatch(name) else armour(name).replace("/", "~")


def _task_of(source: str) -> str:
    parts = source.split("/")
    return parts[4] if len(parts) == 5 and parts[3] == "tasks" else ""
