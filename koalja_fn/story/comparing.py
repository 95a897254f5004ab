"""Comparing two results: the first things in which what they were made from differs (DESIGN, section 13)."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from koalja_fn.engine.lane.beginning import REPLAY
from koalja_fn.errors import NotFound
from koalja_fn.model import AnnotatedValue
from koalja_fn.registry import lanes, lookups, making, snapshots, stories, values
from koalja_fn.registry.lookups import LookupRow
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.rows import FormedRow
from koalja_fn.registry.snapshots import Members
from koalja_fn.story.passport import cause
from koalja_fn.story.superseding import circuit_of
from koalja_fn.story.telling import replayed_text
from koalja_fn.story.words import digest, positions, short, size, version

# Larger payloads are compared by their digests only.
_TEXT = 64 * 1024
_LINES = 40
_LOOKUPS = 1000
_SHOWN = 5

Payload = Callable[[str], bytes | None]
"""Gives the bytes of a digest; None where they can't be had."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: how it is called, and all that went into it, under names that both sides share.

    `facts` are what it was made with: task, version, run line. `inputs` are digests by input, `answers` what
    it was told on the side, each with a remark that makes no difference, `value` the value itself, where it
    is one.
    """

    name: str
    facts: Mapping[str, str]
    inputs: Mapping[str, Sequence[tuple[str, str]]]
    answers: Sequence[tuple[str, str, str]] = ()
    value: AnnotatedValue | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs. `what` is task, version, run, environment, input, lookup or payload."""

    what: str
    text: str
    one: str
    two: str

    def to_json(self) -> dict[str, Any]:
        """As it is."""
        return {"what": self.what, "text": self.text, "one": self.one, "two": self.two}


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs between two results; `lines` is a difference of texts, if both are small texts."""

    one: str
    two: str
    found: tuple[Difference, ...]
    lines: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "one": self.one,
            "two": self.two,
            "differences": [one.to_json() for one in self.found],
            "diff": list(self.lines),
        }


def side_of(tx: Transaction, kind: str, id: str) -> Side:
    """All that went into a value (`value`, `made`) or a `snapshot`.

    Raises:
        NotFound: Nothing of that id is on record.
    """
    if kind == "made":
        return _side_of_made(tx, id)
    value = values.by_id(tx, id) if kind == "value" else None
    formed = stories.formed_by_id(tx, value.snapshot if value is not None else id)
    if value is None and formed is None:
        raise NotFound(f"nothing is known of {id}", cure="koalja-fn list values, or koalja-fn list snapshots")
    if formed is None:
        assert value is not None
        facts = {"task": f"(outside: {value.source})"}
        return Side(_value_name(value), facts, {}, (), value)
    return _side_of_snapshot(tx, formed, value)


def _side_of_snapshot(tx: Transaction, formed: FormedRow, value: AnnotatedValue | None) -> Side:
    attempts = stories.attempts(tx, formed.rid)
    made_by = attempts[-1].version if attempts else ""
    facts = {
        "task": f"{circuit_of(formed.circuit)}/{formed.name}",
        "version": version(made_by),
        "run": stories.run_line(tx, formed.task, made_by) if made_by else "",
        "state": formed.state,
        "generation": str(formed.generation),
    }
    members = snapshots.members(tx, formed.rid)
    answers = [_answer(row) for row in lookups.of_last_attempt(tx, formed.rid, _LOOKUPS)]
    name = f"{formed.name}, snapshot {formed.number + 1} ({short(formed.id)})"
    inputs = {m.input: _given(m) for m in members}
    return Side(_value_name(value) if value else name, facts, inputs, answers, value)


def _given(members: Members) -> list[tuple[str, str]]:
    return [
        (v.digest, f"{v.wire} {positions(v.position, v.position)} ({short(v.id)})") for v in members.values
    ]


def _answer(row: LookupRow) -> tuple[str, str, str]:
    one = row.lookup
    by = f", answered by {row.service} {row.number + 1}" if row.service else ""
    remark = f", {replayed_text(row)}" if one.replayed is not None else ""
    return f"{one.wire}: {one.method} {one.path}", f"{one.status} {digest(one.told.digest)}{by}", remark


def _side_of_made(tx: Transaction, id: str) -> Side:
    """A value that `make` made, or a file that it sampled."""
    found = making.values_like(tx, id, 1)
    if not found:
        raise NotFound(f"nothing is known of {id}")
    value, path = found[0]
    made = making.made(tx, value.snapshot) if value.snapshot else None
    if made is None:
        return Side(_value_name(value), {"task": f"(file {path})"}, {}, (), value)
    told = made.told
    facts = {
        "task": f"{made.circuit}/{made.task}",
        "version": version(made.version),
        "run": str(told["run"]),
        "interpreter": short(str(told["by"])),
        **{f"env.{name}": str(text) for name, text in told["env"].items()},
        **{f"file {name}": short(str(text).removeprefix("sha256:")) for name, text in told["files"].items()},
    }
    inputs = {
        name: [(str(one[0]), str(one[1]) or short(str(one[2]))) for one in some]
        for name, some in told["inputs"].items()
    }
    return Side(_value_name(value), facts, inputs, (), value)


def _value_name(value: AnnotatedValue) -> str:
    return f"{value.wire} {positions(value.position, value.position)} ({short(value.id)})"


def compare(one: Side, two: Side, payload: Payload = lambda _: None) -> Comparison:
    """What differs between two sides; `payload` gives what texts are compared by."""
    found = [*_facts(one, two), *_inputs(one, two), *_answers(one, two)]
    lines: list[str] = []
    if one.value is not None and two.value is not None and one.value.digest != two.value.digest:
        what = f"{size(one.value.size)} {one.value.type}", f"{size(two.value.size)} {two.value.type}"
        found.append(
            Difference(
                "payload",
                "the bytes differ",
                f"{what[0]} {digest(one.value.digest)}",
                f"{what[1]} {digest(two.value.digest)}",
            )
        )
        lines = list(_lines(one, two, payload))
    return Comparison(one.name, two.name, tuple(found), tuple(lines))


def _facts(one: Side, two: Side) -> Iterator[Difference]:
    words = {"task": "made by other tasks", "version": "made by other code", "run": "with another run line"}
    for name in dict.fromkeys([*one.facts, *two.facts]):
        was, now = one.facts.get(name, ""), two.facts.get(name, "")
        if was != now:
            what = "environment" if name.startswith("env.") else name.partition(" ")[0]
            yield Difference(what, words.get(name, f"{name} differs"), was or "-", now or "-")


def _inputs(one: Side, two: Side) -> Iterator[Difference]:
    for name in dict.fromkeys([*one.inputs, *two.inputs]):
        was, now = one.inputs.get(name), two.inputs.get(name)
        if was is None or now is None:
            yield Difference("input", f"only one has input {name}", _count(was), _count(now))
            continue
        if len(was) != len(now):
            yield Difference("input", f"{name} has another number of values", _count(was), _count(now))
        changed = [
            (number, a, b) for number, (a, b) in enumerate(zip(was, now, strict=False), 1) if a[0] != b[0]
        ]
        for number, a, b in changed[:_SHOWN]:
            text = f"{name}[{number - 1}] has other bytes"
            yield Difference("input", text, f"{a[1]} {digest(a[0])}", f"{b[1]} {digest(b[0])}")
        if len(changed) > _SHOWN:
            yield Difference("input", f"and {len(changed) - _SHOWN} more values of {name}", "", "")


def _count(some: Sequence[object] | None) -> str:
    return "-" if some is None else f"{len(some)}"


def _answers(one: Side, two: Side) -> Iterator[Difference]:
    for number in range(max(len(one.answers), len(two.answers))):
        was = one.answers[number] if number < len(one.answers) else ("nothing", "-", "")
        now = two.answers[number] if number < len(two.answers) else ("nothing", "-", "")
        if was[:2] != now[:2]:
            same = was[0] == now[0]
            text = f"look-up {number + 1}" + (f", {was[0]}, was answered otherwise" if same else " differs")
            told = [f"{'' if same else a[0] + ' '}{a[1]}{a[2]}" for a in (was, now)]
            yield Difference("lookup", text, told[0], told[1])
            if number + 1 >= _SHOWN:
                return


def _lines(one: Side, two: Side, payload: Payload) -> Iterator[str]:
    """The two texts, line by line, where both are text and small."""
    assert one.value is not None
    assert two.value is not None
    if max(one.value.size, two.value.size) > _TEXT:
        return
    was, now = payload(one.value.digest), payload(two.value.digest)
    if was is None or now is None:
        return
    try:
        before, after = was.decode().splitlines(), now.decode().splitlines()
    except UnicodeDecodeError:
        return
    if any(not line.expandtabs().isprintable() for line in (*before, *after)):
        return
    found = list(difflib.unified_diff(before, after, one.name, two.name, n=1, lineterm=""))
    yield from found[:_LINES]
    if len(found) > _LINES:
        yield f"… and {len(found) - _LINES} more lines"


def comparison_text(told: Comparison) -> Iterator[str]:
    """A comparison for people."""
    yield f"1: {told.one}"
    yield f"2: {told.two}"
    if not told.found:
        yield "nothing differs in what they were made from, nor in what they are"
    for one in told.found:
        yield one.text
        if one.one or one.two:
            yield f"  1: {one.one}"
            yield f"  2: {one.two}"
    if told.lines:
        yield ""
        yield from told.lines


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a value or a snapshot exists. `triggers`: what formed it; `since`: what differs from before.

    `previous` names that visit; it is empty for a first one, or a value from outside.
    """

    id: str
    name: str
    triggers: str
    previous: str
    how: str
    since: tuple[Difference, ...]

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "id": self.id,
            "name": self.name,
            "because": self.triggers,
            "previous": self.previous or None,
            "relation": self.how or None,
            "differences": [one.to_json() for one in self.since],
        }


def reason_of(tx: Transaction, kind: str, id: str) -> Reason:
    """Why a value or snapshot exists: against what was in its place, or the visit before."""
    here = side_of(tx, kind, id)
    if kind == "made":
        return _reason_of_made(tx, id, here)
    value = values.by_id(tx, id) if kind == "value" else None
    formed = stories.formed_by_id(tx, value.snapshot if value is not None else id)
    if formed is None:
        assert value is not None
        event = f"event {value.event_id!r}" if value.event_id else "a value"
        return Reason(id, here.name, f"{event} came from outside, from {value.source}", "", "", ())
    replaced = [one for one in lanes.of_values(tx, formed.id) if one.new == formed.id]
    if replaced:
        return _reason_of_recompute(tx, id, here, formed, replaced[0])
    before = stories.formed_as(tx, formed.task, formed.number - 1) if formed.number else None
    if before is None:
        return Reason(id, here.name, _trigger(formed), "", "", ())
    there = _side_of_snapshot(tx, before, None)
    return Reason(id, here.name, _trigger(formed), there.name, "the visit before", _changes(there, here))


def _reason_of_recompute(
    tx: Transaction, id: str, here: Side, formed: FormedRow, replaced: lanes.Superseded
) -> Reason:
    old = stories.formed_by_id(tx, replaced.old) if replaced.old else None
    made = lanes.replaced_by(tx, formed.rid)
    with_what = ", with the recorded look-ups" if made is not None and made.options.get(REPLAY) else ""
    how = f"recompute {replaced.epoch} made it again{with_what}" if replaced.how != "kept" else ""
    how = how or f"recompute {replaced.epoch} kept it: nothing that goes into it differs"
    if old is None:
        return Reason(id, here.name, f"{how}; {_trigger(formed)}; nothing was in its place", "", "", ())
    there = _side_of_snapshot(tx, old, None)
    trigger = f"{how}; {_trigger(formed)}"
    return Reason(id, here.name, trigger, there.name, "what was in its place", _changes(there, here))


def _reason_of_made(tx: Transaction, id: str, here: Side) -> Reason:
    """Against the execution that stood at the same place before it, where that is still on record."""
    value, path = making.values_like(tx, id, 1)[0]
    made = making.made(tx, value.snapshot) if value.snapshot else None
    if made is None:
        return Reason(id, here.name, f"make sampled the file {path}", "", "", ())
    run = f"run {made.run} of make asked for it"
    before = making.made_before(tx, made)
    if before is None:
        return Reason(id, here.name, f"{run}; no earlier execution of {made.task} is on record", "", "", ())
    first = making.values_of(tx, before.key)
    if not first:
        return Reason(id, here.name, run, "", "", ())
    there = _side_of_made(tx, first[0].id)
    return Reason(id, here.name, run, there.name, f"run {before.run} of make", _changes(there, here))


def _changes(there: Side, here: Side) -> tuple[Difference, ...]:
    return tuple(one for one in (*_facts(there, here), *_inputs(there, here), *_answers(there, here)))


def _trigger(formed: FormedRow) -> str:
    told = cause(formed)
    if "wire" in told:
        return f"it formed when {told['wire']} {told['position']:04d} arrived"
    if "free" in told:
        return "it formed since the task was free"
    return "it formed by time" if "time" in told else "it formed"


def reason_text(told: Reason) -> Iterator[str]:
    """A reason for people."""
    yield f"{told.name}: {told.triggers}"
    if not told.previous:
        return
    yield f"against {told.how}, {told.previous}:"
    if not told.since:
        yield "  nothing differs"
    for one in told.since:
        yield f"  {one.text}" + (f": {one.one} -> {one.two}" if one.one or one.two else "")
