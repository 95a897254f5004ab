"""One writer for a SQLite file, with group commit: many steps share one transaction and one fsync.

Knows nothing of what the tables mean. A *step* is a function over a transaction; it may run in the
same transaction as other threads' steps, each behind a savepoint, and `transact` returns after the
commit that made it durable (WAL, synchronous=FULL). Several processes may use one file.
"""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from koalja_fn.errors import NewerRegistry, RegistryError

T = TypeVar("T")

# A group larger than this makes the first waiter wait longer than an fsync is worth.
_GROUP = 128
_BUSY_SECONDS = 60.0
_LEAST_ROOM = 256 << 10


class Tx:
    """The statements of one transaction. Parameters are `?`; rows are tuples."""

    __slots__ = ("_connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, sql: str, *params: Any) -> int:
        """Execute and return how many rows changed."""
        return self._connection.execute(sql, params).rowcount

    def do(self, sql: str, *params: Any) -> None:
        """Execute; how many rows changed does not matter."""
        self._connection.execute(sql, params)

    def later(self, sql: str, *params: Any) -> Callable[[], list[tuple[Any, ...]]]:
        """Return what gives all rows."""
        rows = self.all(sql, *params)
        return lambda: rows

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Execute once for each row."""
        self._connection.executemany(sql, rows)

    def one(self, sql: str, *params: Any) -> tuple[Any, ...] | None:
        """Return the first row, or None."""
        row: tuple[Any, ...] | None = self._connection.execute(sql, params).fetchone()
        return row

    def all(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """Return all rows."""
        return self._connection.execute(sql, params).fetchall()


class _Waiting:
    """A step in the queue, and what became of it."""

    __slots__ = ("done", "error", "result", "step")

    def __init__(self, step: Callable[[Tx], Any]) -> None:
        self.step = step
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None


class Database:
    """A SQLite file with a schema of a known version.

    Args:
        path: The file; its folder must exist.
        migrations: One script for each version; version n has the first n applied.
        application: What the file is for, for error messages.

    Raises:
        NewerRegistry: The file has more migrations than are known here.
        RegistryError: The file can't be opened, or is no database.
    """

    def __init__(self, path: Path, migrations: Sequence[str], application: str) -> None:
        self.path = path
        self.application = application
        self.commits = 0
        self._queue: deque[_Waiting] = deque()
        self._writing = threading.Lock()
        self._readers: list[sqlite3.Connection] = []
        self._local = threading.local()
        self._closed = False
        try:
            self._connection = self._connect()
            self._migrate(migrations)
        except sqlite3.Error as error:
            raise self._explain(error) from error
        self._tx = Tx(self._connection)

    def transact(self, step: Callable[[Tx], T]) -> T:
        """Run `step` in a transaction; return its result once that is durable.

        Whoever gets the writer's lock commits for all who wait, so that under load one fsync serves
        many. An exception of the step undoes that step alone and is raised here.
        """
        waiting = _Waiting(step)
        self._queue.append(waiting)
        with self._writing:
            while not waiting.done:
                self._commit_group()
        if waiting.error is not None:
            raise waiting.error
        result: T = waiting.result
        return result

    def read(self, step: Callable[[Tx], T]) -> T:
        """Run `step`, which only reads, on one consistent state of the file."""
        connection = self._reader()
        try:
            connection.execute("BEGIN")
            try:
                return step(Tx(connection))
            finally:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def peek(self, step: Callable[[Tx], T]) -> T:
        """Run `step`, which reads rows that never change, each statement for itself: cheaper than `read`."""
        try:
            return step(Tx(self._reader()))
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def now(self) -> int:
        """The time, µs since 1970."""
        return time.time_ns() // 1000

    def data_version(self) -> int:
        """Return a number that changes when another connection has written; cheap."""
        with self._writing:
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Finish what waits and close; further calls fail."""
        with self._writing:
            self._closed = True
            for reader in self._readers:
                reader.close()
            self._readers.clear()
            self._connection.close()

    def _commit_group(self) -> None:
        group = [self._queue.popleft() for _ in range(min(len(self._queue), _GROUP))]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for waiting in group:
                self._run_step(waiting, alone=len(group) == 1)
            self._connection.execute("COMMIT")
            self.commits += 1
        except BaseException as error:
            self._abandon(group, error)
            if not isinstance(error, (sqlite3.Error, _Undone)):
                raise
        finally:
            for waiting in group:
                waiting.done = True

    def _run_step(self, waiting: _Waiting, *, alone: bool) -> None:
        if not alone:
            self._connection.execute("SAVEPOINT step")
        try:
            waiting.result = waiting.step(self._tx)
        except BaseException as error:
            waiting.error = self._explain(error) if isinstance(error, sqlite3.Error) else error
            if not self._connection.in_transaction or alone:
                raise _Undone from error
            self._connection.execute("ROLLBACK TO step")
        if not alone:
            self._connection.execute("RELEASE step")

    def _abandon(self, group: list[_Waiting], error: BaseException) -> None:
        """Nothing of the group was written: each step that has no error of its own gets this one."""
        if not self._closed and self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        cause = error.__cause__ if isinstance(error, _Undone) and error.__cause__ else error
        for waiting in group:
            if waiting.error is None:
                waiting.error = self._explain(cause)

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "reader", None)
        if connection is None or self._closed:
            connection = self._connect()
            connection.execute("PRAGMA query_only = ON")
            self._local.reader = connection
            self._readers.append(connection)
        return connection

    def _connect(self) -> sqlite3.Connection:
        if self._closed:
            raise RegistryError(f"{self.application} {self.path} is closed")
        connection = sqlite3.connect(
            self.path,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
        )
        _use_log(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        connection.execute("PRAGMA temp_store = MEMORY")
        return connection

    def _migrate(self, migrations: Sequence[str]) -> None:
        version = self._version()
        if version < len(migrations):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                version = self._version()  # somebody else may have been faster
                for script in migrations[version:]:
                    for statement in script.split(";\n"):
                        if statement.strip():
                            self._connection.execute(statement)
                    version += 1
                self._connection.execute(f"PRAGMA user_version = {version}")
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
        if version > len(migrations):
            raise NewerRegistry(
                f"{self.application} {self.path} has version {version}",
                why=f"this koalja-fn knows versions up to {len(migrations)}",
                cure="pip install --upgrade koalja-fn",
            )

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def _explain(self, error: BaseException) -> BaseException:
        if not isinstance(error, sqlite3.Error):
            return RegistryError(f"{self.application} {self.path}: not written", why=repr(error))
        text = str(error)
        cure = ""
        if "full" in text or ("I/O error" in text and _is_full(self.path)):
            cure = "free some disk space; nothing that was acknowledged is lost"
        elif "not a database" in text or "malformed" in text:
            cure = "restore the file from a copy, or move it away to start anew"
        elif "locked" in text:
            cure = "see which other process uses the folder"
        elif "readonly" in text or "unable to open" in text:
            cure = "ask as a user who may write to that folder: reading takes locks there, too"
        return RegistryError(f"{self.application} {self.path} can't be used", why=text, cure=cure)


def _is_full(path: Path) -> bool:
    """Whether a disk has no room even for the index of a log: then SQLite speaks of an I/O error."""
    try:
        return shutil.disk_usage(path).free < _LEAST_ROOM
    except OSError:
        return False


def _use_log(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging: one does it for all, and the others are refused at once meanwhile."""
    until = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
        time.sleep(0.01)


class _Undone(Exception):
    """The whole transaction is gone, not one step only."""
