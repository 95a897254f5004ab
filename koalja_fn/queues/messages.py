"""A message as events: CloudEvents where it is one, else its body as it is. No queue is asked here.

There is no standard for CloudEvents over SQS, so what senders do is taken: the event as JSON in the body, or
its attributes as message attributes called `ce_id`, `ce-id` or `cloudEvents_id`, and so on, beside the data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from koalja_fn import events
from koalja_fn.addresses import Queue
from koalja_fn.events import Event

TEXT = "text/plain"
"""What a body is that nobody says more of: SQS carries text only."""

_PREFIX = re.compile(r"(?:ce|cloudevents)[_-]([a-z0-9]+)", re.IGNORECASE)
_TYPES = ("contenttype", "datacontenttype", "mimetype")
_REQUIRED = ("specversion", "id", "source", "type")
_LONGEST_NAME = 20


@dataclass(frozen=True, slots=True)
class Message:
    """A message that was received. `sent` is the queue's clock in µs since 1970, `group` a FIFO queue's.

    `attributes` are those of type String and Number.
    """

    id: str
    body: str
    handle: str
    sent: int | None = None
    group: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


def document(text: str) -> Any:
    """A body's JSON; None where it is none."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def events_of(message: Message, queue: Queue, untyped: str = TEXT) -> list[Event]:
    """What a message says. One that is no CloudEvent is known by its queue and its own id.

    SQS keeps a message's id for all its deliveries; a deduplication id holds for five minutes only, after
    which the same one is another message. So the message's id is the identity.

    Raises:
        Refused: It says it is a CloudEvent, and breaks a rule.
    """
    headers = _headers(message)
    found = events.read(headers, message.body.encode(), untyped=untyped)
    if any(event.source or event.id for event in found):
        return found
    (raw,) = found
    return [
        replace(
            raw,
            source=f"/queues/{queue.name}",
            id=message.id,
            created=message.sent,
            attributes=_plain(message.attributes),
        )
    ]


def _headers(message: Message) -> dict[str, str]:
    """The message as HTTP would carry it."""
    found: dict[str, str] = {}
    kind = ""
    for name, text in message.attributes.items():
        own = _PREFIX.fullmatch(name)
        plain = (own[1] if own else re.sub("[^A-Za-z0-9]", "", name)).lower()
        if plain in _TYPES:
            kind = text
        elif own:
            found[f"ce-{plain}"] = quote(text)
    if "ce-specversion" not in found:
        found = {}
        if not kind and _is_event(document(message.body)):
            kind = "application/cloudevents+json"
    if kind:
        found["content-type"] = kind
    return found


def _is_event(body: Any) -> bool:
    return isinstance(body, dict) and all(isinstance(body.get(name), str) for name in _REQUIRED)


def _plain(attributes: Mapping[str, str]) -> dict[str, str]:
    """Message attributes under names that CloudEvents allows."""
    found = {}
    for name, text in attributes.items():
        plain = re.sub("[^a-z0-9]", "", name.lower())[:_LONGEST_NAME]
        if plain and plain not in _TYPES:
            found[plain] = text
    return found
