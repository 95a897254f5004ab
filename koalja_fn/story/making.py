"""The story of a value that `make` made: each execution on its way, back to the files that were sampled.

As data and as text. A value or an execution that several others need is told once.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any

from koalja_fn.errors import UsageError
from koalja_fn.model import AnnotatedValue
from koalja_fn.registry import making, values
from koalja_fn.registry.making import Made
from koalja_fn.registry.registry import Transaction
from koalja_fn.story.words import iso, local, short, size

_CANDIDATES = 10
_SHORTEST = 4
_DEEPEST = 12  # levels; a long chain need not leave the screen


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was sampled; `place` is its path, seen from the circuit's folder where it is below it.

    Without a place it is a value that had arrived on its wire, as on a cluster.
    """

    value: AnnotatedValue
    place: str


@dataclass(frozen=True, slots=True)
class MadeStory:
    """All that a value goes back to. `inputs` are the ids that an execution took, by its key and input."""

    start: str
    values: dict[str, AnnotatedValue]
    sources: dict[str, Source]
    executions: dict[str, Made]
    inputs: dict[str, dict[str, list[str]]]

    def to_json(self) -> dict[str, Any]:
        """Times in UTC, durations in seconds."""
        return {
            "start": self.start,
            "values": [_value_json(value) for value in self.values.values()],
            "sources": [{**_value_json(s.value), "path": s.place} for s in self.sources.values()],
            "executions": [
                {
                    "key": made.key,
                    "task": made.task,
                    "version": made.version,
                    "run": made.run,
                    "at": iso(made.at),
                    "seconds": made.took / 1e6,
                    "line": made.told["run"],
                    "inputs": self.inputs[made.key],
                }
                for made in self.executions.values()
            ],
        }


def find_made(tx: Transaction, word: str) -> AnnotatedValue | None:
    """The value of pull mode whose id begins with `word`, if there is one.

    Raises:
        UsageError: Several begin so; they are listed.
    """
    if len(word) < _SHORTEST:
        return None
    found = making.values_like(tx, word.lower(), _CANDIDATES + 1)
    if len(found) > 1:
        lines = [f"  {value.id}  {value.wire} {place}".rstrip() for value, place in found]
        raise UsageError("\n".join([f"{word!r} is the beginning of several ids:", *lines]))
    return found[0][0] if found else None


def find_made_payload(tx: Transaction, digest: str) -> AnnotatedValue | None:
    """The latest value of pull mode with these bytes."""
    found = making.values_with(tx, digest, 1)
    return found[0][0] if found else None


def story_of(tx: Transaction, start: AnnotatedValue) -> MadeStory:
    """What a value was made from, and that from what, down to the files."""
    story = MadeStory(start.id, {}, {}, {}, {})
    waiting = [start.id]
    while waiting:
        named = waiting.pop()
        if named in story.values or named in story.sources:
            continue
        found = making.values_like(tx, named, 1)
        if not found:
            arrived = values.by_id(tx, named)
            if arrived is not None:
                story.sources[named] = Source(arrived, "")
            continue  # else it was forgotten since
        value, place = found[0]
        if not value.snapshot:
            story.sources[named] = Source(value, place)
            continue
        story.values[named] = value
        made = making.made(tx, value.snapshot)
        if made is not None and made.key not in story.executions:
            story.executions[made.key] = made
            ids = {name: [one[2] for one in some] for name, some in made.told["inputs"].items()}
            story.inputs[made.key] = ids
            waiting += [one for some in ids.values() for one in some]
    return story


def made_text(story: MadeStory) -> str:
    """The story as a tree, for people."""
    lines: list[str] = []
    told: set[str] = set()
    waiting = [(story.start, 0)]
    while waiting:
        named, depth = waiting.pop()
        indent = "    " * min(depth, _DEEPEST)
        lines += [indent + line for line in _lines(story, named, told)]
        value = story.values.get(named)
        if value is not None and value.snapshot in story.inputs and value.snapshot not in told:
            told.add(value.snapshot)
            inputs = [one for some in story.inputs[value.snapshot].values() for one in some]
            waiting += [(one, depth + 1) for one in reversed(inputs)]
    return "\n".join(lines)


def _lines(story: MadeStory, named: str, told: Container[str]) -> Iterator[str]:
    """What there is to say of one value."""
    if named in story.sources:
        value, place = story.sources[named].value, story.sources[named].place
        whence = f"file {place}" if place else f"arrived {local(value.arrived)} from {value.source}"
        yield f"{value.wire}  {short(named)}  {whence}, {size(value.size)}"
        return
    known = story.values.get(named)
    if known is None:
        yield f"{short(named)}  is not known any more"
        return
    yield f"{known.wire}  {short(named)}  {size(known.size)}, {known.type}"
    made = story.executions.get(known.snapshot)
    if made is None:
        return
    line = f"  made by {made.task}, code {short(made.version.removeprefix('sha256:'))}, "
    line += f"{local(made.at)}, {made.took / 1e6:.3g} s"
    if made.key in told:
        yield line + ": told above"
    else:
        yield line
        if made.told["run"]:
            yield f"  {made.told['run']}"


def _value_json(value: AnnotatedValue) -> dict[str, Any]:
    return {
        "id": value.id,
        "wire": value.wire,
        "execution": value.snapshot,
        "digest": value.digest,
        "size": value.size,
        "type": value.type,
        "name": value.name,
        "at": iso(value.arrived),
    }
