"""Tables of the overview, for people."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence

from koalja_fn.model import AnnotatedValue
from koalja_fn.registry.rows import FormedRow
from koalja_fn.story.overview import CircuitLine, TaskLine, WireLine, maker
from koalja_fn.story.passport import cause
from koalja_fn.story.superseding import is_superseded
from koalja_fn.story.words import local, short, size


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Lines of a table: numbers to the right, words to the left, no trailing blanks."""
    body = [list(row) for row in rows]
    lines = [list(head), *([str(cell) for cell in row] for row in body)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    numeric = [bool(body) and all(isinstance(row[n], int) for row in body) for n in range(len(head))]
    for line in lines:
        columns = zip(line, widths, numeric, strict=True)
        cells = (cell.rjust(width) if right else cell.ljust(width) for cell, width, right in columns)
        yield "  ".join(cells).rstrip()


def circuits_table(lines: Sequence[CircuitLine]) -> Iterator[str]:
    """One line for each circuit."""
    rows = [(c.row.name, c.tasks, c.wires, c.values, local(c.row.created)) for c in lines]
    return table(("CIRCUIT", "TASKS", "WIRES", "VALUES", "SINCE"), rows)


def tasks_table(lines: Sequence[TaskLine]) -> Iterator[str]:
    """One line for each task; `circuit/` in front where there are several."""
    several = len({line.circuit for line in lines}) > 1
    rows = []
    for line in lines:
        c = line.counts
        name = (f"{line.circuit}/" if several else "") + c.name + (" (removed)" if c.retired else "")
        rows.append((name, line.total_waiting, c.ready, c.running, c.done, c.dead, c.skipped))
    return table(("TASK", "WAITING", "READY", "RUNNING", "DONE", "DEAD", "SKIPPED"), rows)


def wires_table(lines: Sequence[WireLine]) -> Iterator[str]:
    """One line for each wire."""
    several = len({line.circuit for line in lines}) > 1
    rows = [
        (
            (f"{line.circuit}/" if several else "") + line.row.name,
            line.row.head,
            line.writer or ("(outside)" if line.latest or line.readers else ""),
            ", ".join(line.readers),
            local(line.latest.arrived) if line.latest else "",
        )
        for line in lines
    ]
    return table(("WIRE", "VALUES", "FROM", "TO", "LATEST"), rows)


def values_table(found: Sequence[AnnotatedValue], purged: Container[str] = ()) -> Iterator[str]:
    """One line for each value; behind the size of those with a digest in `purged` it is said so."""
    rows = [
        (
            local(v.arrived),
            v.wire,
            v.position + 1,
            short(v.id),
            maker(v) or v.source,
            f"{size(v.size)}, purged" if v.digest in purged else size(v.size),
            v.type,
            v.name,
        )
        for v in found
    ]
    return table(("ARRIVED", "WIRE", "POSITION", "ID", "FROM", "SIZE", "TYPE", "NAME"), rows)


def snapshots_table(found: Sequence[FormedRow]) -> Iterator[str]:
    """One line for each snapshot."""
    rows = [
        (
            local(f.formed),
            f.name,
            f.number + 1,
            short(f.id),
            f"{f.state}, superseded" if is_superseded(f) else f.state,
            f.attempts,
            _cause(f),
        )
        for f in found
    ]
    return table(("FORMED", "TASK", "NUMBER", "ID", "STATE", "ATTEMPTS", "CAUSE"), rows)


def _cause(formed: FormedRow) -> str:
    told = cause(formed)
    if "wire" in told:
        return f"{told['wire']} {told['position']:04d}"
    return "free" if "free" in told else "time" if "time" in told else ""
