"""Opening the registry, its transactions and its clock.

A *step* is a function over a `Transaction`; the modules beside this one hold the statements that steps
are made of. Steps may be run again (a lost connection, a serialisation failure), so they have no
effects but their statements.

On SQLite one step runs at a time. On PostgreSQL many do, and what a step must have for itself it locks:
first tasks, in the order of their rows (`tasks.hold`), then wires, in the order of their names
(`values.hold`). All that belongs to a task (its log, links, snapshots) is changed under the task's lock,
but for the renewal of a lease.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from koalja_fn import sqlite
from koalja_fn.errors import RegistryError

T = TypeVar("T")
Rows = Callable[[], list[tuple[Any, ...]]]


class Transaction(Protocol):
    """The statements of one transaction; parameters are written `?`.

    Statements are SQLite's; what PostgreSQL needs besides is said in comments (`postgres.dialect`).
    """

    def run(self, sql: str, *params: Any) -> int:
        """Execute and return how many rows changed."""
        ...

    def do(self, sql: str, *params: Any) -> None:
        """Execute; how many rows changed does not matter, so a server need not be waited for."""
        ...

    def later(self, sql: str, *params: Any) -> Rows:
        """Execute; the rows are asked for later, so that several statements travel to a server together."""
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


class Database(Protocol):
    """What keeps the tables."""

    @property
    def commits(self) -> int:
        """How many transactions were committed."""
        ...

    def transact(self, step: Callable[[Transaction], T]) -> T:
        """Run `step` in one transaction; return its result once that is durable."""
        ...

    def read(self, step: Callable[[Transaction], T]) -> T:
        """Run `step`, which only reads, on one consistent state."""
        ...

    def peek(self, step: Callable[[Transaction], T]) -> T:
        """Run `step`, which reads rows that never change, each statement for itself."""
        ...

    def now(self) -> int:
        """The time, µs since 1970."""
        ...

    def data_version(self) -> int:
        """A number that is another one after another process has written."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def migrations() -> list[str]:
    """The schema's scripts, oldest first."""
    folder = Path(__file__).parent / "migrations"
    return [path.read_text() for path in sorted(folder.glob("*.sql"))]


def connect(where: str | Path) -> Registry:
    """Open the registry at a path, `sqlite:PATH` or `postgresql://USER:PASSWORD@HOST/DATABASE?schema=NAME`.

    Several registries can share a PostgreSQL database, each in a schema of its own; without one it is
    in the schema that the server gives the user. The rest of the address is libpq's.

    Raises:
        NewerRegistry: It was written by a newer version.
        RegistryError: It can't be opened.
    """
    text = str(where)
    if "://" not in text:
        return Registry(Path(text.removeprefix("sqlite:")))
    from koalja_fn import postgres  # sixteen milliseconds that a laptop need not pay

    if not postgres.is_address(text):
        raise RegistryError(
            f"registry {text.partition('://')[0]}://…: no such kind of address",
            cure="a path, sqlite:PATH or postgresql://HOST/DATABASE",
        )
    return Registry(postgres.Database(postgres.place_of(text), migrations(), "registry"))


class Registry:
    """The registry of circuits, in a SQLite file (a path) or another database.

    Raises:
        NewerRegistry: The file was written by a newer version.
        RegistryError: It can't be opened.
    """

    def __init__(self, database: Path | Database) -> None:
        if isinstance(database, Path):
            database = sqlite.Database(database, migrations(), "registry")
        self._database: Database = database
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
        """The registry's time, µs since 1970: always later than the last answer in this process.

        Where several processes write, each knows the server's clock to half a round trip. So whoever
        appends to a wire or a log writes a time that is later than the last one there.
        """
        with self._ticking:
            self._last = max(self._database.now(), self._last + 1)
            return self._last

    def changed_elsewhere(self) -> int:
        """A number that is another one after another process has written (on PostgreSQL: after any has)."""
        return self._database.data_version()

    @property
    def file(self) -> sqlite.Database | None:
        """The SQLite file that it is, in which payloads may lie, too; None where it is on a server."""
        return self._database if isinstance(self._database, sqlite.Database) else None

    @property
    def commits(self) -> int:
        """How many transactions were committed, that is, how often the disk was waited for."""
        return self._database.commits

    def close(self) -> None:
        """Close it; what waits is written first."""
        self._database.close()


def _last_time(tx: Transaction) -> int:
    """The latest time on record, so that the clock never goes back over a restart."""
    values = tx.one("SELECT max(latest) FROM wire")
    logs = tx.one("SELECT max(latest) FROM task")
    return max((row[0] or 0) for row in (values, logs) if row)
