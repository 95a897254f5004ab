"""The wiring language: reading, checking and writing it. Pure text in, model out; no I/O.

`read` gives the circuit and all findings, `write` the regular form in either view, `compose` the text of a
circuit; the parser is imported only when one of them is called.
"""

from __future__ import annotations

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
