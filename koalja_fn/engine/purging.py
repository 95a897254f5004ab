"""Purging: payloads that nobody needs any more are marked, and deleted once no commit can name them unseen.

Three steps, each safe to be killed in. *Mark*: what `needing` lets go gets a row. *Decide*: what was marked
longer ago than any transaction lasts is looked at again, under its row's lock, and is `going` or spared.
*Delete*: under the lock again, so that a commit which names the payload waits, and then finds it gone and
brings it back. Metadata stay. One registry is to a store all that names its payloads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from koalja_fn.model import Circuit
from koalja_fn.registry import Registry, overview, purging
from koalja_fn.registry.purging import BACK, GOING, GONE, Row
from koalja_fn.registry.registry import Transaction
from koalja_fn.store import Store

if TYPE_CHECKING:
    from koalja_fn.engine.needing import Survey

GRACE = 120.0
"""Seconds from marking to deleting: longer than any lease and any transaction lasts."""

_BATCH = 200
_PAGE = 500
_DAY = 86_400_000_000
_SECOND = 1_000_000

Let = tuple[tuple[str, str], str, int]
"""What may go: circuit and wire, digest, size."""


@dataclass(slots=True)
class Freed:
    """Payloads of one wire, or of none: how many, and their bytes."""

    payloads: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Round:
    """What a round found (`marked`) and deleted (`freed`), by (circuit, wire); orphans under empty names.

    `spared` were marked, and somebody needs them by now. `waiting` are marked, and not long enough.
    """

    marked: dict[tuple[str, str], Freed] = field(default_factory=dict)
    freed: dict[tuple[str, str], Freed] = field(default_factory=dict)
    spared: int = 0
    waiting: int = 0


class Purger:
    """Purges one registry's store; several may be at work at once, on any machines.

    Args:
        registry: What names payloads.
        store: Where they are; nothing else names them.
        grace: Seconds from marking to deleting; 0 only where nobody else has the registry open.
        stop: Whether to end early.
        beside: A circuit that may not be installed, since only pull mode has come to it.
    """

    def __init__(
        self,
        registry: Registry,
        store: Store,
        *,
        grace: float = GRACE,
        stop: Callable[[], bool] = lambda: False,
        beside: Circuit | None = None,
    ) -> None:
        self._beside = beside
        self._registry = registry
        self._store = store
        self._grace = round(grace * _SECOND)
        self._stop = stop

    def look(self, *, older: int | None = None, orphans: bool = False) -> Round:
        """What a round would let go of; nothing is changed."""
        found = Round()
        for some in self._found(older, orphans, marking=False):
            _count(found.marked, some)
        return found

    def round(self, *, older: int | None = None, orphans: bool = False) -> Round:
        """Mark what nobody needs, and delete what was marked long enough ago."""
        done = Round()
        for some in self._found(older, orphans, marking=True):
            _count(done.marked, some)
        self.delete(done, older=older)
        return done

    def delete(self, done: Round, *, older: int | None = None) -> None:
        """Delete what was marked long enough ago, and is not needed."""
        until = self._registry.clock() - self._grace
        while not self._stop():
            going, looked = self._registry.transact(lambda tx: self._decide(tx, until, older))
            done.spared += looked - len(going)
            if going:
                self._registry.transact(lambda tx, rows=going: self._delete(tx, rows))  # type: ignore[misc]
                names = self._registry.read(_names)
                _count(
                    done.freed, [(names.get(row.wire or 0, ("", "")), row.digest, row.size) for row in going]
                )
            if looked < _BATCH:
                break
        self._registry.transact(lambda tx: purging.forget_orphans(tx, self._registry.clock() - _DAY))
        done.waiting = self._registry.read(purging.marked)

    def _survey(self, tx: Transaction, older: int | None) -> Survey:
        from koalja_fn.engine.needing import Survey  # the way back needs none of it

        return Survey(tx, self._registry.clock(), older, self._beside)

    # Finding

    def _found(self, older: int | None, orphans: bool, *, marking: bool) -> Iterator[list[Let]]:
        """What may go, in portions; marked at once where a round is given."""
        seen: set[str] = set()
        wires = self._registry.read(lambda tx: [n.row for n in self._survey(tx, older).purgeable()])
        for row in wires:
            after: int | None = None
            while after != -1 and not self._stop():
                page = partial(self._of_wire, row=row, first=after, older=older, marking=marking)
                found, after = self._registry.transact(page) if marking else self._registry.read(page)
                yield [one for one in found if one[1] not in seen]
                seen |= {one[1] for one in found}
        besides = partial(self._besides, older=older, marking=marking)
        found = self._registry.transact(besides) if marking else self._registry.read(besides)
        yield [one for one in found if one[1] not in seen]
        if orphans:
            yield from self._orphans(marking=marking)

    def _of_wire(
        self, tx: Transaction, row: int, first: int | None, older: int | None, *, marking: bool
    ) -> tuple[list[Let], int]:
        """Some values of a wire whose payloads may go, and where to go on; -1 at the end."""
        survey = self._survey(tx, older)
        needs = survey.wires[row]
        keep = min(k for k in (needs.rule.made, needs.rule.outside) if k is not None)
        begin = purging.purged_to(tx, row) if first is None else first
        some = purging.candidates(tx, row, begin, needs.floor, survey.now - keep, _BATCH)
        found: dict[str, int] = {}
        passed, whole = begin, True
        for one in some:
            needed = survey.value(needs, one.position, one.arrived, made=one.made)
            if needed:
                whole = False
            elif one.state in ("", BACK) and not survey.needs(one.digest):
                found[one.digest] = one.size
            if whole:
                passed = one.position + 1
        if marking:
            purging.mark(tx, survey.now, [(digest, size, row) for digest, size in found.items()])
            if first is None or first == purging.purged_to(tx, row):
                purging.move_purged(tx, row, passed)
        after = some[-1].position + 1 if len(some) == _BATCH else -1
        name = (needs.circuit, needs.name)
        return [(name, digest, size) for digest, size in found.items()], after

    def _besides(self, tx: Transaction, older: int | None, *, marking: bool) -> list[Let]:
        """What pull mode made, bodies of look-ups, and what was made again for a while."""
        survey = self._survey(tx, older)
        rows = {(n.circuit, n.name): n.row for n in survey.wires.values()}
        found: dict[str, tuple[tuple[str, str], int]] = {}
        for (circuit, wire), rule in survey.rules().items():
            keeps = [keep for keep in (rule.made, rule.outside) if keep is not None]
            if not keeps:
                continue
            before = survey.now - min(keeps)
            for digest, size in [
                *purging.made_before(tx, circuit, wire, before, _PAGE),
                *purging.asked_before(tx, circuit, wire, before, _PAGE),
            ]:
                if not survey.needs(digest):
                    found[digest] = ((circuit, wire), size)
        names = {row: name for name, row in rows.items()}
        for back in purging.in_state(tx, BACK, survey.now, "", _PAGE):
            needs = survey.wires.get(back.wire or 0)
            keep = needs.rule.made if needs is not None else None
            if keep is not None and back.at < survey.now - keep and not survey.needs(back.digest):
                found[back.digest] = (names[back.wire or 0], back.size)
        if marking:
            marks = [(digest, size, rows.get(name)) for digest, (name, size) in found.items()]
            purging.mark(tx, survey.now, marks)
        return [(name, digest, size) for digest, (name, size) in found.items()]

    def _orphans(self, *, marking: bool) -> Iterator[list[Let]]:
        """Payloads in the store that nothing names."""
        digests = self._store.digests()
        while (some := list(islice(digests, _PAGE))) and not self._stop():
            named = self._registry.read(lambda tx, some=some: purging.named_among(tx, some))  # type: ignore[misc]
            known = self._registry.read(lambda tx, some=some: purging.known_among(tx, some))  # type: ignore[misc]
            found = []
            for digest in some:
                if digest not in named and known.get(digest, GONE) == GONE:
                    found.append((("", ""), digest, self._store.size(digest)))
            if found and marking:
                self._registry.transact(lambda tx, found=found: self._mark_orphans(tx, found))  # type: ignore[misc]
            yield found

    def _mark_orphans(self, tx: Transaction, found: Iterable[Let]) -> None:
        now = self._registry.clock()
        digests = [digest for _, digest, _ in found]
        purging.hold(tx, digests)
        purging.forget(tx, digests)
        purging.mark(tx, now, [(digest, size, None) for _, digest, size in found])

    # Deleting

    def _decide(self, tx: Transaction, until: int, older: int | None) -> tuple[list[Row], int]:
        """Lock some that were marked, and see which of them are not needed to this day."""
        rows = purging.hold_due(tx, until, _BATCH)
        if not rows:
            return [], 0
        survey = self._survey(tx, older)
        going: list[Row] = []
        spared: list[Row] = []
        for row in rows:
            (spared if survey.needs(row.digest) else going).append(row)
        here = [row.digest for row in spared if row.state != GOING or self._store.has(row.digest)]
        purging.forget(tx, here)
        purging.move(tx, [r.digest for r in spared if r.digest not in set(here)], GONE, survey.now)
        purging.move(tx, [row.digest for row in going], GOING, until)
        return going, len(rows)

    def _delete(self, tx: Transaction, rows: list[Row]) -> None:
        """Delete what is still going; whoever wants to name one of them waits."""
        going = [row.digest for row in purging.hold(tx, [r.digest for r in rows]) if row.state == GOING]
        self._store.delete_many(going, tx)
        purging.move(tx, going, GONE, self._registry.clock())


def _count(into: dict[tuple[str, str], Freed], found: Iterable[Let]) -> None:
    for name, _, size in found:
        one = into.setdefault(name, Freed())
        one.payloads += 1
        one.bytes += size


def _names(tx: Transaction) -> dict[int, tuple[str, str]]:
    """Circuit and name of each wire."""
    return {
        wire.id: (name, wire.name)
        for row, name, _ in purging.circuits(tx)
        for wire in overview.wires(tx, row)
    }
