"""Trying a policy before any code exists: a list of arrivals in words, run through the core.

`a b a*3 a:key=k1 busy free +5s`: a wire's name is a value on it, with what it carries behind colons
and a repeat count behind a star. The task counts as free after each arrival unless it is `busy`. In a jump
of time, what falls due happens at its own time. Positions are shown from 1.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from koalja_fn.errors import UsageError
from koalja_fn.snapshots.advance import advance
from koalja_fn.snapshots.events import Arrival, Event, Free, Time
from koalja_fn.snapshots.outcomes import Admitted, Formed, Outcome, Skipped, Superseded, Unmatched
from koalja_fn.snapshots.outlook import due, eager
from koalja_fn.snapshots.spec import Spec
from koalja_fn.snapshots.state import fresh

MOST_ARRIVALS = 1_000_000

_UNITS = {
    "us": 1,
    "ms": 1000,
    "s": 10**6,
    "m": 60 * 10**6,
    "min": 60 * 10**6,
    "h": 3600 * 10**6,
    "d": 86400 * 10**6,
}
_DURATION = re.compile(r"\+(\d{1,9}(?:\.\d{1,6})?)(us|ms|s|min|m|h|d)")
_VALUE = re.compile(r"(?P<wire>[^:*]+)(?P<marks>(?::[^:*]*)*)(?:\*(?P<times>\d{1,9}))?")
_MARKS = ("key", "index", "seq", "source")


@dataclass(frozen=True, slots=True)
class Token:
    """One word of the list: a value on `wire`, a jump of `time` microseconds, or `busy` or `free`."""

    text: str
    wire: str = ""
    time: int = 0
    marks: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """What came of one token, or of time within one. `at` is how many values had arrived by then."""

    token: int
    at: int
    now: int
    outcomes: tuple[Outcome, ...]


def read_tokens(text: str, spec: Spec) -> list[Token]:
    """Read a list of arrivals; commas count as spaces.

    Raises:
        UsageError: A word is not a token, or there are too many arrivals.
    """
    tokens = [token for word in text.replace(",", " ").split() for token in _token(word, spec)]
    if len(tokens) > MOST_ARRIVALS:
        raise UsageError(
            f"These are {len(tokens)} arrivals; {MOST_ARRIVALS} is the most.", cure="repeat less"
        )
    return tokens


def _token(word: str, spec: Spec) -> list[Token]:
    if word in ("busy", "free"):
        return [Token(word)]
    if word.startswith("+"):
        return [Token(word, time=_duration(word))]
    found = _VALUE.fullmatch(word)
    if found is None or found["wire"] not in spec.wires:
        raise _unknown(word, found["wire"] if found else word, spec)
    times = int(found["times"] or 1)
    if times > MOST_ARRIVALS:
        raise UsageError(f"'{word}' is more than {MOST_ARRIVALS} arrivals.", cure="repeat less")
    token = Token(word.partition("*")[0], found["wire"], marks=_marks(word, found["marks"], spec))
    return [token] * times


def _duration(word: str) -> int:
    found = _DURATION.fullmatch(word)
    if found is None:
        raise UsageError(f"'{word}' is not a time to let pass.", cure="write it like +500ms, +5s, +2m or +1h")
    return int(Decimal(found[1]) * _UNITS[found[2]])


def _marks(word: str, text: str, spec: Spec) -> dict[str, str]:
    marks = {}
    for part in text.split(":")[1:]:
        name, equals, value = part.partition("=")
        name = "key" if name == spec.align else {"sequence": "seq"}.get(name, name)
        if name not in _MARKS or not equals or (name == "index" and not re.fullmatch(r"\d{1,9}", value)):
            raise UsageError(
                f"'{word}': ':{part}' is not something that a value carries.",
                cure="write :key=K and :index=N for align, :seq=N and :source=S for ordered inputs",
            )
        marks[name] = value
    return marks


def _unknown(word: str, wire: str, spec: Spec) -> UsageError:
    close = difflib.get_close_matches(wire, [*spec.wires, "busy", "free"], n=1, cutoff=0.5)
    guess = f"did you mean '{close[0]}'? " if close else ""
    return UsageError(
        f"'{word}' is not a wire that this task reads.",
        cure=f"{guess}Write {', '.join(spec.wires)}, busy, free or a time such as +5s",
    )


def simulate(spec: Spec, tokens: Iterable[Token]) -> Iterator[Step]:
    """Run tokens through the core; one step for each token, and for each due time within a jump."""
    play = _Play(spec)
    for number, token in enumerate(tokens):
        for outcomes in play.take(token):
            yield Step(number, play.arrived, play.now, tuple(outcomes))


class _Play:
    """The circumstances that the list describes: the time, whether the task is busy, what has arrived."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.state = fresh(spec, dict.fromkeys(spec.wires, 0))
        self.counts = dict.fromkeys(spec.wires, 0)
        self.now = self.arrived = 0
        self.busy = False

    def take(self, token: Token) -> Iterator[list[Outcome]]:
        if token.wire:
            yield self._happen(self._arrival(token))
        elif token.time:
            yield from self._jump(self.now + token.time)
        else:
            self.busy = token.text == "busy"
            yield self._happen()

    def _arrival(self, token: Token) -> Arrival:
        position = self.counts[token.wire]
        self.counts[token.wire] += 1
        self.arrived += 1
        marks = token.marks
        # without an attribute to go by, a value from outside carries its own id as its key
        own = "" if self.spec.align else f"{token.wire}#{position}"
        return Arrival(
            token.wire,
            position,
            marks.get("key", own),
            int(marks.get("index", 0)),
            marks.get("source", ""),
            marks.get("seq", ""),
        )

    def _jump(self, until: int) -> Iterator[list[Outcome]]:
        while (at := due(self.spec, self.state)) is not None and at <= until:
            self.now = max(at, self.now)
            yield self._happen(Time(self.now))
        self.now = until
        yield self._happen(Time(until))

    def _happen(self, *events: Event) -> list[Outcome]:
        self.state, outcomes = advance(self.spec, self.state, events)
        if self.spec.elastic and not self.busy and eager(self.spec, self.state):
            self.state, more = advance(self.spec, self.state, [Free()])
            outcomes += more
        return outcomes


def document(spec: Spec, steps: Iterable[Step]) -> dict[str, Any]:
    """What happened as plain data: the snapshots, and further keys for what else occurred."""
    places: dict[tuple[str, int], tuple[str, int]] = {}
    found: dict[str, Any] = {"snapshots": []}
    for step in steps:
        for outcome in step.outcomes:
            match outcome:
                case Admitted(name, index, wire, position):
                    places[name, index] = (wire, position + 1)
                case Formed(windows):
                    ranges = [(w.input, w.first, w.count) for w in windows]
                    found["snapshots"].append(_entry(spec, places, step.at, ranges))
                case Superseded(name, first, count):
                    entry = _entry(spec, places, step.at, [(name, first, count)])
                    found.setdefault("superseded", []).append(entry)
                case Unmatched(name, first, count, reason):
                    entry = _entry(spec, places, step.at, [(name, first, count)])
                    found.setdefault("unmatched", []).append({**entry, "reason": reason})
                case Skipped(name, source, after, until):
                    entry = {"at": step.at, "input": name, "source": source, "after": after, "until": until}
                    found.setdefault("skipped", []).append(entry)
    return found


def _entry(
    spec: Spec, places: dict[tuple[str, int], tuple[str, int]], at: int, ranges: list[tuple[str, int, int]]
) -> dict[str, Any]:
    """Values by wire, from 1; for merged inputs the order in which they came together as well."""
    by_name = {i.name: i for i in spec.inputs}
    inputs: dict[str, list[int]] = {}
    merged: dict[str, list[list[str | int]]] = {}
    for name, first, count in ranges:
        i = by_name[name]
        values = [places.get((name, n), (i.wires[0], n + 1)) for n in range(first, first + count)]
        if len(i.wires) > 1:
            merged[name] = [[wire, number] for wire, number in values]
        for wire in i.wires:
            numbers = [number for from_wire, number in values if from_wire == wire]
            if numbers:
                inputs[wire] = numbers
    return {"at": at, "inputs": inputs, **({"merged": merged} if merged else {})}
