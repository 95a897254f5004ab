"""Lineage: what the outputs of a snapshot inherit from its inputs (DESIGN, sections 4, 6 and 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from koalja_fn.model import Members


@dataclass(frozen=True, slots=True)
class Lineage:
    """What outputs inherit: hops, the key that `align` pairs by, attributes on which all inputs agree."""

    hops: int
    key: str
    attributes: dict[str, str]
    size: int


def lineage_of(members: Sequence[Members]) -> Lineage:
    """What the outputs of a snapshot inherit from its inputs."""
    new = [value for m in members for value in m.values[len(m.values) - m.fresh :]]
    keys = {value.key for value in new}
    every = [value for m in members for value in m.values]
    shared = dict(every[0].attributes) if every else {}
    for value in every[1:]:
        if not shared:
            break
        shared = {k: v for k, v in shared.items() if value.attributes.get(k) == v}
    return Lineage(
        hops=1 + min((value.hops for value in new), default=0),
        key=keys.pop() if len(keys) == 1 else "",
        attributes=shared,
        size=sum(value.size for value in every),
    )
