"""A rule that is broken: where, and how it should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """`path` is the field, from the object down; `rule` is a short stable word, `text` says what is so."""

    rule: str
    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


def at(item: Any, path: str) -> Any:
    """What is at a path of names with dots between; None where there is nothing."""
    for name in path.split("."):
        if not isinstance(item, dict):
            return None
        item = item.get(name)
    return item
