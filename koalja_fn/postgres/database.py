"""A PostgreSQL database with a schema of a known version, and transactions that survive what can be survived.

A *step* is a function over a transaction (READ COMMITTED; what it must have for itself it locks). A
step that fails for a reason that passes is run again: a serialisation failure, a deadlock, a lost
connection. Where the answer to a COMMIT was lost, the server is asked whether it took place.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from koalja_fn.errors import KoaljaError, NewerRegistry, RegistryError
from koalja_fn.postgres.connecting import Session, Sessions
from koalja_fn.postgres.dialect import script, statement
from koalja_fn.postgres.place import Place

if TYPE_CHECKING:
    import psycopg
    from psycopg import Connection, Cursor, Pipeline

T = TypeVar("T")

_OLDEST = 14
_PATIENCE = 60.0
# When it is opened the address may be wrong, which should be said soon.
_PATIENCE_AT_FIRST = 5.0
_CLOCK_SECONDS = 10.0
_NOW = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_BOOKS = """
CREATE TABLE IF NOT EXISTS koalja_version (version BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS koalja_session (
    id TEXT COLLATE "C" PRIMARY KEY, number BIGINT NOT NULL, used TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 50);
"""
_NUMBER = (
    "INSERT INTO koalja_session (id, number, used) VALUES (%s, %s, now())"
    " ON CONFLICT (id) DO UPDATE SET number = excluded.number, used = excluded.used"
)
# Waits for a transaction of that session that is still open.
_ASK_NUMBER = (
    "INSERT INTO koalja_session (id, number, used) VALUES (%s, -1, now())"
    " ON CONFLICT (id) DO UPDATE SET used = excluded.used RETURNING number"
)
_FORGET = (
    "DELETE FROM koalja_session WHERE id IN (SELECT id FROM koalja_session"
    " WHERE used < now() - interval '1 day' FOR UPDATE SKIP LOCKED)"
)


class Tx:
    """The statements of one transaction. Parameters are `?`; rows are tuples.

    Statements whose answer nobody waits for travel together with the next one.
    """

    __slots__ = ("_connection", "_pipeline", "_session", "wrote")

    def __init__(self, session: Session, pipeline: Pipeline | None) -> None:
        self._session = session
        self._connection: Connection[Any] = session.connection
        self._pipeline = pipeline
        self.wrote = False

    def run(self, sql: str, *params: Any) -> int:
        """Execute and return how many rows changed."""
        cursor = self._execute(sql, params)
        if self._pipeline is not None:
            self._pipeline.sync()
        return cursor.rowcount

    def do(self, sql: str, *params: Any) -> None:
        """Execute; how many rows changed does not matter."""
        self._execute(sql, params)

    def later(self, sql: str, *params: Any) -> Callable[[], list[tuple[Any, ...]]]:
        """Execute, and return what gives all rows, once."""
        return self._execute(sql, params).fetchall

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Execute once for each row."""
        for row in rows:
            self._execute(sql, row)

    def one(self, sql: str, *params: Any) -> tuple[Any, ...] | None:
        """Return the first row, or None."""
        row: tuple[Any, ...] | None = self._execute(sql, params).fetchone()
        return row

    def all(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """Return all rows."""
        return self._execute(sql, params).fetchall()

    def _execute(self, sql: str, params: Sequence[Any]) -> Cursor[Any]:
        said = statement(sql)
        if said.writes and not self.wrote:
            self.wrote = True
            self._session.number += 1
            self._connection.execute(_NUMBER, (self._session.id, self._session.number))
        return self._connection.execute(said.text, params)


class Database:
    """A database, or one schema of it.

    Args:
        place: Where it is.
        migrations: One script for each version, in SQLite's dialect; version n has the first n applied.
        application: What it is for, for error messages.
        most: How many connections at a time.

    Raises:
        NewerRegistry: It has more migrations than are known here.
        RegistryError: It can't be reached, or must not be used.
    """

    def __init__(self, place: Place, migrations: Sequence[str], application: str, most: int = 10) -> None:
        _needs_psycopg()
        self.application = application
        self.commits = 0
        self._place = place
        self._sessions = Sessions(place, most)
        self._counting = threading.Lock()
        self._ahead = 0  # of the server's clock before our monotonic one, µs
        self._measured = float("-inf")
        try:
            with self._explained():
                self._patiently(lambda: self._open(migrations), _PATIENCE_AT_FIRST)
        except BaseException:
            self._sessions.close()
            raise

    def transact(self, step: Callable[[Tx], T]) -> T:
        """Run `step` in a transaction, again where need be; return its result once that is durable.

        An exception of the step undoes it and is raised here.
        """
        with self._explained():
            return self._patiently(lambda: self._attempt(step))

    def read(self, step: Callable[[Tx], T]) -> T:
        """Run `step`, which only reads, on one consistent state."""
        with self._explained():
            return self._patiently(lambda: self._look(step))

    def peek(self, step: Callable[[Tx], T]) -> T:
        """Run `step`, which reads rows that never change, each statement for itself."""

        def look() -> T:
            with self._sessions.session() as session:
                return step(Tx(session, None))

        with self._explained():
            return self._patiently(look)

    def now(self) -> int:
        """The server's time, µs since 1970, as far as it is known here: to half a round trip."""
        return time.monotonic_ns() // 1000 + self._ahead

    def data_version(self) -> int:
        """Return a number that changes when anybody has written."""
        row = self.peek(lambda tx: tx.one("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"))
        assert row is not None
        return int(row[0])

    def close(self) -> None:
        """Close the connections; further calls fail."""
        self._sessions.close()

    def _open(self, migrations: Sequence[str]) -> None:
        with self._sessions.session() as session:
            self._check(session.connection)
            self._migrate(session.connection, migrations)
            self._measure(session.connection)

    # Transactions

    def _attempt(self, step: Callable[[Tx], T]) -> T:
        try:
            return self._once(step)
        except _Unanswered as unanswered:
            if not self._took_place(unanswered.session, unanswered.number):
                raise unanswered.error from None
            self._count()
            result: T = unanswered.result
            return result

    def _once(self, step: Callable[[Tx], T]) -> T:
        from psycopg import Error

        with self._sessions.session() as session:
            connection = session.connection
            if time.monotonic() - self._measured > _CLOCK_SECONDS:
                self._measure(connection)
            ending = False
            try:
                with connection.pipeline() as pipeline:
                    tx = Tx(session, pipeline)
                    try:
                        connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
                        result = step(tx)
                    except BaseException:
                        _undo(connection, pipeline)
                        raise
                    # With it go all statements whose answers nobody has waited for.
                    ending = True
                    ended = self._commit(tx)
            except Error as error:
                if ending and not _roll_back(connection) and tx.wrote:
                    raise _Unanswered(session.id, session.number, result, error) from error
                raise
            except BaseException:
                if ending:
                    connection.close()
                raise
            if ended.statusmessage != "COMMIT":
                raise RegistryError(f"{self.application} {self._place.name}: a step went on after an error")
            if tx.wrote:
                self._count()
            return result

    def _commit(self, tx: Tx) -> Cursor[Any]:
        if not tx.wrote:  # only locks were taken: the disk need not be waited for
            tx._connection.execute("SET LOCAL synchronous_commit = off")
        return tx._connection.execute("COMMIT")

    def _count(self) -> None:
        with self._counting:
            self.commits += 1

    def _look(self, step: Callable[[Tx], T]) -> T:
        with self._sessions.session() as session:
            connection = session.connection
            with connection.pipeline() as pipeline:
                try:
                    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    result = step(Tx(session, pipeline))
                except BaseException:
                    _undo(connection, pipeline)
                    raise
                connection.execute("COMMIT")
            return result

    def _took_place(self, id: str, number: int) -> bool:
        """Whether a transaction was committed whose answer was lost."""

        def ask() -> bool:
            with self._sessions.session() as session:
                connection = session.connection
                # Its end may still be on its way: let it come to an end, one way or the other.
                connection.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                    " WHERE application_name = %s",
                    (f"koalja-fn {id}",),
                )
                row = connection.execute(_ASK_NUMBER, (id,)).fetchone()
                assert row is not None
                return bool(row[0] == number)

        return self._patiently(ask)

    def _patiently(self, attempt: Callable[[], T], seconds: float = _PATIENCE) -> T:
        """Try until it succeeds, or fails for a reason that does not pass."""
        import psycopg

        until = time.monotonic() + seconds
        pause = 0.002
        again = 0
        while True:
            try:
                return attempt()
            except psycopg.Error as error:
                again += 1
                if not _passes(error, again) or time.monotonic() > until:
                    raise
            time.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - so that rivals do not meet again
            pause = min(pause * 2, 1.0)

    # Time

    def _measure(self, connection: Connection[Any]) -> None:
        """Compare the clocks: the server's was read in the middle of the round trip, more or less."""
        begin = time.monotonic_ns()
        row = connection.execute(f"SELECT {_NOW}").fetchone()
        assert row is not None
        self._ahead = int(row[0]) - (begin + time.monotonic_ns()) // 2000
        self._measured = time.monotonic()

    # The schema

    def _check(self, connection: Connection[Any]) -> None:
        where = f"{self.application} {self._place.name} can't be used"
        if connection.info.server_version < _OLDEST * 10_000:
            raise RegistryError(
                where,
                why=f"the server is PostgreSQL {connection.info.server_version // 10_000}",
                cure=f"PostgreSQL {_OLDEST} or newer",
            )
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise RegistryError(
                where,
                why=f"the database has the encoding {encoding}",
                cure="CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0",
            )

    def _migrate(self, connection: Connection[Any], migrations: Sequence[str]) -> None:
        version = self._version(connection)
        if version < len(migrations):
            with connection.transaction():
                connection.execute(
                    "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
                    (f"koalja-fn {self._place.schema}",),
                )
                if self._place.schema:
                    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {self._place.schema}")
                connection.execute(_BOOKS)
                version = self._version(connection)  # somebody else may have been faster
                for text in migrations[version:]:
                    connection.execute(script(text))
                    version += 1
                connection.execute("DELETE FROM koalja_version")
                connection.execute("INSERT INTO koalja_version (version) VALUES (%s)", (version,))
        else:
            connection.execute(_FORGET)
        if version > len(migrations):
            raise NewerRegistry(
                f"{self.application} {self._place.name} has version {version}",
                why=f"this koalja-fn knows versions up to {len(migrations)}",
                cure="pip install --upgrade koalja-fn",
            )

    def _version(self, connection: Connection[Any]) -> int:
        there = connection.execute("SELECT to_regclass('koalja_version')").fetchone()
        if there is None or there[0] is None:
            return 0
        row = connection.execute("SELECT max(version) FROM koalja_version").fetchone()
        return int(row[0] or 0) if row else 0

    # Errors

    @contextmanager
    def _explained(self) -> Iterator[None]:
        import psycopg

        try:
            yield
        except psycopg.Error as error:
            raise self._explain(error) from error

    def _explain(self, error: Exception) -> KoaljaError:
        from psycopg import errors

        cure = ""
        if isinstance(error, errors.DiskFull):
            cure = "give the server more room; nothing that was acknowledged is lost"
        elif isinstance(error, errors.InsufficientPrivilege):
            cure = "let the user create tables in that schema, or name another: ?schema=NAME"
        elif isinstance(error, errors.OperationalError):
            cure = "see whether the server is up, and who may reach it with which password"
        return RegistryError(
            f"{self.application} {self._place.name} can't be used", why=str(error).strip(), cure=cure
        )


class _Unanswered(Exception):
    """The connection was lost in a COMMIT."""

    def __init__(self, session: str, number: int, result: Any, error: Exception) -> None:
        super().__init__(str(error))
        self.session = session
        self.number = number
        self.result = result
        self.error = error


def _undo(connection: Connection[Any], pipeline: Pipeline) -> None:
    """Roll back; what can't be rolled back is closed."""
    import psycopg

    with suppress(psycopg.Error):
        pipeline.sync()
    try:
        connection.execute("ROLLBACK")
        pipeline.sync()
    except BaseException as error:
        connection.close()
        if not isinstance(error, psycopg.Error):
            raise


def _roll_back(connection: Connection[Any]) -> bool:
    """Whether a transaction whose commit failed is known to be undone: the server says so itself."""
    import psycopg
    from psycopg.pq import TransactionStatus

    try:
        known = connection.info.transaction_status == TransactionStatus.INERROR
        connection.execute("ROLLBACK")
        return known
    except psycopg.Error:
        connection.close()
        return False


_SOON_OVER = ("starting up", "shutting down", "recovery", "not yet accepting", "too many", "connection slots")


def _passes(error: psycopg.Error, attempt: int) -> bool:
    """Whether trying again may help."""
    from psycopg import InterfaceError, OperationalError, errors

    if isinstance(error, errors.UniqueViolation):
        # Somebody else was faster to write the row that we looked for in vain; the next look finds it.
        return attempt <= 3
    if isinstance(error, errors.DiskFull | errors.OutOfMemory):
        return False
    # libpq gives no code with what a server says instead of letting us in.
    if error.sqlstate is None and "FATAL:" in str(error) and not any(s in str(error) for s in _SOON_OVER):
        return False
    return isinstance(error, OperationalError | InterfaceError | errors.ReadOnlySqlTransaction)


def _needs_psycopg() -> None:
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise RegistryError(
            "a registry in PostgreSQL needs psycopg", why=str(error), cure="pip install 'koalja-fn[postgres]'"
        ) from error
