"""CloudEvents and values: HTTP messages in, events out, and annotated values both ways.

The only module that knows the cloudevents library, which is imported at the first event and not
before. No sockets, no databases, no clock: what comes in is headers and a body, what goes out is
frozen data. The traps of the library that are handled here are named where they are handled.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from koalja_fn.events.attributes import DEFAULT_LIMITS, Limits, check_name, check_value, media_type
    from koalja_fn.events.reading import UNTYPED, Event, Mode, mode_of, read, read_fields
    from koalja_fn.events.values import VALUE_TYPE, from_av_event, to_event
    from koalja_fn.events.writing import BATCH_TYPE, batch_body, binary_headers

__all__ = [
    "BATCH_TYPE",
    "DEFAULT_LIMITS",
    "UNTYPED",
    "VALUE_TYPE",
    "Event",
    "Limits",
    "Mode",
    "batch_body",
    "binary_headers",
    "check_name",
    "check_value",
    "from_av_event",
    "media_type",
    "mode_of",
    "read",
    "read_fields",
    "to_event",
]

_WHERE = {
    "DEFAULT_LIMITS": "attributes",
    "Limits": "attributes",
    "check_name": "attributes",
    "check_value": "attributes",
    "media_type": "attributes",
    "UNTYPED": "reading",
    "Event": "reading",
    "Mode": "reading",
    "mode_of": "reading",
    "read": "reading",
    "read_fields": "reading",
    "VALUE_TYPE": "values",
    "from_av_event": "values",
    "to_event": "values",
    "BATCH_TYPE": "writing",
    "batch_body": "writing",
    "binary_headers": "writing",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:  # doorbells need a tenth of what values need
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = found
    return found
