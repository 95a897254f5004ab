"""Small payloads as rows of one SQLite file, so that one wait for the disk serves many of them.

Beside it there may be a second file, in which somebody else keeps what names the payloads. Payloads that
are put within a transaction of that file become durable with it: one wait for the disk serves both.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from koalja_fn.errors import NewerRegistry, RegistryError, StoreError
from koalja_fn.sqlite import Database, Tx
from koalja_fn.store.protocol import Statements

# Up to this many bytes a row is faster than a file of its own, to write and to read.
SMALL = 16 << 10
_PAGE = 500
# What was just put is soon wanted by a program: so many of the newest stay in memory (4 MiB at most).
_RECENT = 256

_TABLE = "small (digest BLOB NOT NULL UNIQUE, data BLOB NOT NULL) STRICT"
_MIGRATIONS = [f"CREATE TABLE {_TABLE};\n"]
_INSERT = (
    "INSERT INTO small (digest, data) VALUES (?, ?)"
    " ON CONFLICT (digest) DO UPDATE SET data = excluded.data WHERE data IS NOT excluded.data"
)
_DELETE = "DELETE FROM small WHERE digest = ?"


@contextmanager
def _as_store_error() -> Iterator[None]:
    try:
        yield
    except NewerRegistry:
        raise
    except RegistryError as error:
        raise StoreError(error.what, why=error.why, cure=error.cure) from error


class SmallRows:
    """Payloads by the 64 digits of their digest."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._recent: OrderedDict[str, bytes] = OrderedDict()
        self._remembering = threading.Lock()
        with _as_store_error():
            self._db = Database(path, migrations=_MIGRATIONS, application="koalja-store")
        self._files = [self._db]
        self._close_beside: Callable[[], None] = lambda: None

    def join(self, beside: Database, close: Callable[[], None]) -> None:
        """Keep payloads in another file, too; `close` is called at the end."""
        with _as_store_error():
            if not beside.peek(_has_table):
                beside.transact(lambda tx: tx.do(f"CREATE TABLE IF NOT EXISTS {_TABLE}"))
        self._files = [beside, self._db]
        self._close_beside = close

    @property
    def is_joined(self) -> bool:
        """Whether there is a file beside it."""
        return len(self._files) > 1

    def put_within(self, tx: Statements, payloads: Sequence[tuple[str, bytes]]) -> int:
        """Keep payloads with a transaction of the file beside; return how many bytes were new."""
        new = 0
        for name, data in payloads:
            if tx.run(_INSERT, bytes.fromhex(name), data):
                new += len(data)
            self._remember(name, data)
        return new

    def put(self, payloads: Sequence[tuple[str, bytes]]) -> set[str]:
        """Keep payloads in one transaction; return the digests that were new."""
        wanted = dict(payloads)
        with _as_store_error():
            there = self._db.peek(lambda tx: _present(tx, wanted))
            missing = {name: data for name, data in wanted.items() if name not in there}
            new = self._db.transact(lambda tx: _insert(tx, missing)) if missing else set()
        for name, data in payloads[-_RECENT:]:
            self._remember(name, data)
        return new

    def get(self, name: str) -> bytes | None:
        """Return the payload; None if there is none.

        Raises:
            StoreError: The row's bytes have another digest.
        """
        recent = self._recent.get(name)
        if recent is not None:
            return recent
        found = self._row("SELECT data FROM small WHERE digest = ?", name)
        if found is None:
            return None
        data: bytes
        data, path = found
        if hashlib.sha256(data).hexdigest() != name:
            raise StoreError(
                f"payload sha256:{name} is damaged",
                why=f"its row in {path} has other bytes",
                cure="send or make the value again, or restore the file from a copy",
            )
        self._remember(name, data)
        return data

    def verify(self, name: str) -> bool:
        """Whether the payload is there and has its digest, on the disk and not only in memory."""
        self._forget(name)
        return self.get(name) is not None

    def size(self, name: str) -> int | None:
        """Return how many bytes the payload has; None if there is none."""
        found = self._row("SELECT length(data) FROM small WHERE digest = ?", name)
        return None if found is None else int(found[0])

    def _row(self, sql: str, name: str) -> tuple[Any, Path] | None:
        """What the first row of that digest has, and the file that has it."""
        digest = bytes.fromhex(name)
        for file in self._files:
            with _as_store_error():
                row = file.peek(lambda tx: tx.one(sql, digest))
            if row is not None:
                return row[0], file.path
        return None

    def delete_many(self, names: Sequence[str], within: Statements | None = None) -> None:
        """Forget payloads; `within` is a transaction of the file beside that is under way."""
        for name in names:
            self._forget(name)
        rows = [(bytes.fromhex(name),) for name in names]
        with _as_store_error():
            for file in self._files:
                if within is not None and file is not self._db:
                    within.many(_DELETE, rows)
                else:
                    file.transact(lambda tx: tx.many(_DELETE, rows))

    def names(self) -> Iterator[str]:
        """Yield all digests, a page at a time."""
        for file in self._files:
            last = b""
            while True:
                with _as_store_error():
                    rows = file.peek(
                        lambda tx, after=last: tx.all(  # type: ignore[misc]
                            "SELECT digest FROM small WHERE digest > ? ORDER BY digest LIMIT ?", after, _PAGE
                        )
                    )
                if not rows:
                    break
                for (digest,) in rows:
                    if file is self._files[0] or self._files[0].peek(_has(digest)) is None:
                        yield digest.hex()
                last = rows[-1][0]

    def _remember(self, name: str, data: bytes) -> None:
        with self._remembering:
            self._recent[name] = data
            if len(self._recent) > _RECENT:
                self._recent.popitem(last=False)

    def _forget(self, name: str) -> None:
        with self._remembering:
            self._recent.pop(name, None)

    def close(self) -> None:
        """Close the files."""
        self._db.close()
        self._close_beside()


def _has(digest: bytes) -> Callable[[Tx], tuple[Any, ...] | None]:
    return lambda tx: tx.one("SELECT 1 FROM small WHERE digest = ?", digest)


def _has_table(tx: Tx) -> bool:
    return tx.one("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'small'") is not None


def _present(tx: Tx, wanted: dict[str, bytes]) -> set[str]:
    """Rows that are there with the right bytes.

    The bytes are compared, not only the digests: a damaged row is then mended by `_insert`.
    """
    found = set()
    for name, data in wanted.items():
        row = tx.one("SELECT 1 FROM small WHERE digest = ? AND data = ?", bytes.fromhex(name), data)
        if row is not None:
            found.add(name)
    return found


def _insert(tx: Tx, missing: dict[str, bytes]) -> set[str]:
    tx.many(_INSERT, [(bytes.fromhex(name), data) for name, data in missing.items()])
    return set(missing)
