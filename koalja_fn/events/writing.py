"""Events to HTTP messages, for those who send: the exact inverse of `reading`."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from koalja_fn.events.attributes import instant_of
from koalja_fn.events.reading import Event

BATCH_TYPE = "application/cloudevents-batch+json"
# All of printable ASCII but space, quote and percent stays as it is (HTTP binding 3.1.3.2).
_SAFE = "".join(c for c in map(chr, range(0x21, 0x7F)) if c not in '"%')


def binary_headers(event: Event) -> dict[str, str]:
    """The headers of binary mode; the body is the payload."""
    headers = {f"ce-{name}": quote(value, safe=_SAFE) for name, value in _attributes(event).items()}
    headers["Content-Type"] = event.type
    return headers


def batch_body(events: Iterable[Event]) -> bytes:
    """The body of a batch; payloads are in base64, so that they arrive byte for byte."""
    return json.dumps([_document(event) for event in events], separators=(",", ":")).encode()


def _document(event: Event) -> dict[str, str]:
    data = event.payload.read_bytes() if isinstance(event.payload, Path) else event.payload
    encoded = base64.b64encode(data).decode("ascii")
    return {**_attributes(event), "datacontenttype": event.type, "data_base64": encoded}


def _attributes(event: Event) -> dict[str, str]:
    found = {"specversion": "1.0", "id": event.id, "source": event.source, **event.attributes}
    if event.created is not None:
        found["time"] = instant_of(event.created).isoformat().replace("+00:00", "Z")
    if event.name:
        found["koaljaname"] = event.name
    if event.sequence:
        found["sequence"] = event.sequence
    return found
