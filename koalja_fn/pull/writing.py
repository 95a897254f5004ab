"""Writing: the values of wires with `to` come where it says, each only where it is not there already."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from koalja_fn.engine.targets import target
from koalja_fn.errors import StoreError
from koalja_fn.model import AnnotatedValue, is_address
from koalja_fn.pull.opening import Compiled
from koalja_fn.store import Store

_SOON = 1 << 20  # bytes
_CHUNK = 1 << 20
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Sinks:
    """Writes wires to where `to` says, once all their values are there.

    `written` has for each of them the files, or objects' URLs, by the values' ids.
    """

    def __init__(self, found: Compiled, store: Store) -> None:
        self._found = found
        self._store = store
        self.written: dict[str, dict[str, Path | str]] = {}

    def soon(self, wire: str, values: Sequence[AnnotatedValue]) -> None:
        """Write a wire while programs run, if that takes no time.

        Raises:
            StoreError: It can't be written.
        """
        sink = self._found.circuit.wires[wire].sink
        self.written.pop(wire, None)  # of a pass that found something damaged
        if sink and not is_address(sink) and sum(value.size for value in values) <= _SOON:
            self.written[wire] = self._files(sink, values)

    def rest(self, values: Mapping[str, Sequence[AnnotatedValue]]) -> None:
        """Write all that was not written so far.

        Raises:
            StoreError: Something can't be written.
        """
        for wire, some in values.items():
            sink = self._found.circuit.wires[wire].sink
            if sink and wire not in self.written:
                self.written[wire] = (
                    self._objects(sink, some) if is_address(sink) else self._files(sink, some)
                )

    def _files(self, sink: str, values: Sequence[AnnotatedValue]) -> dict[str, Path | str]:
        places: dict[str, Path | str] = {}
        for value in values:
            path = places[value.id] = target(sink, self._found.folder, value)
            if not _is_there(str(path), value):
                _write(self._store, value, str(path))
        return places

    def _objects(self, sink: str, values: Sequence[AnnotatedValue]) -> dict[str, Path | str]:
        from koalja_fn.addresses import check_sink
        from koalja_fn.store.outlet import Outlet

        with closing(Outlet(check_sink(sink))) as outlet:
            return {
                value.id: outlet.write(value, partial(self._store.open, value.digest), streamed=False)
                for value in values
            }


def _is_there(path: str, value: AnnotatedValue) -> bool:
    try:
        if os.stat(path).st_size != value.size:  # noqa: PTH116  # strings throughout: a third of the time
            return False
        with open(path, "rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest() == value.digest
    except OSError:
        return False


def _write(store: Store, value: AnnotatedValue, path: str) -> None:
    folder = os.path.dirname(path)  # noqa: PTH120
    temporary = f"{folder}/.{value.id[:24]}.part"
    try:
        with open(_created(folder, temporary), "wb", buffering=0) as copy:
            _copy(store, value, copy.fileno())
        os.replace(temporary, path)  # noqa: PTH105
    except OSError as error:
        raise StoreError(
            f"{path}: can't write a value of wire {value.wire}",
            why=error.strerror or str(error),
            cure="make room, or mend `to` in the wiring",
        ) from error


def _created(folder: str, temporary: str) -> int:
    """A new file; what an earlier run left there of it is removed, and its folder made if need be."""
    with suppress(FileExistsError, FileNotFoundError):
        return os.open(temporary, _NEW, 0o666)
    os.makedirs(folder, exist_ok=True)  # noqa: PTH103
    with suppress(FileNotFoundError):
        os.unlink(temporary)  # noqa: PTH108
    return os.open(temporary, _NEW, 0o666)


def _copy(store: Store, value: AnnotatedValue, fd: int) -> None:
    if value.size <= _CHUNK:
        data = memoryview(store.read(value.digest))
        while data:
            data = data[os.write(fd, data) :]
        return
    with store.open(value.digest) as source, open(fd, "wb", closefd=False) as copy:
        while block := source.read(_CHUNK):
            copy.write(block)
