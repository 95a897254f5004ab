"""One writer for a SQLite file: group commit, and what happens when something goes wrong."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from koalja_fn.errors import NewerRegistry, RegistryError
from koalja_fn.registry import Registry
from koalja_fn.sqlite import Database, Tx

SCHEMA = "CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT) STRICT;\n"


@contextmanager
def opened(path: Path, *scripts: str) -> Iterator[Database]:
    database = Database(path, scripts or (SCHEMA,), "thing")
    try:
        yield database
    finally:
        database.close()


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with opened(tmp_path / "t.db") as database:
        yield database


def insert(n: int) -> Callable[[Tx], int]:
    return lambda tx: tx.run("INSERT INTO t (n) VALUES (?)", n)


def numbers(database: Database) -> list[int]:
    return [n for (n,) in database.read(lambda tx: tx.all("SELECT n FROM t ORDER BY n"))]


def together(database: Database, steps: list[Callable[[Tx], Any]]) -> list[Any]:
    """Run steps in one group: all are in the queue before the first of them begins."""
    results: list[Any] = [None] * len(steps)
    held, queued = threading.Event(), threading.Semaphore(0)

    def hold(tx: Tx) -> None:
        held.set()
        for _ in steps:
            queued.acquire(timeout=30)
        while len(database._queue) < len(steps):  # the last is a few instructions away
            pass

    def call(number: int) -> None:
        held.wait(30)
        queued.release()
        try:
            results[number] = database.transact(steps[number])
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=database.transact, args=(hold,))]
    threads += [threading.Thread(target=call, args=(n,)) for n in range(len(steps))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def test_many_threads_share_few_commits(db: Database) -> None:
    before = db.commits
    assert together(db, [insert(n) for n in range(50)]) == [1] * 50
    assert db.commits - before <= 3
    assert numbers(db) == list(range(50))


def test_a_step_that_fails_undoes_itself_alone(db: Database) -> None:
    def fails(tx: Tx) -> None:
        insert(100)(tx)
        raise ValueError("no")

    results = together(db, [insert(0), fails, insert(1), insert(1), insert(2)])
    assert results[0] == results[4] == 1
    assert isinstance(results[1], ValueError)
    # One of the two that want the same key gets it.
    assert sorted(isinstance(r, RegistryError) for r in results[2:4]) == [False, True]
    assert numbers(db) == [0, 1, 2]


def test_a_step_that_fails_alone_leaves_the_database_usable(db: Database) -> None:
    def fails(tx: Tx) -> None:
        insert(1)(tx)
        raise KeyError("no")

    with pytest.raises(KeyError):
        db.transact(fails)
    db.transact(insert(2))
    assert numbers(db) == [2]


def test_a_commit_that_fails_fails_all_of_its_group(tmp_path: Path) -> None:
    script = SCHEMA + "CREATE TABLE child (n INTEGER REFERENCES t DEFERRABLE INITIALLY DEFERRED);\n"
    with opened(tmp_path / "t.db", script) as db:
        db.transact(insert(0))
        db._connection.execute("PRAGMA foreign_keys = ON")
        orphan = lambda tx: tx.run("INSERT INTO child (n) VALUES (99)")  # noqa: E731 - found at the commit
        results = together(db, [insert(1), orphan, insert(2)])
        assert [type(r) for r in results] == [RegistryError] * 3
        assert "FOREIGN KEY" in results[0].why
        assert numbers(db) == [0]
        db.transact(insert(3))
        assert numbers(db) == [0, 3]


def test_a_step_that_ends_the_transaction_itself_fails_all_and_nothing_is_half_done(db: Database) -> None:
    results = together(db, [insert(1), lambda tx: tx.run("ROLLBACK"), insert(2)])
    assert any(isinstance(r, RegistryError) for r in results)
    for number, n in ((0, 1), (2, 2)):
        assert (results[number] == 1) == (n in numbers(db))
    db.transact(insert(3))
    assert 3 in numbers(db)


def test_an_interrupt_in_a_step_undoes_it_and_reaches_the_caller(db: Database) -> None:
    def interrupted(tx: Tx) -> None:
        insert(1)(tx)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        db.transact(interrupted)
    db.transact(insert(2))
    assert numbers(db) == [2]


def test_a_reader_sees_one_state_while_others_write(db: Database) -> None:
    db.transact(insert(1))

    def look(tx: Tx) -> tuple[int, int]:
        first = tx.one("SELECT count(*) FROM t")
        writer = threading.Thread(target=db.transact, args=(insert(2),))
        writer.start()
        writer.join(30)
        second = tx.one("SELECT count(*) FROM t")
        assert first is not None
        assert second is not None
        return first[0], second[0]

    assert db.read(look) == (1, 1)
    assert numbers(db) == [1, 2]


def test_a_reader_can_not_write(db: Database) -> None:
    with pytest.raises(RegistryError, match="can't be used"):
        db.read(insert(1))


def test_what_is_acknowledged_is_synced(db: Database) -> None:
    assert db._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert db._connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_closed_database_says_so(tmp_path: Path) -> None:
    with opened(tmp_path / "t.db") as db:
        pass
    for call in (lambda: db.transact(insert(1)), lambda: db.read(lambda tx: tx.one("SELECT 1"))):
        with pytest.raises(RegistryError):
            call()


# Several processes


def child(code: str, *args: object, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *(str(a) for a in args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def test_two_processes_write_to_one_file_and_nothing_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    code = f"""
        import sys
        from pathlib import Path
        from koalja_fn.sqlite import Database
        db = Database(Path(sys.argv[1]), [{SCHEMA!r}], "thing")
        print("ready", flush=True)
        sys.stdin.readline()
        for n in range(60):
            db.transact(lambda tx: tx.run("INSERT INTO t (n) VALUES (?)", int(sys.argv[2]) + n))
    """
    children = [child(code, path, 1000 * n) for n in (1, 2)]
    with opened(path) as db:
        for process in children:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        before = db.data_version()
        for process in children:
            _, errors = process.communicate("go\n", timeout=60)
            assert (process.returncode, errors) == (0, "")
        assert db.data_version() != before
        assert numbers(db) == [*range(1000, 1060), *range(2000, 2060)]


def test_migrations_are_applied_once_when_several_open_at_once(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    scripts = [SCHEMA, "INSERT INTO t (n) VALUES (1);\n", "CREATE INDEX i ON t (text);\n"]
    code = f"""
        import sys
        from pathlib import Path
        from koalja_fn.sqlite import Database
        print("ready", flush=True)
        sys.stdin.readline()
        Database(Path(sys.argv[1]), {scripts!r}, "thing").close()
    """
    children = [child(code, path) for _ in range(4)]
    for process in children:
        assert process.stdout is not None
        process.stdout.readline()
    for process in children:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in children:
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
    with opened(path, *scripts) as db:
        assert numbers(db) == [1]
        assert db._version() == 3


def test_migrations_go_on_where_an_older_version_stopped(tmp_path: Path) -> None:
    with opened(tmp_path / "t.db") as db:
        db.transact(insert(7))
    with opened(tmp_path / "t.db", SCHEMA, "ALTER TABLE t ADD COLUMN more TEXT;\n") as db:
        assert db.read(lambda tx: tx.all("SELECT n, more FROM t")) == [(7, None)]


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    with opened(path) as db:
        db.transact(insert(7))
    with (
        pytest.raises(RegistryError),
        opened(path, SCHEMA, "INSERT INTO t (n) VALUES (8);\nINSERT INTO nothing VALUES (1);\n"),
    ):
        pass
    with opened(path) as db:
        assert numbers(db) == [7]
        assert db._version() == 1


@pytest.mark.parametrize("sign", [signal.SIGKILL])
def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, sign: signal.Signals) -> None:
    path = tmp_path / "t.db"
    code = f"""
        import sys
        from pathlib import Path
        from koalja_fn.sqlite import Database
        db = Database(Path(sys.argv[1]), [{SCHEMA!r}], "thing")
        n = 0
        while True:
            db.transact(lambda tx: tx.run("INSERT INTO t (n) VALUES (?)", n))
            print(n, flush=True)
            n += 1
    """
    process = child(code, path)
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    process.send_signal(sign)
    rest = process.stdout.read()  # communicate() would leave out what was read ahead
    process.communicate(timeout=30)
    last = max([19, *(int(line) for line in rest.split("\n")[:-1])])
    with opened(path) as db:
        assert numbers(db)[: last + 1] == list(range(last + 1))
        assert len(numbers(db)) <= last + 2


# Files that are no good


def test_a_newer_registry_is_refused_with_a_cure_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    Registry(path).close()
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA user_version = 999")
    raw.close()
    before = path.read_bytes()
    with pytest.raises(NewerRegistry, match="has version 999") as newer:
        Registry(path)
    assert newer.value.exit_status == 8
    assert "upgrade" in newer.value.cure
    assert path.read_bytes() == before


def test_what_is_no_database_is_refused_with_a_cure_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    path.write_bytes(b"This is my diary." * 100)
    with pytest.raises(RegistryError, match="can't be used") as error:
        Database(path, [SCHEMA], "thing")
    assert "not a database" in error.value.why
    assert "move it away" in error.value.cure
    assert path.read_bytes() == b"This is my diary." * 100


def test_a_folder_that_is_not_there_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="can't be used"):
        Database(tmp_path / "nowhere" / "t.db", [SCHEMA], "thing")


def test_a_damaged_file_is_an_error_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    with opened(path) as db:
        for n in range(200):
            db.transact(lambda tx, n=n: tx.run("INSERT INTO t VALUES (?, ?)", n, "x" * 500))
    data = bytearray(path.read_bytes())
    data[4096:] = b"\x5a" * (len(data) - 4096)
    path.write_bytes(data)
    with opened(path) as db, pytest.raises(RegistryError) as error:
        db.read(lambda tx: tx.all("SELECT * FROM t"))
    assert "malformed" in error.value.why


FILLS_UP = f"""
    import signal, sys
    from pathlib import Path
    from koalja_fn.errors import RegistryError
    from koalja_fn.sqlite import Database
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    db = Database(Path(sys.argv[1]), [{SCHEMA!r}], "thing")
    n = 0
    try:
        while True:
            db.transact(lambda tx: tx.run("INSERT INTO t VALUES (?, ?)", n, "x" * 3000))
            n += 1
            assert n < 5000
    except RegistryError as error:
        print(n)
        print(error)
    for more in range(3):
        try:
            db.transact(lambda tx: tx.run("INSERT INTO t VALUES (?, ?)", 9000 + more, "x" * 3000))
            print("acknowledged", 9000 + more)
        except RegistryError:
            pass
    if len(sys.argv) > 2:
        Path(sys.argv[2]).unlink()
        db.transact(lambda tx: tx.run("INSERT INTO t VALUES (?, ?)", 7777, ""))
        print("acknowledged 7777")
"""


def acknowledged(output: str) -> tuple[set[int], list[str]]:
    first, *lines = output.splitlines()
    later = {int(line.split()[1]) for line in lines if line.startswith("acknowledged")}
    return set(range(int(first))) | later, lines


def test_a_file_at_its_size_limit_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    process = child(
        FILLS_UP, path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    )
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    there, lines = acknowledged(output)
    assert len(there) > 20
    assert "can't be used" in lines[0]
    with opened(path) as db:
        assert set(numbers(db)) == there


def test_a_full_disk_loses_nothing_and_writing_goes_on_when_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "koalja-test", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk takes root and CAP_SYS_ADMIN; run the tests in such a container")
    try:
        (disk / "ballast").write_bytes(b"x" * 100_000)
        process = child(FILLS_UP, disk / "t.db", disk / "ballast")
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        there, lines = acknowledged(output)
        assert len(there) > 20
        assert any("free some disk space" in line for line in lines)
        assert 7777 in there
        with opened(disk / "t.db") as db:
            assert set(numbers(db)) == there
    finally:
        subprocess.run(["umount", str(disk)], check=True)
