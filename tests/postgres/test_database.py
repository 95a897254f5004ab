"""The database beneath the registry: its addresses, versions, what it survives, and what time it is."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from koalja_fn.errors import NewerRegistry, RegistryError
from koalja_fn.postgres import Database, connecting, place_of
from koalja_fn.postgres import database as module
from koalja_fn.postgres.dialect import script, statement
from koalja_fn.registry import Registry, connect
from koalja_fn.registry.registry import migrations
from tests.postgres.schemas import empty_registry
from tests.postgres.server import server

SCHEMA = ["CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE, size INTEGER) STRICT;\n"]


@pytest.fixture
def where() -> Iterator[str]:
    with empty_registry() as address:
        yield address


@pytest.fixture
def db() -> Iterator[Database]:
    name = f"notes{time.time_ns()}"
    made = Database(place_of(server().with_schema(name)), SCHEMA, "notes")
    yield made
    made.close()
    with server().connect() as connection:
        connection.execute(f"DROP SCHEMA {name} CASCADE")


def write(db: Database, text: str) -> None:
    db.transact(lambda tx: tx.do("INSERT INTO note (text) VALUES (?)", text))


def texts(db: Database) -> list[str]:
    return [row[0] for row in db.read(lambda tx: tx.all("SELECT text FROM note ORDER BY text"))]


def end_backend(db: Database, tx: module.Tx) -> None:
    """The server ends the connection of a transaction."""
    pid = tx._connection.info.backend_pid
    with server().connect() as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


# Addresses


def test_an_address_is_shown_without_its_secrets() -> None:
    place = place_of("postgresql://me:secret@db:5432/one?schema=two&sslmode=disable&password=secret")
    assert place.name == "postgresql://db:5432/one?schema=two"
    assert place.schema == "two"
    assert place.address == "postgresql://me:secret@db:5432/one?sslmode=disable&password=secret"


@pytest.mark.parametrize("name", ["a-b", "x;DROP TABLE value", "pg_own", "A", "1a", "a" * 64])
def test_a_schema_is_a_plain_name(name: str) -> None:
    with pytest.raises(RegistryError, match="no name for a PostgreSQL schema"):
        place_of(f"postgresql://db/one?schema={name}")


def test_an_unknown_kind_of_address_is_refused_without_its_secrets() -> None:
    with pytest.raises(RegistryError) as refused:
        connect("mysql://me:secret@db/one")
    assert "secret" not in str(refused.value)


def test_a_path_and_sqlite_with_a_path_are_the_same_file(tmp_path: Path) -> None:
    for text in (tmp_path / "r.db", str(tmp_path / "r.db"), f"sqlite:{tmp_path}/r.db"):
        connect(text).close()
    assert {path.name for path in tmp_path.iterdir()} == {"r.db"}


def test_a_server_that_is_not_there_is_told_soon_and_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_AT_FIRST", 0.2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(RegistryError) as told:
            connect(f"postgresql://me:secret@127.0.0.1:{taken.getsockname()[1]}/one")
    assert "secret" not in f"{told.value} {told.value.why} {told.value.cure}"


def test_a_database_that_is_not_there_is_told_at_once() -> None:
    begin = time.monotonic()
    with pytest.raises(RegistryError, match="nosuch"):
        connect(server().url.replace("/postgres?", "/nosuch?"))
    assert time.monotonic() - begin < 4


def test_a_database_that_cannot_hold_all_text_is_refused() -> None:
    with server().connect() as connection:
        connection.execute("CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0")
    with pytest.raises(RegistryError, match="encoding SQL_ASCII"):
        connect(server().url.replace("/postgres?", "/bytes?"))
    with server().connect() as connection:
        connection.execute("DROP DATABASE bytes")


# Versions


def test_a_newer_version_is_refused(where: str) -> None:
    connect(where).close()
    with pytest.raises(NewerRegistry, match=f"has version {len(migrations())}"):
        Registry(Database(place_of(where), migrations()[:-1], "registry"))


def test_an_older_version_is_brought_up_to_date(db: Database) -> None:
    write(db, "kept")
    more = [*SCHEMA, "ALTER TABLE note ADD COLUMN told TEXT NOT NULL DEFAULT 'so'"]
    newer = Database(db._place, more, "notes")
    assert newer.read(lambda tx: tx.all("SELECT text, told FROM note")) == [("kept", "so")]
    newer.close()


def test_several_may_make_a_new_registry_at_once() -> None:
    name = f"rush{time.time_ns()}"
    made: list[Registry] = []
    threads = [
        threading.Thread(target=lambda: made.append(connect(server().with_schema(name)))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 6
    for registry in made:
        registry.close()
    with server().connect() as connection:
        connection.execute(f"DROP SCHEMA {name} CASCADE")


def test_registries_of_two_schemas_know_nothing_of_each_other() -> None:
    with empty_registry() as one, empty_registry() as other:
        first, second = connect(one), connect(other)
        first.transact(lambda tx: tx.do("INSERT INTO circuit (name, created, wiring) VALUES ('c', 0, '')"))
        assert second.read(lambda tx: tx.all("SELECT name FROM circuit")) == []
        first.close()
        second.close()


# What the tables take


def test_text_and_numbers_come_back_as_python_gave_them(db: Database) -> None:
    db.transact(
        lambda tx: tx.many(
            "INSERT INTO note (text, size) VALUES (?, ?)",
            [("50 % of ?", 1 << 62), ("ä \U0010ffff", None), ("nul \0 byte", -1)],
        )
    )
    rows = db.read(lambda tx: tx.all("SELECT text, size FROM note ORDER BY id"))
    assert rows == [("50 % of ?", 1 << 62), ("ä \U0010ffff", None), ("nul \u2400 byte", -1)]
    assert db.read(lambda tx: tx.one("SELECT sum(size) FROM note WHERE size < ?", 0)) == (-1,)
    assert db.read(lambda tx: tx.one("SELECT '?', '100 %'")) == ("?", "100 %")


def test_text_is_in_the_order_of_its_bytes_whatever_the_servers_language(db: Database) -> None:
    words = ["Zebra", "apfel", "äpfel", "b-c", "bb", "_x"]
    for word in words:
        write(db, word)
    assert texts(db) == sorted(words, key=str.encode)


def test_hints_say_nothing_to_sqlite_and_all_to_postgresql() -> None:
    assert statement("SELECT a FROM b WHERE c = ? /* lock */").text == (
        "SELECT a FROM b WHERE c = %s FOR NO KEY UPDATE"
    )
    assert not statement("SELECT 1").writes
    assert statement("UPDATE a SET b = 1").writes
    for text in migrations():
        assert "STRICT" not in script(text)
        assert "ROWID" not in script(text)


# What it survives


def test_a_step_whose_connection_is_lost_is_run_again(db: Database) -> None:
    tries = []

    def step(tx: module.Tx) -> int:
        tries.append(1)
        tx.do("INSERT INTO note (text) VALUES ('one')")
        if len(tries) < 3:
            end_backend(db, tx)
        return len(tries)

    assert db.transact(step) == 3
    assert texts(db) == ["one"]


def test_a_read_whose_connection_is_lost_is_run_again(db: Database) -> None:
    write(db, "one")
    tries = []

    def step(tx: module.Tx) -> object:
        tries.append(1)
        if len(tries) == 1:
            end_backend(db, tx)
        return tx.one("SELECT text FROM note")

    assert db.read(step) == ("one",)


def test_idle_connections_that_were_lost_do_no_harm(db: Database) -> None:
    barrier = threading.Barrier(4)

    def together(number: int) -> None:
        db.transact(lambda tx: (barrier.wait(), tx.do("INSERT INTO note (text) VALUES (?)", f"{number}")))

    threads = [threading.Thread(target=together, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with server().connect() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name LIKE 'koalja-fn %'"
        )
    write(db, "after")
    assert texts(db) == ["0", "1", "2", "3", "after"]


@pytest.mark.parametrize("took_place", [True, False])
def test_a_commit_without_an_answer_is_looked_up_before_it_is_repeated(
    db: Database, monkeypatch: pytest.MonkeyPatch, took_place: bool
) -> None:
    tries = []

    def step(tx: module.Tx) -> int:
        tries.append(1)
        tx.run("INSERT INTO note (text) VALUES (?)", f"try {len(tries)}")
        return len(tries)

    def lose(tx: module.Tx) -> psycopg.Cursor[object]:
        """The connection ends before the commit reaches the server, or before its answer reaches us."""
        monkeypatch.undo()
        assert tx._pipeline is not None
        if took_place:
            tx._connection.execute("COMMIT")
            tx._pipeline.sync()
        end_backend(db, tx)
        return Database._commit(db, tx)

    monkeypatch.setattr(db, "_commit", lose)
    assert db.transact(step) == (1 if took_place else 2)
    assert texts(db) == (["try 1"] if took_place else ["try 2"])
    assert db.commits == 1


def test_steps_that_lock_each_other_out_are_both_done(db: Database) -> None:
    write(db, "a")
    write(db, "b")
    barrier = threading.Barrier(2)
    tries: list[str] = []

    def cross(first: str, second: str) -> None:
        def step(tx: module.Tx) -> None:
            tries.append(first)
            tx.run("UPDATE note SET size = 1 WHERE text = ?", first)
            if tries.count(first) == 1:
                barrier.wait()
            tx.run("UPDATE note SET size = 1 WHERE text = ?", second)

        db.transact(step)

    threads = [threading.Thread(target=cross, args=pair) for pair in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tries) >= 3
    assert db.read(lambda tx: tx.all("SELECT size FROM note")) == [(1,), (1,)]


def test_an_exception_of_a_step_undoes_it_and_is_raised(db: Database) -> None:
    def step(tx: module.Tx) -> None:
        tx.do("INSERT INTO note (text) VALUES ('no')")
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        db.transact(step)
    write(db, "yes")
    assert texts(db) == ["yes"]


def test_a_statement_that_is_wrong_is_told_and_the_connection_goes_on(db: Database) -> None:
    with pytest.raises(RegistryError, match="nosuch"):
        db.transact(lambda tx: tx.one("SELECT nosuch FROM note"))
    with pytest.raises(RegistryError, match="nosuch"):
        db.read(lambda tx: tx.one("SELECT nosuch FROM note"))
    with pytest.raises(RegistryError, match="duplicate"):
        db.transact(lambda tx: tx.many("INSERT INTO note (text) VALUES (?)", [("twice",), ("twice",)]))
    assert texts(db) == []


def test_more_threads_than_connections_wait_for_one_another(db: Database) -> None:
    threads = [threading.Thread(target=write, args=(db, f"{n:02}")) for n in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts(db)) == 30


def test_a_step_that_only_locks_does_not_count_as_a_commit(db: Database) -> None:
    write(db, "a")
    before = db.commits
    db.transact(lambda tx: tx.all("SELECT text FROM note /* lock */"))
    assert db.commits == before


def test_a_closed_database_says_so(db: Database) -> None:
    db.close()
    with pytest.raises(RegistryError, match="closed"):
        texts(db)


# Time, and what is new


def test_processes_agree_about_the_time_whatever_their_own_clocks_say(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = connect(where)
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    other = connect(where)
    with server().connect() as connection:
        row = connection.execute(
            "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
        ).fetchone()
    assert row is not None
    for registry in (one, other):
        assert abs(registry.clock() - row[0]) < 1_000_000
        registry.close()


def test_the_version_of_the_data_changes_when_somebody_writes_only(db: Database) -> None:
    before = db.data_version()
    write(db, "new")
    assert db.data_version() != before


def test_a_row_behind_which_another_may_appear_is_not_settled(db: Database) -> None:
    look = "SELECT text FROM note AS n WHERE id > 0 /* settled n */ ORDER BY id"
    started, release = threading.Event(), threading.Event()

    def slow(tx: module.Tx) -> None:
        tx.run("INSERT INTO note (text) VALUES ('first')")
        started.set()
        release.wait(30)

    thread = threading.Thread(target=lambda: db.transact(slow))
    thread.start()
    assert started.wait(30)
    write(db, "second")
    assert texts(db) == ["second"]
    assert db.read(lambda tx: tx.all(look)) == []
    release.set()
    thread.join()
    until = time.monotonic() + 30
    while db.read(lambda tx: tx.all(look)) != [("first",), ("second",)]:
        assert time.monotonic() < until  # other tests write on the server, too


def test_connections_that_a_rush_has_left_are_closed_in_time(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier = threading.Barrier(4)
    threads = [threading.Thread(target=lambda: db.peek(lambda _: barrier.wait())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(db._sessions._idle) == 4
    monkeypatch.setattr(connecting, "_IDLE_SECONDS", 0.0)
    assert texts(db) == []
    assert len(db._sessions._idle) == 1
