"""What took whose place in a recompute: told beside values and snapshots, both ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from koalja_fn.engine.lane.beginning import REPLAY
from koalja_fn.registry import lanes
from koalja_fn.registry.lanes import Recompute, Superseded
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.rows import FormedRow
from koalja_fn.story.words import iso, local, short

_WORDS = {
    "again": "made again",
    "kept": "kept as they are",
    "extra": "new",
    "gone": "no longer there",
    "skipped": "not run again",
    "dead": "dead letters",
    "ready": "still to be run",
}

Marks = dict[str, tuple[Superseded, ...]]


def marks(tx: Transaction, ids: Iterable[str]) -> Marks:
    """For those of the ids that have any: what took their place, and whose place they took."""
    if not lanes.any_done(tx):
        return {}
    return {key: found for key in ids if (found := tuple(lanes.of_values(tx, key)))}


def mark_json(id: str, one: Superseded) -> dict[str, Any]:
    """A mark for programs: `by` or `of` is the other id, null where there is none."""
    replaced = one.old == id
    return {
        "recompute": one.epoch,
        "at": iso(one.at),
        "how": one.how,
        "relation": "superseded by" if replaced else "supersedes",
        "id": (one.new if replaced else one.old) or None,
    }


def mark_text(id: str, one: Superseded) -> str:
    """A mark for people."""
    when = f"recompute {one.epoch}, {local(one.at)}"
    if one.old == id:
        if not one.new:
            return f"[superseded: nothing came in its place; {when}]"
        return f"[superseded by {short(one.new)}{' (the same again)' * (one.how == 'kept')}; {when}]"
    if not one.old:
        return f"[new: nothing was in its place before; {when}]"
    return f"[supersedes {short(one.old)}{', kept as it was' * (one.how == 'kept')}; {when}]"


def recompute_json(one: Recompute) -> dict[str, Any]:
    """A recompute for programs: what it did to each task's snapshots."""
    return {
        "recompute": one.epoch,
        "state": one.state,
        "begun": iso(one.begun),
        "ended": iso(one.ended or 0),
        "options": dict(one.options),
        "tasks": dict(one.told.get("tasks", {})),
    }


def recompute_line(one: Recompute) -> str:
    """A recompute for people."""
    how = ", with the recorded look-ups" if one.options.get(REPLAY) else ""
    if one.state != "done":
        return f"recompute {one.epoch} since {local(one.begun)}{how}: {one.state}"
    some = [f"{task} {counted(counts)}" for task, counts in one.told["tasks"].items()]
    return f"recompute {one.epoch}, {local(one.ended or 0)}{how}: {'; '.join(some) or 'nothing'}"


def counted(counts: Mapping[str, int]) -> str:
    """What became of a task's snapshots, in words."""
    return ", ".join(f"{count} {_WORDS.get(how, how)}" for how, count in counts.items())


def is_superseded(formed: FormedRow) -> bool:
    """Whether a snapshot is no longer, or not yet, one of its circuit's: it is in a recompute's world."""
    return lanes.WORLD in formed.circuit


def circuit_of(name: str) -> str:
    """The circuit's own name, also of what is in a recompute's world."""
    return name.partition(lanes.WORLD)[0]
