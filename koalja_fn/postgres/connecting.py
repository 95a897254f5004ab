"""Connections to a PostgreSQL database: how they are set up, and how threads share them."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from koalja_fn.errors import RegistryError
from koalja_fn.postgres.place import Place

if TYPE_CHECKING:
    from psycopg import Connection

# A connection whose other end is gone without a word is found out after half a minute, on either side.
_CLIENT = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    "tcp_user_timeout": "30000",
    "client_encoding": "UTF8",
}
# An idle connection costs the server some megabytes; those that a rush has left are closed after so long.
_IDLE_SECONDS = 60.0
# Whoever is stopped in the middle of a step must not keep its locks for ever.
_SESSION = """
SET client_min_messages = warning;
SET idle_in_transaction_session_timeout = '60s';
SET lock_timeout = '60s';
SET tcp_keepalives_idle = 10;
SET tcp_keepalives_interval = 5;
SET tcp_keepalives_count = 4;
"""


class Session:
    """A connection, and what tells after a lost answer whether a commit took place.

    `id` names it in the server's table of sessions, `number` is that of its latest transaction that wrote.
    """

    __slots__ = ("connection", "id", "idle_since", "number")

    def __init__(self, connection: Connection[Any], id: str) -> None:
        self.connection = connection
        self.id = id
        self.number = 0
        self.idle_since = 0.0

    @property
    def usable(self) -> bool:
        """Whether a transaction may begin."""
        from psycopg.pq import TransactionStatus

        return not self.connection.closed and (
            self.connection.info.transaction_status == TransactionStatus.IDLE
        )


class Sessions:
    """Sessions for as many threads as there are, opened when they are needed, `most` at a time.

    Raises:
        RegistryError: All are busy for longer than a step may take.
    """

    def __init__(self, place: Place, most: int) -> None:
        # Lost connections are our business: psycopg need not tell the terminal.
        logging.getLogger("psycopg").addHandler(logging.NullHandler())
        self._place = place
        self._places = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()
        self._idle: list[Session] = []
        self._closed = False

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session for one transaction; one that was lost in it is thrown away, with all that are idle."""
        if not self._places.acquire(timeout=120):
            raise RegistryError(
                f"registry {self._place.name}: all connections are busy for two minutes",
                cure="see in pg_stat_activity what they wait for",
            )
        try:
            session = self._take()
            try:
                yield session
            finally:
                self._give_back(session)
        finally:
            self._places.release()

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it is given back."""
        with self._lock:
            self._closed = True
        self._drop_idle()

    def _take(self) -> Session:
        with self._lock:
            if self._closed:
                raise RegistryError(f"registry {self._place.name} is closed")
            if self._idle:
                return self._idle.pop()
        return self._open()

    def _give_back(self, session: Session) -> None:
        now = time.monotonic()
        spare: list[Session] = []
        with self._lock:
            kept = session.usable and not self._closed
            if kept:
                session.idle_since = now
                self._idle.append(session)
                # The latest is taken first, so those that are not needed stay in front.
                spare = [other for other in self._idle if other.idle_since < now - _IDLE_SECONDS]
                self._idle = self._idle[len(spare) :]
        for other in spare:
            other.connection.close()
        if kept:
            return
        lost = session.connection.closed
        session.connection.close()
        if lost:
            self._drop_idle()

    def _drop_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for session in idle:
            session.connection.close()

    def _open(self) -> Session:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict, make_conninfo

        named = os.urandom(9).hex()
        options = _CLIENT | conninfo_to_dict(self._place.address) | {"application_name": f"koalja-fn {named}"}
        connection = psycopg.connect(make_conninfo("", **options), autocommit=True)
        _adapt(connection)
        settings = _SESSION
        if self._place.schema:
            settings += f"SET search_path = {self._place.schema};"
        connection.execute(settings)
        # The registry has some two hundred statements, most of them hot; each is planned once.
        connection.prepare_threshold = 1
        connection.prepared_max = 500
        return Session(connection, named)


def _adapt(connection: Connection[Any]) -> None:
    """Let numbers and text travel as SQLite takes and gives them."""
    from psycopg.types.numeric import Int8Dumper, IntLoader
    from psycopg.types.string import StrDumper

    class Text(StrDumper):
        # PostgreSQL's text has no character 0; a program's last words may have some.
        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\0", "\u2400") if "\0" in obj else obj)

    # All columns are BIGINT: one type for all numbers keeps one plan for each statement.
    connection.adapters.register_dumper(int, Int8Dumper)
    connection.adapters.register_dumper(str, Text)
    # The sum of integers is `numeric` here.
    connection.adapters.register_loader("numeric", IntLoader)
