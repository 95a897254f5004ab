"""Holding a circuit's folder: one process at a time forms, runs or makes in it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from koalja_fn.errors import Busy, StoreError
from koalja_fn.local.opening import state_folder


@contextmanager
def hold(folder: Path, patience: float = 0.0) -> Iterator[Path]:
    """Hold the folder while in the block; give its state folder, made if need be.

    The lock goes with the process, however it ends.

    Raises:
        Busy: Another process has it, and still has after `patience` seconds.
        StoreError: Its state folder can't be made or written to.
    """
    state = state_folder(folder)
    _make(state)
    with _lock_file(state) as file:
        until = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    file.seek(0)
                    holder = file.read().strip()
                    raise Busy(
                        f"{state.parent} is in use by another koalja-fn",
                        why=f"process {holder} has it" if holder else "",
                        cure="send values to it with `koalja-fn send`, or stop it first",
                    ) from None
                time.sleep(0.05)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield state


def state_of(folder: Path) -> Path:
    """The state folder of a circuit's folder, made where it is not there; it is nobody's then.

    Raises:
        StoreError: It can't be made.
    """
    state = state_folder(folder)
    _make(state)
    return state


def _make(state: Path) -> None:
    try:
        state.mkdir(exist_ok=True)
        ignore = state / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
    except OSError as error:
        raise StoreError(
            f"can't make {state}",
            why=error.strerror or str(error),
            cure="run in a folder that you may write to, on a disk with room",
        ) from error


def _lock_file(state: Path) -> TextIO:
    try:
        return open(state / "lock", "a+")
    except OSError as error:
        raise StoreError(
            f"can't write to {state}",
            why=error.strerror or str(error),
            cure="run it as the user whose folder this is, or copy the folder without .koalja",
        ) from error
