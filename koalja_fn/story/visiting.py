"""Looking at one snapshot: what it took in, how it was executed, what was remarked."""

from __future__ import annotations

from koalja_fn.registry import lookups, stories
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.rows import FormedRow, PassedRow, RunRow, WindowRow
from koalja_fn.story.passport import Limits, Run, Visit, Window

# Ranges that were passed over before a window; a story needs no more.
_PASSED = 20
# Look-ups of one execution; a passport names those that answered, and need not list a million requests.
_LOOKUPS = 1_000


def visit(tx: Transaction, formed: FormedRow, depth: int, limits: Limits) -> Visit:
    """All that is on record about a snapshot, but for what it made."""
    before = _windows_before(tx, formed)
    rows = stories.windows(tx, formed.rid)
    attempts = tuple(stories.attempts(tx, formed.rid))
    return Visit(
        formed=formed,
        depth=depth,
        windows=tuple(_window(tx, row, before.get(row.input), limits) for row in rows),
        attempts=attempts,
        run_lines={v: stories.run_line(tx, formed.task, v) for v in {a.version for a in attempts}},
        remarks=tuple(stories.remarks(tx, formed.rid)),
        made=(),
        lookups=tuple(lookups.of_snapshot(tx, formed.rid, _LOOKUPS)),
    )


def _windows_before(tx: Transaction, formed: FormedRow) -> dict[str, WindowRow]:
    """The windows of the task's snapshot before this one, by input."""
    before = stories.formed_as(tx, formed.task, formed.number - 1) if formed.number else None
    return {row.input: row for row in stories.windows(tx, before.rid)} if before else {}


def _window(tx: Transaction, row: WindowRow, before: WindowRow | None, limits: Limits) -> Window:
    count = row.last - row.first + 1
    runs = stories.runs(tx, row)
    spans = [stories.span(tx, run.wire, run.first, run.last) for run in runs]
    return Window(
        input=row.input,
        runs=tuple(Run(run.name, run.first, run.last) for run in runs),
        count=count,
        fresh=row.fresh,
        values=tuple(_followed(tx, row, runs, limits)),
        size=sum(s.size for s in spans),
        earliest=min((s.earliest for s in spans), default=0),
        latest=max((s.latest for s in spans), default=0),
        makers=sum(s.makers for s in spans),
        passed=_passed(tx, row, before),
    )


def _followed(tx: Transaction, row: WindowRow, runs: list[RunRow], limits: Limits) -> list[str]:
    """Ids of a window's values; of a wide one only the last, which stands for the others."""
    if limits.wide is not None and row.last - row.first >= limits.wide:
        last = runs[-1]
        return stories.ids_between(tx, last.wire, last.last, last.last)
    return [one for run in runs for one in stories.ids_between(tx, run.wire, run.first, run.last)]


def _passed(tx: Transaction, row: WindowRow, before: WindowRow | None) -> tuple[PassedRow, ...]:
    """What was passed over between the window before and this one."""
    begin = before.last + 1 if before else 0
    return tuple(stories.passed(tx, row.task, row.input, begin, row.last - 1, _PASSED))
