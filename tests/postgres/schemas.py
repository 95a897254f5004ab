"""Empty registries on the tests' PostgreSQL server, made once and emptied before each use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from tests.postgres.server import server

_spare: list[str] = []
_numbers = count()


@contextmanager
def empty_registry() -> Iterator[str]:
    """The address of a registry that nobody else uses."""
    name = _spare.pop() if _spare else f"s{next(_numbers)}"
    with server().connect() as connection:
        tables = connection.execute(
            "SELECT string_agg(format('%%I.%%I', schemaname, tablename), ', ') FROM pg_tables"
            " WHERE schemaname = %s AND tablename <> 'koalja_version'",
            (name,),
        ).fetchone()
        if tables and tables[0]:
            connection.execute(f"TRUNCATE {tables[0]} RESTART IDENTITY")
    try:
        yield server().with_schema(name)
    finally:
        _spare.append(name)
