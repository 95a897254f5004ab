"""Orders and build plans: which groups there are to try, and whether what they require is provided.

Pure: what the buildpacks' `detect` programs say comes in as data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from koalja_fn.pack.buildpack import Buildpack, Entry, Order, Shelf
from koalja_fn.pack.errors import PhaseError

_DEEPEST = 20


@dataclass(frozen=True, slots=True)
class Member:
    """A component buildpack in a group."""

    buildpack: Buildpack
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the plans that a buildpack offers: what it provides, and requires with metadata."""

    provides: tuple[str, ...] = ()
    requires: tuple[tuple[str, Mapping[str, Any]], ...] = ()


@dataclass(frozen=True, slots=True)
class Dependency:
    """What stands in a build plan under one name: who provides it (ids), and all requirements."""

    name: str
    providers: tuple[str, ...]
    requires: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A valid outcome of detection: the members that take part, in order, and their dependencies."""

    members: tuple[Member, ...]
    dependencies: tuple[Dependency, ...]


def groups(order: Order, shelf: Shelf, exec_env: str) -> Iterator[tuple[Member, ...]]:
    """All groups of an order, composites replaced by their own groups, depth first, from left to right."""
    for group in order:
        yield from _expanded((), group, shelf, exec_env, 0)


def _expanded(
    done: tuple[Member, ...], rest: tuple[Entry, ...], shelf: Shelf, exec_env: str, depth: int
) -> Iterator[tuple[Member, ...]]:
    if depth > _DEEPEST:
        raise PhaseError("an order of buildpacks names itself", phase="detect", why=f"at {rest[0]}")
    if not rest:
        yield done
        return
    entry, after = rest[0], rest[1:]
    if entry.exec_env and exec_env not in entry.exec_env and "*" not in entry.exec_env:
        yield from _expanded(done, after, shelf, exec_env, depth)
        return
    found = shelf.find(entry)
    if not found.order:
        known = any(member.buildpack.id == found.id for member in done)
        more = done if known else (*done, Member(found, entry.optional))
        yield from _expanded(more, after, shelf, exec_env, depth)
        return
    for group in found.order:
        yield from _expanded(done, (*group, *after), shelf, exec_env, depth + 1)
    if entry.optional:
        yield from _expanded(done, after, shelf, exec_env, depth)


def resolve(members: Sequence[Member], choices: Mapping[str, Sequence[Choice]]) -> Plan | str:
    """The first valid plan of a group, or why there is none.

    `choices` has, for each member's id, the plans that it offers; trials go through them from left to right.
    """
    why = "no buildpack in the group passed"
    first = ""
    for chosen in product(*(choices[member.buildpack.id] for member in members)):
        found = _trial(list(zip(members, chosen, strict=True)))
        if isinstance(found, Plan):
            return found
        first = first or found
    return first or why


def _trial(trial: list[tuple[Member, Choice]]) -> Plan | str:
    """A plan without the optional members whose needs, or offers, nobody meets."""
    while trial:
        wrong = _unmet(trial)
        if wrong is None:
            return Plan(tuple(member for member, _ in trial), _dependencies(trial))
        index, reason = wrong
        if not trial[index][0].optional:
            return reason
        del trial[index]
    return "no buildpack in the group is left"


def _unmet(trial: list[tuple[Member, Choice]]) -> tuple[int, str] | None:
    for index, (member, choice) in enumerate(trial):
        offered = {name for _, before in trial[: index + 1] for name in before.provides}
        for name, _ in choice.requires:
            if name not in offered:
                return index, f"{member.buildpack} requires '{name}', which nothing before it provides"
        asked = {name for _, later in trial[index:] for name, _ in later.requires}
        for name in choice.provides:
            if name not in asked:
                return index, f"{member.buildpack} provides '{name}', which nothing after it requires"
    return None


def _dependencies(trial: list[tuple[Member, Choice]]) -> tuple[Dependency, ...]:
    names = dict.fromkeys(name for _, choice in trial for name in choice.provides)
    return tuple(
        Dependency(
            name,
            tuple(member.buildpack.id for member, choice in trial if name in choice.provides),
            tuple(entry for _, choice in trial for wanted, entry in choice.requires if wanted == name),
        )
        for name in names
    )


def read_choices(data: Mapping[str, Any], buildpack: Buildpack) -> tuple[Choice, ...]:
    """The plans that a `detect` wrote: the one at the top, then those in `or`."""
    alternatives = data.get("or", [])
    if not isinstance(alternatives, list):
        raise _wrong(buildpack, "'or' must be written [[or]]")
    return tuple(_choice(one, buildpack) for one in (data, *alternatives))


def _choice(data: Any, buildpack: Buildpack) -> Choice:
    if not isinstance(data, Mapping):
        raise _wrong(buildpack, "'or' must be written [[or]]")
    for key in ("provides", "requires"):
        entries = data.get(key, [])
        if not isinstance(entries, list) or not all(
            isinstance(e, Mapping) and e.get("name") for e in entries
        ):
            raise _wrong(buildpack, f"each [[{key}]] needs a name")
    requires = tuple((str(one["name"]), dict(one)) for one in data.get("requires", []))
    return Choice(tuple(str(one["name"]) for one in data.get("provides", [])), requires)


def _wrong(buildpack: Buildpack, why: str) -> PhaseError:
    return PhaseError(f"the build plan of {buildpack} can't be read", phase="detect", why=why)
