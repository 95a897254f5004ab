"""Passports as text, in the spirit of the paper's figure 9: time | who --> whom | what, indented.

Stops are numbered in the order of telling; what was told already is referred to by its number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from koalja_fn.registry.lookups import LookupRow
from koalja_fn.registry.rows import AttemptRow, RemarkRow
from koalja_fn.story.passport import Passport, Reading, Stop, Visit, Window, cause
from koalja_fn.story.superseding import mark_text
from koalja_fn.story.words import digest, duration, local, plural, positions, short, size, version

# Further steps are told at this indentation: a loop may go round a thousand times.
_DEEPEST = 16
# So many values that were told above get a line each; more share one.
_FEW = 3
_LONG_ID = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")
# What ("stop", "visit", "line"), id or text, depth, from whom.
_Step = tuple[str, str, int, str]


class _Teller:
    """Walks a passport in depth; its own stack, since a loop may be deeper than Python's."""

    def __init__(self, passport: Passport) -> None:
        self.passport = passport
        self.numbers: dict[str, int] = {}
        self._blank = ""

    def lines(self) -> Iterator[str]:
        """All lines of the story."""
        start = self.passport.start
        stack: list[_Step] = [("stop" if start in self.passport.stops else "visit", start, 0, "")]
        while stack:
            what, key, depth, origin = stack.pop()
            following: list[_Step] = []
            if what == "line":
                yield self._line(0, key, depth, origin)
            elif what == "stop" and key in self.passport.stops:
                yield from self._stop(self.passport.stops[key], depth, origin, following)
            elif what == "visit" and key in self.passport.visits:
                yield from self._visit(self.passport.visits[key], depth, origin, following)
            stack.extend(reversed(following))
        for note in self.passport.notes:
            yield f"note: {note}"

    def _line(self, at: int, text: str, depth: int, arrow: str = "") -> str:
        when = local(at) if at else self._blank
        if at:
            self._blank = " " * len(when)
        return f"{when} | {arrow:>10} {'  ' * min(depth, _DEEPEST)}{text}"

    def _arrow(self, origin: str, id: str) -> tuple[str, bool]:
        """`from --> to` with the numbers of both, and whether `id` was told before."""
        told = id in self.numbers
        number = self.numbers.setdefault(id, len(self.numbers) + 1)
        arrow = "-->" if self.passport.forward else "<--"
        return (f"{self.numbers[origin]} {arrow} {number}" if origin else f"{number}"), told

    def _stop(self, stop: Stop, depth: int, origin: str, following: list[_Step]) -> Iterator[str]:
        value = stop.value
        arrow, told = self._arrow(origin, value.id)
        name = f"{value.wire} {positions(value.position, value.position)}"
        if told:
            yield self._line(value.arrived, f"{name}  (told at {self.numbers[value.id]})", depth, arrow)
            return
        what = f"{name}  {short(value.id)}  {size(value.size)} {value.type}  {digest(value.digest)}"
        yield self._line(value.arrived, what, depth, arrow)
        yield from self._marks(value.id, depth)
        if not value.snapshot:
            yield self._line(0, f"[from outside: {_sender(stop)}]", depth + 1, "->")
        if not self.passport.forward and value.snapshot:
            if value.snapshot in self.passport.visits:
                following.append(("visit", value.snapshot, depth + 1, value.id))
            else:
                by = f"snapshot {short(value.snapshot)}, version {version(value.version)}"
                yield self._line(0, f"[made by {by}: not followed]", depth + 1, "->")
        for reading in stop.readings:
            self._reading(reading, depth + 1, value.id, following)

    def _marks(self, id: str, depth: int) -> Iterator[str]:
        """What took the place of a value or snapshot, and whose place it took."""
        for one in self.passport.marks.get(id, ()):
            yield self._line(0, mark_text(id, one), depth + 1, "->")

    def _reading(self, reading: Reading, depth: int, origin: str, following: list[_Step]) -> None:
        if reading.state != "used":
            following.append(("line", f"[{reading.task}: {_unused(reading)}]", depth, "->"))
        following.extend(("visit", one, depth, origin) for one in reading.snapshots)
        if reading.more:
            following.append(("line", f"[{reading.task}: and further snapshots]", depth, "->"))

    def _visit(self, visit: Visit, depth: int, origin: str, following: list[_Step]) -> Iterator[str]:
        formed = visit.formed
        arrow, told = self._arrow(origin, formed.id)
        name = f"{formed.name}, snapshot {formed.number + 1} ({short(formed.id)})"
        if told:
            yield self._line(formed.formed, f"{name}  (told at {self.numbers[formed.id]})", depth, arrow)
            return
        yield self._line(formed.formed, f"{name} {formed.state}{_because(visit)}", depth, arrow)
        yield from self._marks(formed.id, depth)
        for window in visit.windows:
            yield from (self._line(0, text, depth + 1, "->") for text in window_texts(window))
        for attempt in visit.attempts:
            run = visit.run_lines.get(attempt.version, "")
            yield from (self._line(0, text, depth + 1, "->") for text in attempt_texts(attempt, run))
        yield from (self._line(0, remark_text(remark), depth + 1, "->") for remark in visit.remarks)
        yield from (self._line(0, text, depth + 1, "->") for text in lookup_texts(visit.lookups))
        others = dict.fromkeys(row.answered_id for row in visit.lookups if row.answered_id)
        beside = visit.askers if self.passport.forward else tuple(others)
        following.extend(("visit", one, depth + 1, formed.id) for one in beside)
        ids = visit.made if self.passport.forward else [one for w in visit.windows for one in w.values]
        known = [one for one in ids if one in self.numbers]
        if len(known) > _FEW:
            following.append(("line", f"[{plural(len(known), 'value')} told above]", depth + 1, "->"))
            ids = [one for one in ids if one not in self.numbers]
        following.extend(("stop", one, depth + 1, formed.id) for one in ids)
        if visit.made_more:
            following.append(("line", "[and further outputs]", depth + 1, "->"))


def passport_text(passport: Passport) -> str:
    """The whole story, one line for each step."""
    return "\n".join(_Teller(passport).lines())


def _sender(stop: Stop) -> str:
    value = stop.value
    parts = [value.source or "unknown"]
    if value.event_id:
        of = f" of {value.event_source}" if value.event_source not in ("", value.source) else ""
        parts.append(f"event {value.event_id!r}{of}")
    if value.name:
        parts.append(f"file {value.name}")
    return ", ".join(parts)


def _unused(reading: Reading) -> str:
    words = {
        "not read": "has not read it yet",
        "waiting": "it waits for others to form a snapshot",
        "before its time": "reads this wire from a later value on",
        "retired": "was removed before it read it",
    }
    return words.get(reading.state, f"passed it over: {reading.state}")


def _because(visit: Visit) -> str:
    """What formed the snapshot."""
    told = cause(visit.formed)
    if "wire" in told:
        return f", formed by the arrival of {told['wire']} {told['position']:04d}"
    if "free" in told:
        return ", formed since the task was free"
    return ", formed by time" if "time" in told else ""


def window_texts(window: Window) -> Iterator[str]:
    """One input of a snapshot: which values, how many, which of them new; and what was passed over."""
    shown = ", ".join(f"{r.wire} {positions(r.first, r.last)}" for r in window.runs[:4])
    if len(window.runs) > 4:
        shown += f", … ({len(window.runs)} runs)"
    new = "all new" if window.fresh == window.count else "the last one new" if window.fresh == 1 else ""
    new = new or (f"the last {window.fresh} new" if window.fresh else "none new")
    if window.count == 1:
        new = "new" if window.fresh else "not new"
    text = f"[in {window.input}: {shown}, {plural(window.count, 'value')}, {new}"
    if window.left_out:
        text += f", {size(window.size)} of {window.makers or 'no'} snapshots, since {local(window.earliest)}"
    yield text + "]"
    for passed in window.passed:
        where = (
            f"{window.input} {positions(passed.first, passed.last)}" if passed.first <= passed.last else ""
        )
        yield f"[passed over before: {where or passed.text}, {passed.reason}]"


def attempt_texts(attempt: AttemptRow, run: str) -> Iterator[str]:
    """One attempt: how it ended, how long it took, with which code; and what it said when it failed."""
    took = duration((attempt.ended - attempt.started) / 1e6)
    code = f"version {version(attempt.version)}" + (f": {run}" if run else "")
    yield f"[attempt {attempt.attempt}: {outcome(attempt)} in {took}, {code}]"
    if attempt.outcome == "failed" and attempt.stderr.strip():
        yield f"[standard error: {attempt.stderr.strip().splitlines()[-1]}]"


def lookup_texts(rows: Sequence[LookupRow]) -> Iterator[str]:
    """What was asked on the side: the first few requests, and how many more there are."""
    for row in rows[:_FEW]:
        one = row.lookup
        by = (
            f"{row.service}, snapshot {row.number + 1} ({short(row.answered_id)})"
            if row.service
            else one.place
        )
        what = f"{one.status or 'no answer'} in {duration(one.took / 1e6)}"
        if one.told.size:
            what += f", {size(one.told.size)}" + (f" {digest(one.told.digest)}" if one.told.digest else "")
        what += f", answered by {by}" if by else ""
        what += f", version {version(one.version)}" if one.version else ""
        what += f", {replayed_text(row)}" if one.replayed is not None else ""
        what += f", {one.problem}" if one.problem else ""
        yield f"[asked {one.wire}: {one.method} {one.path}: {what}]"
    if len(rows) > _FEW:
        yield f"[and {plural(len(rows) - _FEW, 'more look-up')}]"


def replayed_text(row: LookupRow) -> str:
    """That an answer is from the record, and from when; without the headers that were not kept."""
    origin = row.origin
    text = "replayed from the record"
    if origin is not None:
        text = f"replayed from snapshot {origin.number + 1} ({short(origin.snapshot)}), {local(origin.at)}"
    lost = row.lookup.headers.get("leftOut")
    if isinstance(lost, list) and lost:
        text += f", without {', '.join(str(name) for name, _ in lost)}"
    return text


def outcome(attempt: AttemptRow) -> str:
    """How an attempt ended, in words; each word once."""
    if attempt.outcome == "done" and attempt.reason == "cached":
        return "cached " + _LONG_ID.sub(r"\1", attempt.message)
    if attempt.outcome in ("done", "cancelled"):
        return attempt.outcome
    why = {"exit": f"exit status {attempt.status}", "signal": f"signal {attempt.status}"}.get(
        attempt.reason, attempt.reason
    )
    if attempt.message:
        message = attempt.message.partition("\n")[0]  # the cure below it is for `failures`
        known = why in message or why == attempt.outcome
        why = message if known else f"{why}: {message}"
    return f"{attempt.outcome}, {why}" if why and why != attempt.outcome else attempt.outcome


def remark_text(remark: RemarkRow) -> str:
    """A remark as in figure 9: [kind: text]."""
    return f"[{remark.kind}: {remark.text}]"
