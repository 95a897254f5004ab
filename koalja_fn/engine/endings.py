"""How an attempt ended, as plain data and back: so it travels from who executed it to who commits it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from koalja_fn.engine.claiming import Ending, Remark
from koalja_fn.model import AnnotatedValue
from koalja_fn.registry.lookups import Body, Lookup


def plain_ending(ending: Ending) -> dict[str, Any]:
    """As JSON can have it."""
    return asdict(ending)


def ending_of(data: Mapping[str, Any]) -> Ending:
    """Read it back."""
    return Ending(
        **{
            **data,
            "values": [AnnotatedValue(**value) for value in data["values"]],
            "remarks": [Remark(**remark) for remark in data["remarks"]],
            "lookups": [
                Lookup(**{**one, "asked": Body(**one["asked"]), "told": Body(**one["told"])})
                for one in data["lookups"]
            ],
        }
    )
