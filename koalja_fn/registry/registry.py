"""Opening the registry, its transactions and its clock.

A *step* is a function over a `Transaction`; the modules beside this one hold the statements that steps
are made of. Steps may be run again (a lost connection, a serialisation failure), so they have no
effects but their statements.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from koalja_fn.sqlite import Database

T = TypeVar("T")


class Transaction(Protocol):
    """The statements of one transaction; parameters are written `?`."""

    def run(self, sql: str, *params: Any) -> int:
        """Execute and return how many rows changed."""
        ...

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Execute once for each row."""
        ...

    def one(self, sql: str, *params: Any) -> tuple[Any, ...] | None:
        """Return the first row, or None."""
        ...

    def all(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """Return all rows."""
        ...


def migrations() -> list[str]:
    """The schema's scripts, oldest first."""
    folder = Path(__file__).parent / "migrations"
    return [path.read_text() for path in sorted(folder.glob("*.sql"))]


class Registry:
    """The registry of one folder's circuits, in a SQLite file.

    Raises:
        NewerRegistry: The file was written by a newer version.
        RegistryError: It can't be opened.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, migrations(), "registry")
        self._ticking = threading.Lock()
        self._last = self._database.read(_last_time)

    def transact(self, step: Callable[[Transaction], T]) -> T:
        """Run `step` in one transaction; return its result once that is durable."""
        return self._database.transact(step)

    def read(self, step: Callable[[Transaction], T]) -> T:
        """Run `step`, which only reads, on one consistent state."""
        return self._database.read(step)

    def peek(self, step: Callable[[Transaction], T]) -> T:
        """Run `step`, which reads rows that never change once they are there."""
        return self._database.peek(step)

    def clock(self) -> int:
        """The registry's time, µs since 1970: always later than the last answer.

        Called inside a step it grows with the order of commits, since steps run one after another.
        """
        with self._ticking:
            self._last = max(time.time_ns() // 1000, self._last + 1)
            return self._last

    def changed_elsewhere(self) -> int:
        """A number that is another one after another process has written."""
        return self._database.data_version()

    @property
    def commits(self) -> int:
        """How many transactions were committed, that is, how often the disk was waited for."""
        return self._database.commits

    def close(self) -> None:
        """Close the file; what waits is written first."""
        self._database.close()


def _last_time(tx: Transaction) -> int:
    """The latest time on record, so that the clock never goes back over a restart."""
    values = tx.one(
        "SELECT max(v.arrived) FROM wire w JOIN value v ON v.wire = w.id AND v.position = w.head - 1"
    )
    logs = tx.one("SELECT max(l.at) FROM task t JOIN log l ON l.task = t.id AND l.seq = t.log_head")
    return max((row[0] or 0) for row in (values, logs) if row)
