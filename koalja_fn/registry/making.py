"""Statements of pull mode: what was made, from what, and which files were read before."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from koalja_fn.model import AnnotatedValue
from koalja_fn.registry import purging
from koalja_fn.registry.registry import Transaction

_PAGE = 500
_VALUE = "id, made, circuit, wire, idx, digest, size, type, name, lineage, hops, at, path"


@dataclass(frozen=True, slots=True)
class Made:
    """An execution in pull mode. `key` identifies it, `took` is in µs, `told` says what it was made from."""

    key: str
    circuit: str
    task: str
    version: str
    run: int
    at: int
    took: int
    told: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file as it was when it was read. Times in ns."""

    size: int
    mtime: int
    ctime: int
    inode: int
    digest: str


def begin_run(tx: Transaction, circuit: str, now: int, wanted: Iterable[str]) -> int:
    """A new run's number; the runs of a registry count from 1."""
    words = " ".join(wanted)
    while True:
        row = tx.one("SELECT max(number) FROM make_run")
        number = int(row[0] or 0) + 1 if row else 1
        # Another machine may have begun one in this moment, and have the number.
        if tx.run(
            "INSERT INTO make_run (number, circuit, begun, wanted) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (number) DO NOTHING",
            number,
            circuit,
            now,
            words,
        ):
            return number


def end_run(tx: Transaction, number: int, now: int, executed: int, cached: int, failed: int) -> None:
    """Record how a run came out."""
    tx.run(
        "UPDATE make_run SET ended = ?, executed = ?, cached = ?, failed = ? WHERE number = ?",
        now,
        executed,
        cached,
        failed,
        number,
    )


def keep(tx: Transaction, made: Made, values: Iterable[AnnotatedValue]) -> None:
    """Keep an execution and its values; what was known under its key before is replaced.

    Raises:
        Purged: Payloads of its values are purged, or were.
    """
    values = tuple(values)
    purging.spare(tx, [value.digest for value in values])
    # First, since it locks the row: two machines may have made the same, and each has values to replace.
    tx.run(
        "INSERT INTO made (id, circuit, task, version, run, at, took, told) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET circuit = excluded.circuit, task = excluded.task,"
        " version = excluded.version, run = excluded.run, at = excluded.at, took = excluded.took,"
        " told = excluded.told",
        made.key,
        made.circuit,
        made.task,
        made.version,
        made.run,
        made.at,
        made.took,
        json.dumps(made.told, ensure_ascii=False),
    )
    tx.run("DELETE FROM made_value WHERE made = ?", made.key)
    _keep_values(tx, made.key, [(value, "") for value in values])


def keep_samples(tx: Transaction, values: Iterable[tuple[AnnotatedValue, str]]) -> None:
    """Keep files that were sampled: values and the paths that they came from."""
    values = tuple(values)
    purging.unmark(tx, [value.digest for value, _ in values])
    _keep_values(tx, "", values)


def _keep_values(tx: Transaction, made: str, values: Iterable[tuple[AnnotatedValue, str]]) -> None:
    tx.many(
        f"INSERT INTO made_value ({_VALUE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO NOTHING",
        [
            (
                value.id,
                made,
                value.circuit,
                value.wire,
                value.index,
                value.digest,
                value.size,
                value.type,
                value.name,
                value.key,
                value.hops,
                value.arrived,
                path,
            )
            for value, path in values
        ],
    )


def made(tx: Transaction, key: str) -> Made | None:
    """The execution of that key."""
    row = tx.one("SELECT id, circuit, task, version, run, at, took, told FROM made WHERE id = ?", key)
    if row is None:
        return None
    return Made(row[0], row[1], row[2], row[3], row[4], row[5], row[6], json.loads(row[7]))


def made_before(tx: Transaction, one: Made) -> Made | None:
    """The latest execution of the task in an earlier run, of those with files of the same places if any."""
    rows = tx.all(
        "SELECT id, circuit, task, version, run, at, took, told FROM made"
        " WHERE circuit = ? AND task = ? AND run < ? ORDER BY run DESC, at DESC LIMIT 200",
        one.circuit,
        one.task,
        one.run,
    )
    found = [Made(r[0], r[1], r[2], r[3], r[4], r[5], r[6], json.loads(r[7])) for r in rows]
    return next((m for m in found if _places(m) == _places(one)), found[0] if found else None)


def _places(one: Made) -> list[list[str]]:
    """Where the files of an execution's inputs lay."""
    return [[value[1] for value in some] for some in one.told["inputs"].values()]


def forget(tx: Transaction, key: str) -> None:
    """Forget an execution: what it made is not there any more."""
    tx.run("DELETE FROM made_value WHERE made = ?", key)
    tx.run("DELETE FROM made WHERE id = ?", key)


def known(tx: Transaction, keys: Sequence[str]) -> set[str]:
    """Those of the keys under which an execution is kept."""
    found: set[str] = set()
    for begin in range(0, len(keys), _PAGE):
        some = keys[begin : begin + _PAGE]
        rows = tx.all(f"SELECT id FROM made WHERE id IN ({', '.join('?' * len(some))})", *some)
        found.update(row[0] for row in rows)
    return found


def values_of(tx: Transaction, key: str) -> list[AnnotatedValue]:
    """What an execution made, by wire and index."""
    rows = tx.all(f"SELECT {_VALUE} FROM made_value WHERE made = ? ORDER BY wire, idx", key)
    return [_value(row) for row in rows]


def values_like(tx: Transaction, start: str, most: int) -> list[tuple[AnnotatedValue, str]]:
    """Values whose id begins so, and the paths of those that were sampled."""
    rows = tx.all(
        f"SELECT {_VALUE} FROM made_value WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        start,
        start + "g",  # ids are hexadecimal
        most,
    )
    return [(_value(row), row[12]) for row in rows]


def values_with(tx: Transaction, digest: str, most: int) -> list[tuple[AnnotatedValue, str]]:
    """Values with these bytes, newest first, and the paths of those that were sampled."""
    rows = tx.all(
        f"SELECT {_VALUE} FROM made_value WHERE digest = ? ORDER BY at DESC, id LIMIT ?", digest, most
    )
    return [(_value(row), row[12]) for row in rows]


def _value(row: tuple[Any, ...]) -> AnnotatedValue:
    key, circuit, wire = row[1], row[2], row[3]
    return AnnotatedValue(
        id=row[0],
        circuit=circuit,
        wire=wire,
        position=row[4],
        source=f"/circuits/{circuit}/made/{wire}",
        created=row[11],
        arrived=row[11],
        digest=row[5],
        size=row[6],
        type=row[7],
        name=row[8],
        snapshot=key,
        key=row[9],
        index=row[4],
        hops=row[10],
    )


def last(tx: Transaction, circuit: str) -> dict[str, dict[int, str]]:
    """For each task which execution stood at each place of its snapshots when they were last made."""
    found: dict[str, dict[int, str]] = {}
    for task, number, key in tx.all("SELECT task, number, made FROM made_last WHERE circuit = ?", circuit):
        found.setdefault(task, {})[int(number)] = str(key)
    return found


def keep_last(tx: Transaction, circuit: str, task: str, keys: Mapping[int, str], count: int) -> None:
    """Record which execution stands at each place now; `count` is how many places there are."""
    tx.many(
        "INSERT INTO made_last (circuit, task, number, made) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (circuit, task, number) DO UPDATE SET made = excluded.made",
        [(circuit, task, number, key) for number, key in keys.items()],
    )
    tx.run("DELETE FROM made_last WHERE circuit = ? AND task = ? AND number >= ?", circuit, task, count)


def known_files(tx: Transaction) -> dict[str, KnownFile]:
    """All files that were read before."""
    rows = tx.all("SELECT path, size, mtime, ctime, inode, digest FROM known_file")
    return {row[0]: KnownFile(*row[1:]) for row in rows}


def keep_files(tx: Transaction, files: Mapping[str, KnownFile]) -> None:
    """Remember files as they were when they were read."""
    tx.many(
        "INSERT INTO known_file (path, size, mtime, ctime, inode, digest) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (path) DO UPDATE SET size = excluded.size, mtime = excluded.mtime,"
        " ctime = excluded.ctime, inode = excluded.inode, digest = excluded.digest",
        [(path, f.size, f.mtime, f.ctime, f.inode, f.digest) for path, f in files.items()],
    )
