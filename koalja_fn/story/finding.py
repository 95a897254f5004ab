"""From what a person types to a value or a snapshot: whole ids, prefixes, digests."""

from __future__ import annotations

from dataclasses import dataclass

from koalja_fn.errors import NotFound, UsageError
from koalja_fn.model import AnnotatedValue
from koalja_fn.registry import stories, values
from koalja_fn.registry.registry import Transaction
from koalja_fn.story.making import find_made
from koalja_fn.story.words import local, positions, short

_SHORTEST = 4
_CANDIDATES = 10


@dataclass(frozen=True, slots=True)
class Found:
    """An id, and whether it is a `value`'s or a `snapshot`'s."""

    kind: str
    id: str


def find(tx: Transaction, word: str) -> Found:
    """The value or snapshot whose id begins with `word`.

    Raises:
        UsageError: Too short, or several begin so; they are listed.
        NotFound: None does.
    """
    prefix = word.lower()
    if len(prefix) < _SHORTEST:
        raise UsageError(f"{word!r} is too short for an id", cure=f"give at least {_SHORTEST} characters")
    found = [Found("value", one) for one in stories.value_ids(tx, prefix, _CANDIDATES + 1)]
    found += [Found("snapshot", one) for one in stories.snapshot_ids(tx, prefix, _CANDIDATES + 1)]
    exact = [one for one in found if one.id == prefix]
    if exact or len(found) == 1:
        return (exact or found)[0]
    if not found and ("/" in word or "." in word):
        raise NotFound(
            f"there is no file {word}", cure="name a file with a value's content, or the value's id"
        )
    if not found:
        raise NotFound(
            f"no value or snapshot has an id that begins with {word!r}",
            cure="koalja-fn list values, or koalja-fn list snapshots, shows the latest",
        )
    lines = [f"  {one.kind:<8} {one.id}  {_about(tx, one)}" for one in found[:_CANDIDATES]]
    more = ["  …"] if len(found) > _CANDIDATES else []
    raise UsageError("\n".join([f"{word!r} is the beginning of several ids:", *lines, *more]))


def find_any(tx: Transaction, word: str) -> Found:
    """As `find`; a value that `make` made is found as well, of kind `made`.

    Raises:
        UsageError: Too short, or several begin so; they are listed.
        NotFound: None does.
    """
    try:
        return find(tx, word)
    except NotFound:
        made = find_made(tx, word)
        if made is None:
            raise
        return Found("made", made.id)


def find_payload(tx: Transaction, digest: str) -> list[AnnotatedValue]:
    """Values with this payload, the latest first.

    Raises:
        NotFound: No value has it.
    """
    found = stories.with_digest(tx, digest, 100)
    if not found:
        raise NotFound(
            "no value has the content of this file",
            why=f"no payload is {digest}",
            cure="if the file was changed after it was written, trace the value by its id",
        )
    return found


def _about(tx: Transaction, found: Found) -> str:
    if found.kind == "value":
        value = values.by_id(tx, found.id)
        if value is not None:
            return f"{value.wire} {positions(value.position, value.position)}, {local(value.arrived)}"
        return ""
    formed = stories.formed_by_id(tx, found.id)
    return f"{formed.name} {formed.number + 1}, {local(formed.formed)}" if formed else short(found.id)
