"""The wiring language: reading, checking and writing it. Pure text in, model out; no I/O.

`read` gives the circuit and all findings, `write` the regular form in either view, `compose` the text of a
circuit. Each is imported when it is first asked for: who needs a name's form need not wait for the parser.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from koalja_fn.wiring.composing import compose
    from koalja_fn.wiring.findings import Finding, has_errors, headline, render
    from koalja_fn.wiring.reading import Reading, read
    from koalja_fn.wiring.writing import SyntaxErrors, View, write

__all__ = [
    "Finding",
    "Reading",
    "SyntaxErrors",
    "View",
    "compose",
    "has_errors",
    "headline",
    "read",
    "render",
    "write",
]

_WHERE = {
    "compose": "composing",
    "Finding": "findings",
    "has_errors": "findings",
    "headline": "findings",
    "render": "findings",
    "Reading": "reading",
    "read": "reading",
    "SyntaxErrors": "writing",
    "View": "writing",
    "write": "writing",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
