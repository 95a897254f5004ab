"""Fetching: the bytes of a value, made again where they were purged."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

from koalja_fn.engine.attaching import attach
from koalja_fn.engine.rebirth import Rebirth
from koalja_fn.errors import KoaljaError, StoreError
from koalja_fn.local.opening import Shared, Where, state_folder
from koalja_fn.model import AnnotatedValue
from koalja_fn.program.calling import Caller
from koalja_fn.program.folder import open_circuit
from koalja_fn.program.locating import Located
from koalja_fn.registry import Registry
from koalja_fn.store import Store


@contextmanager
def payload(where: Where, registry: Registry, store: Store, value: AnnotatedValue) -> Iterator[BinaryIO]:
    """A value's bytes, open for reading.

    Raises:
        StoreError: They are purged, and can't be made again here; it says why.
    """
    if not store.has(value.digest):
        if value.source.startswith(f"/circuits/{value.circuit}/made/"):
            raise StoreError(
                f"the payload of value {value.id[:12]} of wire {value.wire} is purged or missing",
                why="`make` made or sampled it",
                cure=f"koalja-fn make DIR {value.wire}, which makes what is not there again",
            )
        folder = Path.cwd() if isinstance(where, Shared) else where.resolve()
        with (
            tempfile.TemporaryDirectory() as scratch,
            closing(Caller(store, _scratch(where, Path(scratch)))) as caller,
        ):
            codes = _codes(folder, value.circuit)
            plan = registry.read(lambda tx: attach(tx, value.circuit, codes, folder)).plan
            Rebirth(registry, store, caller, plan).bring([value])
    with store.open(value.digest) as file:
        yield file


def _scratch(where: Where, temporary: Path) -> Path:
    return temporary if isinstance(where, Shared) else state_folder(where) / "scratch"


def _codes(folder: Path, circuit: str) -> dict[str, Located]:
    """The programs in a folder, if it is this circuit's; those that can't be found are left out."""
    try:
        opened = open_circuit(folder)
    except KoaljaError:
        return {}
    if opened.circuit is None or opened.circuit.name != circuit:
        return {}
    return dict(opened.located)
