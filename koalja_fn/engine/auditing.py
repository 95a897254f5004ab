"""Auditing: does the registry keep its promises? Logs are replayed, positions counted, payloads hashed again.

What is found is told as sentences; none means that every value took part in exactly the snapshots that
the policies say, that every output is there once, and that every payload is what its digest says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from koalja_fn import ids
from koalja_fn.engine.replaying import Replayed, Wiring, current_state, replay
from koalja_fn.registry import purging, snapshots, tasks, values
from koalja_fn.registry.purging import GOING, GONE
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.tasks import TaskRow
from koalja_fn.snapshots import Admitted, Formed, Spec, Window, held, needed


def audit(tx: Transaction, circuit: int, verify: Callable[[str], bool] | None = None) -> Iterator[str]:
    """Yield what is wrong with a circuit; `verify` tells whether a payload has its digest."""
    row = tx.one("SELECT name FROM circuit WHERE id = ?", circuit)
    assert row is not None
    yield from _wires(tx, circuit)
    for task in tasks.of_circuit(tx, circuit):
        yield from _log(tx, task)
        yield from _while_it_fits(task, _snapshots(tx, row[0], task))
        yield from _while_it_fits(task, _coverage(tx, task))
        yield from _executions(tx, task)
    if verify is not None:
        for digest in _digests(tx, circuit):
            if not verify(digest) and purging.state_of(tx, digest) not in (GOING, GONE):
                yield f"payload {digest} is missing or damaged"


def _while_it_fits(task: TaskRow, findings: Iterator[str]) -> Iterator[str]:
    """What is found; damage may be such that the log can't even be replayed."""
    try:
        yield from findings
    except (AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
        yield f"task {task.name}: its records do not fit together: {error or type(error).__name__}"


def _wires(tx: Transaction, circuit: int) -> Iterator[str]:
    rows = tx.all("SELECT id, name, head, sunk FROM wire WHERE circuit = ? ORDER BY name", circuit)
    for wire, name, head, sunk in rows:
        found = tx.one("SELECT count(*), max(position) FROM value WHERE wire = ?", wire)
        assert found is not None
        if found[0] != head or (head and found[1] != head - 1):
            yield f"wire {name}: head is {head}, but {found[0]} values, the last at {found[1]}"
        if sunk > head:
            yield f"wire {name}: its sink is at {sunk}, beyond the head {head}"


def _log(tx: Transaction, task: TaskRow) -> Iterator[str]:
    """Each link's runs follow one another without a gap, from its start to its position."""
    expected: dict[str, int] = {}
    seq = 0
    for record in tasks.log_after(tx, task.id, 0):
        seq += 1
        if record.seq != seq:
            yield f"task {task.name}: record {seq} of the log is missing"
            return
        if record.kind == "wired":
            expected |= Wiring.from_json(record.body or "{}").starts
        elif record.kind == "run" and record.wire is not None:
            if record.first != expected.get(record.wire):
                yield (
                    f"task {task.name}: the log reads {record.wire} from {record.first},"
                    f" expected {expected.get(record.wire)}"
                )
            expected[record.wire] = (record.last or 0) + 1
    if seq != task.log_head:
        yield f"task {task.name}: the log ends at {seq}, not at {task.log_head}"
    for link in tasks.links(tx, task.id):
        if expected.get(link.name) != link.position:
            logged = expected.get(link.name)
            yield f"task {task.name}: link {link.name} is at {link.position}, its log at {logged}"


def _snapshots(tx: Transaction, circuit: str, task: TaskRow) -> Iterator[str]:
    """The snapshots are those that form from the log, and so is the core's state."""
    formed: list[tuple[Wiring, tuple[Window, ...]]] = []
    last: Replayed | None = None
    instants = 0
    for last in replay(tx, task.id):
        instants += last.record.kind == "due"
        formed += [(last.wiring, o.windows) for o in last.outcomes if isinstance(o, Formed)]
        for admitted in (o for o in last.outcomes if isinstance(o, Admitted)):
            if _fed(tx, task, admitted) != (admitted.wire, admitted.position):
                yield f"task {task.name}: value {admitted.index} of {admitted.input} is not the one admitted"
    if len(formed) + instants != task.formed:
        yield f"task {task.name}: {task.formed} snapshots, its log forms {len(formed) + instants}"
    rows = tx.all(
        "SELECT rid, id, number, generation, epoch FROM snapshot WHERE task = ? ORDER BY number", task.id
    )
    if [row[2] for row in rows] != list(range(task.formed)):
        yield f"task {task.name}: snapshots are not numbered without gaps"
    for (rid, named, number, generation, epoch), (wiring, windows) in zip(rows, formed, strict=False):
        place = f"task {task.name}: snapshot {number + 1}"
        stored = [(i.input, i.first, i.last - i.first + 1, i.fresh) for i in snapshots.inputs_of(tx, rid)]
        expected = [(w.input, w.first, w.count, w.fresh) for w in windows]
        if stored != expected:
            yield f"{place} has windows {stored}, its log gives {expected}"
            continue
        try:
            ranges = [_range(tx, task, wiring.spec, window) for window in windows]
        except (AssertionError, StopIteration):
            yield f"{place} has values that are not there"
            continue
        if named != ids.snapshot(circuit, task.name, epoch, wiring.generation, ranges):
            yield f"{place} has another id than its windows give"
        if generation != wiring.generation:
            yield f"{place} is of generation {generation}, its log says {wiring.generation}"
    now = current_state(tx, Spec.from_json(task.spec), task, None)
    if last is not None and now.to_json() != last.state.to_json():
        yield f"task {task.name}: the core's state is not the one that its log gives"


def _coverage(tx: Transaction, task: TaskRow) -> Iterator[str]:
    """Each value that was read is in a snapshot, was passed over on record, or is still waiting.

    What a passive input went by without a snapshot that looked at it is on no record.
    """
    spec = Spec.from_json(task.spec)
    state = current_state(tx, spec, task, None)
    first, waiting = needed(spec, state), held(spec, state)
    accounted = _accounted(tx, task)
    inputs = {wire: item for item in spec.inputs for wire in item.wires}
    for link in tasks.links(tx, task.id):
        item = inputs.get(link.name)
        if item is None or item.passive:
            continue
        ranges, until = accounted.get(link.wire, []), first[item.name]
        if item.indexed:
            until = link.position
            ranges += [
                (position, position) for wire, position in waiting.get(item.name, ()) if wire == link.name
            ]
            runs = snapshots.feed_runs(tx, task.id, item.name, first[item.name], 1 << 62)
            ranges += [(begin, end) for wire, begin, end in runs if wire == link.wire]
        for begin, end in _gaps(ranges, link.start, until):
            yield f"task {task.name}: values {begin} to {end} of {link.name} are in nothing"


def _accounted(tx: Transaction, task: TaskRow) -> dict[int, list[tuple[int, int]]]:
    """For each wire, the positions in a snapshot, passed over on record, or read by a passive input."""
    found: dict[int, list[tuple[int, int]]] = {}
    rows = tx.all(
        "SELECT input, wire, first, last FROM snapshot_input WHERE task = ?"
        " UNION ALL SELECT input, wire, first, last FROM passed WHERE task = ? AND first <= last",
        task.id,
        task.id,
    )
    for name, wire, first, last in rows:
        fed = [(wire, first, last)] if wire else snapshots.feed_runs(tx, task.id, name, first, last)
        for row, begin, end in fed:
            found.setdefault(row, []).append((begin, end))
    passive: set[str] = set()
    for record in tasks.log_after(tx, task.id, 0):
        if record.kind == "wired":
            inputs = Wiring.from_json(record.body or "{}").spec.inputs
            passive = {wire for item in inputs if item.passive for wire in item.wires}
        elif record.wire in passive and record.first is not None and record.last is not None:
            row = tasks.wire_row(tx, task.id, record.wire)
            found.setdefault(row, []).append((record.first, record.last))
    return found


def _gaps(ranges: list[tuple[int, int]], begin: int, until: int) -> Iterator[tuple[int, int]]:
    """What from `begin` on and below `until` is in none of the ranges."""
    for first, last in sorted(ranges):
        if first > begin:
            yield begin, min(first, until) - 1
        begin = max(begin, last + 1)
        if begin >= until:
            return
    if begin < until:
        yield begin, until - 1


def _fed(tx: Transaction, task: TaskRow, admitted: Admitted) -> tuple[str, int] | None:
    """Which value the registry says has an index of an input that counts admissions."""
    for wire, position, _ in snapshots.feed_runs(tx, task.id, admitted.input, admitted.index, admitted.index):
        row = tx.one("SELECT name FROM wire WHERE id = ?", wire)
        return (row[0], position) if row else None
    return None


def _range(tx: Transaction, task: TaskRow, spec: Spec, window: Window) -> ids.Range:
    edges = []
    for index in (window.first, window.first + window.count - 1):
        if window.input in spec.indexed:
            wire, position, _ = next(snapshots.feed_runs(tx, task.id, window.input, index, index))
        else:
            name = next(i.wires[0] for i in spec.inputs if i.name == window.input)
            wire, position = tasks.wire_row(tx, task.id, name), index
        edges.append(values.id_at(tx, wire, position))
    return ids.Range(window.input, edges[0], edges[1], window.count, window.first)


def _executions(tx: Transaction, task: TaskRow) -> Iterator[str]:
    """Each finished snapshot was committed once, and its outputs are numbered from 0 on each wire."""
    for rid, number, state in tx.all(
        "SELECT rid, number, state FROM snapshot WHERE task = ? ORDER BY number", task.id
    ):
        place = f"task {task.name}: snapshot {number + 1}"
        done = tx.one("SELECT count(*) FROM execution WHERE snapshot = ? AND outcome = 'done'", rid)
        assert done is not None
        if done[0] != (1 if state == "done" else 0) and not _listened(tx, rid):
            yield f"{place} is {state}, and was committed {done[0]} times"
        outputs: dict[str, list[int]] = {}
        for value in values.made_by(tx, rid):
            outputs.setdefault(value.wire, []).append(value.index)
        for wire, indexes in outputs.items():
            if indexes != list(range(len(indexes))):
                yield f"{place} has outputs {indexes} on {wire}"
        if outputs and state != "done":
            yield f"{place} is {state}, but has outputs"


def _listened(tx: Transaction, rid: int) -> bool:
    """Whether it is a service's: done when its process listens, as often as one is started."""
    found = tx.one("SELECT id FROM execution WHERE snapshot = ? AND outcome = 'listening' LIMIT 1", rid)
    return found is not None


def _digests(tx: Transaction, circuit: int) -> Iterator[str]:
    for (digest,) in tx.all(
        "SELECT v.digest FROM value v JOIN wire w ON w.id = v.wire WHERE w.circuit = ?"
        " UNION SELECT l.asked FROM lookup l JOIN task t ON t.id = l.task"
        " WHERE t.circuit = ? AND l.asked_kept = 1"
        " UNION SELECT l.told FROM lookup l JOIN task t ON t.id = l.task"
        " WHERE t.circuit = ? AND l.told_kept = 1",
        circuit,
        circuit,
        circuit,
    ):
        yield digest
