"""Writing: the values of wires with `to` come where it says, each only where it is not there already."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from koalja_fn.addresses import check_sink
from koalja_fn.engine.targets import target
from koalja_fn.errors import StoreError
from koalja_fn.model import AnnotatedValue, is_address
from koalja_fn.pull.opening import Compiled
from koalja_fn.store import Store
from koalja_fn.store.outlet import Outlet


def write_sinks(
    found: Compiled, store: Store, values: Mapping[str, Sequence[AnnotatedValue]]
) -> dict[str, dict[str, Path | str]]:
    """Write what is wanted; return for each wire with `to` the files, or objects' URLs, by the values' ids.

    Raises:
        StoreError: Something can't be written.
    """
    written: dict[str, dict[str, Path | str]] = {}
    for wire, some in values.items():
        sink = found.circuit.wires[wire].sink
        if sink and is_address(sink):
            with closing(Outlet(check_sink(sink))) as outlet:
                written[wire] = {
                    value.id: outlet.write(value, partial(store.open, value.digest), streamed=False)
                    for value in some
                }
        elif sink:
            places = written[wire] = {}
            for value in some:
                path = places[value.id] = target(sink, found.folder, value)
                if not _is_there(path, value):
                    _write(store, value, path)
    return written


def _is_there(path: Path, value: AnnotatedValue) -> bool:
    try:
        if path.stat().st_size != value.size:
            return False
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest() == value.digest
    except OSError:
        return False


def _write(store: Store, value: AnnotatedValue, path: Path) -> None:
    temporary = path.with_name(f".{value.id[:24]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        with store.open(value.digest) as source, open(temporary, "xb") as copy:
            while block := source.read(1 << 20):
                copy.write(block)
        os.replace(temporary, path)  # noqa: PTH105
    except OSError as error:
        raise StoreError(
            f"{path}: can't write a value of wire {value.wire}",
            why=error.strerror or str(error),
            cure="make room, or mend `to` in the wiring",
        ) from error
