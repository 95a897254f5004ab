"""Names of circuits, tasks and wires: which are allowed, which are the same, which was meant."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable
from itertools import islice

RESERVED = frozenset({"implicit", "passive", "ordered", "as", "wire"})
LONGEST = 63
_MOST_CHOICES = 500

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def normalised(name: str) -> str:
    """The form in which names are compared and used on a cluster: lower case, `_` and `.` as `-`."""
    return name.lower().replace("_", "-").replace(".", "-")


def is_label(name: str) -> bool:
    """Whether the normalised name is a DNS label (RFC 1123)."""
    return _LABEL.fullmatch(normalised(name)) is not None


def as_label(name: str) -> str:
    """The nearest DNS label to a free text such as a folder's name; `circuit` if nothing is left.

    Letters lose their accents, not their place: `Café` is `cafe`.
    """
    bare = "".join(c for c in unicodedata.normalize("NFKD", name.lower()) if not unicodedata.combining(c))
    label = re.sub(r"[^a-z0-9]+", "-", bare).strip("-")[:LONGEST].rstrip("-")
    return label or "circuit"


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that was most likely meant, if any is close."""
    by_form = {normalised(choice): choice for choice in islice(choices, _MOST_CHOICES)}
    found = difflib.get_close_matches(normalised(word), by_form, n=1, cutoff=0.6)
    return by_form[found[0]] if found else None


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A cure that names the nearest choice; empty if none is near."""
    guess = nearest(word, choices)
    return f"did you mean '{guess}'?" if guess else ""
