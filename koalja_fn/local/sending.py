"""Values that people send by hand: from files, standard input and its lines, with ids drawn beforehand.

`run --in` gives them to the intake of its own process; `send` posts them to the running one, or takes
the intake of the folder where none is running. What is sent is the same `Event` on either way.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from koalja_fn import ids
from koalja_fn.engine.arriving import Receipt
from koalja_fn.errors import NotFound, Refused, UsageError
from koalja_fn.events import Event
from koalja_fn.local.intray import Talk, Trays, silent
from koalja_fn.local.offering import Intake, check_wire, offers_of, patiently, untyped_on
from koalja_fn.local.patterns import pattern
from koalja_fn.local.spool import IN_MEMORY, PREFIX, spool_stream
from koalja_fn.store.disk import explained

SOURCE = "/send"
SENT_TYPE = "dev.koalja.sent.v1"
LINE_LIMIT = 16 << 20
BATCH = 500
_BATCH_BYTES = 4 << 20
_SMALL_FILE = 64 << 10  # for the time of a request many of these can be sent


def draw() -> str:
    """A fresh event id, drawn before the first try."""
    return ids.fresh_event_id(time.time_ns() // 1000, os.urandom(10))


def event(payload: bytes | Path, content_type: str, *, name: str = "", created: int | None = None) -> Event:
    """An event for a payload, with a fresh id."""
    now = time.time_ns() // 1000
    moment = now if created is None else created
    return Event(payload, SOURCE, draw(), content_type, moment, name, "", {"type": SENT_TYPE})


def of_file(path: Path, content_type: str) -> Event:
    """An event for a file of the user's, which stays where it is.

    Raises:
        NotFound: There is no such file.
        UsageError: It is no regular file.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise NotFound(f"there is no file {path}", why=error.strerror or str(error)) from error
    if not path.is_file():
        raise UsageError(f"{path} is no regular file", cure="name files, or `-` for standard input")
    return event(path, content_type, name=path.name, created=status.st_mtime_ns // 1000)


def of_lines(stream: BinaryIO, content_type: str) -> Iterator[Event]:
    """An event for each line, without its line end; a last line without one counts, too."""
    for line in iter(lambda: stream.readline(LINE_LIMIT + 1), b""):
        if len(line) > LINE_LIMIT:
            raise Refused(
                f"a line is longer than {LINE_LIMIT} bytes",
                cure="send large values as files",
                http_status=413,
            )
        yield event(line.removesuffix(b"\n").removesuffix(b"\r"), content_type)


def in_batches(events: Iterable[Event]) -> Iterator[list[Event]]:
    """Events in groups that are small enough to be taken at once; a large file comes alone, and is streamed.

    Raises:
        NotFound: A file is not there any more.
    """
    group: list[Event] = []
    size = 0
    for one in events:
        length = _length(one.payload)
        large = isinstance(one.payload, Path) and length > _SMALL_FILE
        if group and (large or len(group) == BATCH or size + length > _BATCH_BYTES):
            yield group
            group, size = [], 0
        group.append(one)
        size += length
        if large:
            yield group
            group, size = [], 0
    if group:
        yield group


def _length(payload: bytes | Path) -> int:
    if isinstance(payload, bytes):
        return len(payload)
    try:
        return payload.stat().st_size
    except OSError as error:
        raise NotFound(f"there is no file {payload}", why=error.strerror or str(error)) from error


def give(intake: Intake, wire: str, events: Iterable[Event], spool: Path) -> list[Receipt]:
    """Give events to an intake at once; files are lent, for the intake keeps what it is given."""
    lent: list[Event] = []
    try:
        for one in events:
            lent.append(replace(one, payload=_lend(one.payload, spool)))
        return intake.accept(offers_of(lent, wire))
    finally:
        for one in lent:
            if isinstance(one.payload, Path):
                one.payload.unlink(missing_ok=True)


def feed(
    intake: Intake,
    text: str,
    *,
    folder: Path,
    spool: Path,
    stdin: BinaryIO,
    home: Path | None = None,
    stop: threading.Event | None = None,
    warn: Talk = silent,
) -> list[Receipt]:
    """Do what `--in WIRE=GLOB` or `--in WIRE=-` says.

    The glob is seen from `folder`, the files
    are known by their path from `home`, the circuit's folder.

    Files are observed as in an in-tray, so that doing it again gives no second value of the same state.

    Raises:
        UsageError: It is not of this form, or no file matches.
    """
    wire, equals, glob = text.partition("=")
    if not equals or not glob:
        raise UsageError(
            f"--in {text!r} is not of the form WIRE=GLOB", cure="--in 'wind=data/*.json', --in wind=-"
        )
    check_wire(intake.circuit, wire)
    stop = stop or threading.Event()
    if glob == "-":
        one = event(spool_stream(stdin, spool, 1 << 62), untyped_on(intake.circuit, wire))
        try:
            return patiently(lambda: give(intake, wire, [one], spool), stop) or []
        finally:
            if isinstance(one.payload, Path):
                one.payload.unlink(missing_ok=True)
    wanted = pattern(wire, glob, folder)
    if next(wanted.files(), None) is None:
        raise UsageError(f"--in {text}: no file matches", why=f"seen from {folder}", cure="quote the pattern")
    return Trays(intake, home or folder, [wanted], stop, warn, tries=3).take_all()


def feed_lines(
    intake: Intake, wire: str, stream: BinaryIO, *, spool: Path, stop: threading.Event | None = None
) -> Iterator[Receipt]:
    """Put each line of a stream on a wire, some hundred in one transaction."""
    check_wire(intake.circuit, wire)
    stop = stop or threading.Event()
    for group in in_batches(of_lines(stream, untyped_on(intake.circuit, wire))):
        receipts = patiently(lambda group=group: give(intake, wire, group, spool), stop)  # type: ignore[misc]
        if receipts is None:
            return
        yield from receipts


def _lend(payload: bytes | Path, spool: Path) -> bytes | Path:
    """A file that may be taken in place of the user's: another name of a spooled one, else a copy."""
    if isinstance(payload, bytes):
        return payload
    with explained(f"{payload} can't be read or copied"):
        if payload.stat().st_size <= IN_MEMORY:
            return payload.read_bytes()
        spool.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=PREFIX, dir=spool)
        try:
            with os.fdopen(descriptor, "wb") as target, payload.open("rb") as source:
                shutil.copyfileobj(source, target, 1 << 20)
        except BaseException:
            Path(name).unlink(missing_ok=True)  # half a copy would fill the disk that had no room for it
            raise
        return Path(name)
