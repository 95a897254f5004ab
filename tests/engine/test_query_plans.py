"""No statement that a busy circuit issues reads through a table that grows: each finds its rows by an index.

The statements are those that the real steps issue, caught on their way to the database.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from workbench import Workbench, workbench

from koalja_fn import sqlite
from koalja_fn.engine.purging import Purger
from koalja_fn.registry import lanes, lookups, overview, snapshots, standing, stories
from koalja_fn.registry.lookups import Lookup
from koalja_fn.registry.registry import Transaction

DAY = 86_400
GROWING = {
    "value", "log", "feed", "snapshot", "snapshot_input", "execution", "remark", "passed", "refusal", "seen",
    "lookup", "cached", "purge", "made", "made_value", "made_last", "supersession", "lane_run", "ghost",
}  # fmt: skip
ALLOWED = {
    "FROM made_value v LEFT JOIN purge": "once for each wire in a round: what is old is seen anew",
    "JOIN circuit c ON c.id = t.circuit LEFT JOIN purge p ON p.digest = l.": "likewise, bodies of look-ups",
}
"""Parts of statements that may read all of a table, and why."""
WIRING = """\
(a[3/1], c passive) t (b)
    retries = 1
(b, d) u (e)
    policy = merge
(e) v (f)
wire a
    keep = 1d
wire b
    keep = 1d
"""
Caught = dict[str, tuple[Any, ...]]


@contextmanager
def catching(into: Caught) -> Iterator[None]:
    """Note each statement with the parameters that it had first."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("run", "do", "later", "all", "one"):
            patch.setattr(sqlite.Tx, name, _noting(getattr(sqlite.Tx, name), into, many=False))
        patch.setattr(sqlite.Tx, "many", _noting(sqlite.Tx.many, into, many=True))
        yield


def _noting(real: Callable[..., Any], into: Caught, *, many: bool) -> Callable[..., Any]:
    def note(self: sqlite.Tx, sql: str, *params: Any) -> Any:
        if many:
            rows = list(params[0])
            if rows:
                into.setdefault(sql, tuple(rows[0]))
            return real(self, sql, rows)
        into.setdefault(sql, params)
        return real(self, sql, *params)

    return note


def be_busy(place: Workbench) -> None:
    """All that a circuit does in a day, and what people ask of it."""
    for n in range(4):
        place.send("a", *(f"a{n}.{k}" for k in range(3)))
        place.send("c", f"c{n}")
        place.send("d", f"d{n}")
        place.send("d", f"d{n}")
        place.work_off()
    place.send("a", "x", "y", "z")
    place.form()
    (claim,) = place.claim("t")
    place.fail(claim)
    place.tick(DAY)
    (claim,) = place.claim("t")
    place.fail(claim, permanent=True)
    place.retry(claim.rid)
    (claim,) = place.claim("t", lease=1.0)
    place.tick(DAY)
    assert place.lose_expired()
    place.work_off()
    place.tick(DAY * 2)
    asked = [Lookup("ask", "GET", "/", place.now)]
    place.transact(lambda tx: lookups.record(tx, claim.plan.id, claim.rid, 1, asked))
    done = Purger(place.registry, place.store, grace=0.0).round(orphans=True)
    assert done.freed
    wires = place.wires()
    place.registry.read(lambda tx: ask(tx, place, wires))


def ask(tx: Transaction, place: Workbench, wires: dict[str, int]) -> None:
    """What `list`, `log`, `visits`, `trace` and the sweeps ask, page by page."""
    circuit = place.plan.id
    overview.cursors(tx)
    standing.of_circuit(tx, circuit)
    for look in (
        overview.formed_after,
        overview.attempts_after,
        overview.remarks_after,
        overview.passed_after,
        overview.refusals_after,
    ):
        look(tx, 0, 10)
    for plan in place.plan.tasks.values():
        task = plan.id
        standing.of_task(tx, task)
        standing.startable(tx, task, place.now, 10)
        overview.latest_formed(tx, task, 10)
        overview.log_head(tx, task)
        snapshots.next_due(tx, task)
        snapshots.orphans(tx, task, "me")
        snapshots.dead(tx, task)
        for of_task in (
            stories.dead,
            stories.running,
            stories.latest_attempts,
            stories.latest_remarks,
            stories.latest_anomalies,
        ):
            of_task(tx, task, 10)
        stories.passed(tx, task, "d", 0, 5, 10)
        stories.latest_passed(tx, task, "d", 10)
        stories.formed_as(tx, task, 0)
    for wire in wires.values():
        overview.latest_values(tx, wire, 10)
        overview.values_from(tx, wire, 3, 10)
        overview.sample(tx, wire, 10, 5)
        stories.ids_between(tx, wire, 0, 5)
        stories.span(tx, wire, 0, 5)
    asking = tx.all("SELECT snapshot FROM lookup WHERE id = 1")
    for (rid,) in [*tx.all("SELECT rid FROM snapshot WHERE task = ? AND number = 0", plan.id), *asking]:
        for window in stories.windows(tx, rid):
            stories.runs(tx, window)
        stories.attempts(tx, rid)
        stories.remarks(tx, rid)
        stories.made(tx, rid, 10)
        lanes.replaced_by(tx, rid)
        lookups.of_last_attempt(tx, rid, 10)
    value = overview.latest_values(tx, wires["a"], 1)[0]
    stories.value_ids(tx, value.id[:8], 2)
    stories.snapshot_ids(tx, value.id[:8], 2)
    stories.with_digest(tx, value.digest, 10)


def scans(place: Workbench, caught: Caught) -> list[str]:
    """Statements that read through a growing table, and how."""
    found = []
    for sql, params in caught.items():
        if re.search(r"\bsmall\b", sql):
            continue  # the payloads' own file
        tables = {alias or table: table for table, alias in _TABLE.findall(sql)}
        for row in place.ask(f"EXPLAIN QUERY PLAN {sql}", *params):
            read = _SCAN.match(row[3]) or ("LIMIT" not in sql and _WHOLE.match(row[3]))
            if read and tables.get(read[1], read[1]) in GROWING:
                found.append(f"{row[3]}: {sql}")
    return [one for one in found if not any(part in one for part in ALLOWED)]


_SCAN = re.compile(r"SCAN (\w+)")
# All values of a wire, all of a task's log: by an index, and yet all. Partial indexes have few rows.
_WHOLE = re.compile(
    r"SEARCH (\w+) USING (?:COVERING )?(?:PRIMARY KEY|INDEX (?:value_place|feed_wire"
    r"|sqlite_autoindex_snapshot_2|execution_task|remark_task|passed_task|snapshot_input_wire"
    r"|snapshot_input_feed)) \((?:wire|task)=\?\)$"
)
_TABLE = re.compile(
    r"\b(?:FROM|JOIN|UPDATE|INTO)\s+(\w+)(?:\s+(?!WHERE|JOIN|ON|LEFT|ORDER|GROUP|SET|LIMIT|VALUES|AS)(\w+))?"
)


def test_no_statement_reads_through_a_table_that_grows() -> None:
    caught: Caught = {}
    with workbench(WIRING) as place:
        with catching(caught):
            be_busy(place)
        assert len(caught) > 90  # the steps were caught at all
        assert not (bad := scans(place, caught)), "\n".join(bad)


def test_a_scan_would_be_seen() -> None:
    with workbench(WIRING) as place:
        sql = "SELECT v.position FROM value v JOIN wire w ON w.id = v.wire WHERE v.size = ?"
        assert scans(place, {sql: (1,)})
        assert scans(place, {"SELECT size FROM value WHERE wire = ? AND size = 1": (1,)})
        assert not scans(place, {"SELECT size FROM value WHERE wire = ? AND position = 1": (1,)})


def test_postgresql_has_an_index_for_each_of_them_too() -> None:
    caught: Caught = {}
    with workbench(WIRING) as place, catching(caught):
        be_busy(place)
    with workbench(WIRING, "postgres") as place:
        be_busy(place)
        assert not (bad := sequential(place, caught)), "\n".join(bad)
        assert sequential(place, {"SELECT position FROM value WHERE size = ?": (1,)})


def sequential(place: Workbench, caught: Caught) -> list[str]:
    """Statements that PostgreSQL can do by reading a growing table only: it would rather not, here."""

    def step(tx: Transaction) -> list[str]:
        tx.do("SET LOCAL enable_seqscan = off")
        found = []
        for sql, params in caught.items():
            if re.search(r"\bsmall\b", sql):
                continue  # the payloads' own file
            for (line,) in tx.all(f"EXPLAIN {sql}", *params):
                scan = re.search(r"Seq Scan on (\w+)", line)
                if scan and scan[1] in GROWING:
                    found.append(f"{line.strip()}: {sql}")
        return found

    return list(place.transact(step))
