"""Small payloads as rows of one SQLite file, so that one wait for the disk serves many of them."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from koalja_fn.errors import NewerRegistry, RegistryError, StoreError
from koalja_fn.sqlite import Database, Tx

# Up to this many bytes a row is faster than a file of its own, to write and to read.
SMALL = 16 << 10
_PAGE = 500
# What was just put is soon wanted by a program: so many of the newest stay in memory (4 MiB at most).
_RECENT = 256

_MIGRATIONS = [
    "CREATE TABLE small (digest BLOB NOT NULL UNIQUE, data BLOB NOT NULL) STRICT;\n",
]


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
        with _as_store_error():
            row = self._db.peek(
                lambda tx: tx.one("SELECT data FROM small WHERE digest = ?", bytes.fromhex(name))
            )
        if row is None:
            return None
        data: bytes = row[0]
        if hashlib.sha256(data).hexdigest() != name:
            raise StoreError(
                f"payload sha256:{name} is damaged",
                why=f"its row in {self.path} has other bytes",
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
        with _as_store_error():
            row = self._db.peek(
                lambda tx: tx.one("SELECT length(data) FROM small WHERE digest = ?", bytes.fromhex(name))
            )
        return None if row is None else int(row[0])

    def delete(self, name: str) -> None:
        """Forget the payload."""
        self._forget(name)
        with _as_store_error():
            self._db.transact(lambda tx: tx.run("DELETE FROM small WHERE digest = ?", bytes.fromhex(name)))

    def delete_many(self, names: Sequence[str]) -> None:
        """Forget payloads, in one transaction."""
        for name in names:
            self._forget(name)
        rows = [(bytes.fromhex(name),) for name in names]
        with _as_store_error():
            self._db.transact(lambda tx: tx.many("DELETE FROM small WHERE digest = ?", rows))

    def names(self) -> Iterator[str]:
        """Yield all digests, a page at a time."""
        last = b""
        while True:
            with _as_store_error():
                rows = self._db.read(
                    lambda tx, after=last: tx.all(  # type: ignore[misc]
                        "SELECT digest FROM small WHERE digest > ? ORDER BY digest LIMIT ?", after, _PAGE
                    )
                )
            if not rows:
                return
            for (digest,) in rows:
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
        """Close the file."""
        self._db.close()


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
    tx.many(
        "INSERT INTO small (digest, data) VALUES (?, ?)"
        " ON CONFLICT (digest) DO UPDATE SET data = excluded.data WHERE data IS NOT excluded.data",
        [(bytes.fromhex(name), data) for name, data in missing.items()],
    )
    return set(missing)
