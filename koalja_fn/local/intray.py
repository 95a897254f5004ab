"""In-trays: files that match a wire's `from` become values, each state of a file once.

A file is taken when nobody has it open for writing and it has been left alone for a moment; where the
file system can't tell who writes, the moment alone decides. A writer that pauses for longer should
write under a name that does not match (`.tmp`, `.part`, a dot in front) and rename at the end, which is
the best way in any case. What a file holds later is a new value; what vanishes is no error.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from koalja_fn.engine.arriving import Receipt
from koalja_fn.errors import Full, KoaljaError, StoreError
from koalja_fn.local.offering import Intake, patiently
from koalja_fn.local.patterns import Pattern, in_trays
from koalja_fn.model import Circuit

SETTLE = 0.25  # seconds that a file must be left alone
AGAIN = 30.0  # seconds until all is looked at again, for file systems that tell nothing
PATIENCE = 10.0  # seconds that a scan waits for files that are being written
SOON = 1.0  # seconds until all is looked at again after a new folder
LATER = 5.0  # seconds until a file is tried again for which there was no room
_TICK = 250  # milliseconds
_F_SETSIG = 10

Talk: TypeAlias = Callable[[str], None]
_State: TypeAlias = tuple[int, int, int, int]


def silent(_: str) -> None:
    """Say nothing."""


def scan_once(
    intake: Intake,
    folder: Path,
    circuit: Circuit,
    *,
    stop: threading.Event | None = None,
    warn: Talk = silent,
) -> list[Receipt]:
    """Take all that is in the in-trays now, in the order of names.

    What is being written is waited for, `PATIENCE` seconds at most. While a backlog is full it waits,
    so that the engine should be running, or `stop` be set by somebody.

    Raises:
        StoreError: A file can't be read or kept.
    """
    patterns = in_trays(circuit, folder)
    return Trays(intake, folder, patterns, stop or threading.Event(), warn, tries=3).take_all()


def watch(
    intake: Intake,
    folder: Path,
    circuit: Circuit,
    *,
    warn: Talk = silent,
    taken: Callable[[Receipt], None] | None = None,
) -> Watcher:
    """Take what is in the in-trays, then whatever comes, in a thread of its own until `close`."""
    watcher = Watcher(intake, folder, in_trays(circuit, folder), warn, taken)
    watcher.start()
    return watcher


class Trays:
    """What is known about the files of some patterns: which were taken, and which are still being written."""

    def __init__(
        self,
        intake: Intake,
        folder: Path,
        patterns: list[Pattern],
        stop: threading.Event,
        warn: Talk,
        *,
        tries: int = 0,
    ) -> None:
        """`tries` is how often a file may fail before the error is raised; 0 for ever."""
        self.patterns = patterns
        self.stop = stop
        self.waiting: dict[tuple[str, Path], tuple[_State, float]] = {}
        self._intake = intake
        self._folder = folder.absolute()
        self._warn = warn
        self._taken: dict[tuple[str, Path], _State] = {}
        self._said: set[str] = set()
        self._tries = tries
        self._failed: dict[tuple[str, Path], int] = {}

    def take_all(self) -> list[Receipt]:
        """Take what is there, and wait a while for what is being written."""
        receipts: list[Receipt] = []
        self.look(receipts.append)
        until = time.monotonic() + PATIENCE
        while self.waiting and not self.stop.wait(SETTLE / 5):
            if time.monotonic() > until:
                names = ", ".join(str(path) for _, path in sorted(self.waiting)[:5])
                self._warn(f"not taken, since somebody is still writing: {names}")
                break
            self.look_again(receipts.append)
        return receipts

    def look(self, taken: Callable[[Receipt], None]) -> None:
        """Look at every file."""
        for pattern in self.patterns:
            if pattern.base.is_dir() and not os.access(pattern.base, os.R_OK | os.X_OK):
                self._once(f"nothing is taken from {pattern.base}: it can't be read (Permission denied)")
            there = list(pattern.files())
            for path in there:
                if self.stop.is_set():
                    return
                self.consider(pattern, path, taken)
            for key in {k for k in self._taken if k[0] == pattern.wire and k[1].is_relative_to(pattern.base)}:
                if not os.path.lexists(key[1]):
                    del self._taken[key]

    def look_again(self, taken: Callable[[Receipt], None]) -> None:
        """Look at the files that were being written, in the order of their names."""
        for wire, path in sorted(self.waiting):
            pattern = next(p for p in self.patterns if p.wire == wire and p.matches(path))
            self.consider(pattern, path, taken)

    def consider(self, pattern: Pattern, path: Path, taken: Callable[[Receipt], None]) -> None:
        """Take a file, if it is new or has changed, and finished."""
        key = (pattern.wire, path)
        try:
            status = path.stat()
            state = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            known = not stat.S_ISREG(status.st_mode) or self._taken.get(key) == state
            real = None if known else self._inside(pattern, path)
        except (OSError, RuntimeError):  # gone, or a link to nowhere or in a ring
            real = None
        if real is None:
            self.waiting.pop(key, None)
            return
        since, ready = self.waiting.get(key, (None, 0.0))
        if since != state:
            ready = time.monotonic() + SETTLE
            self.waiting[key] = (state, ready)
        quiet = key not in self._failed and time.time() - state[3] / 1e9 > SETTLE
        rested = quiet or time.monotonic() >= ready
        if not rested or _being_written(real):
            return
        del self.waiting[key]
        self._take(pattern.wire, path, real, state, taken)

    def _take(
        self, wire: str, path: Path, real: Path, state: _State, taken: Callable[[Receipt], None]
    ) -> None:
        name = str(path.relative_to(self._folder)) if path.is_relative_to(self._folder) else str(path)
        try:
            receipt = patiently(lambda: self._intake.observe(wire, real, name=name), self.stop, self._full)
        except FileNotFoundError:
            return
        except PermissionError as error:
            self._once(f"{path} can't be read: {error}")
            self._taken[(wire, path)] = state
        except StoreError as error:
            failed = self._failed[(wire, path)] = self._failed.get((wire, path), 0) + 1
            if self._tries and failed >= self._tries:
                raise
            self._once(f"{path} is not taken yet: {error}")
            self.waiting[(wire, path)] = (state, time.monotonic() + (SETTLE if self._tries else LATER))
        except KoaljaError as error:
            self._once(f"{path} is not taken: {error}")
            self._taken[(wire, path)] = state
        else:
            if self.stop.is_set() and receipt is None:
                return
            self._taken[(wire, path)] = state
            self._failed.pop((wire, path), None)
            if receipt is not None:
                taken(receipt)

    def _inside(self, pattern: Pattern, path: Path) -> Path | None:
        """The file itself, behind all links; None if that is not in the in-tray."""
        real = path.resolve(strict=True)
        if real.is_relative_to(pattern.base.resolve()):
            return real
        self._once(f"{path} is not taken: it is a link to {real}, out of the in-tray {pattern.base}")
        return None

    def _full(self, full: Full) -> None:
        self._once(f"in-trays wait: {full.what}")

    def _once(self, text: str) -> None:
        if text not in self._said and len(self._said) < 10_000:
            self._said.add(text)
            self._warn(text)


class Watcher:
    """The thread behind `watch`."""

    def __init__(
        self,
        intake: Intake,
        folder: Path,
        patterns: list[Pattern],
        warn: Talk,
        taken: Callable[[Receipt], None] | None,
    ) -> None:
        self._stop = threading.Event()
        self._trays = Trays(intake, folder, patterns, self._stop, warn)
        self._taken = taken or _ignore
        self._warn = warn
        self._thread = threading.Thread(target=self._run, name="koalja-intrays", daemon=True)

    def start(self) -> None:
        """Begin; without patterns there is nothing to do."""
        if self._trays.patterns:
            self._thread.start()

    def close(self, timeout: float = 5.0) -> None:
        """End; what was not taken is taken by the next run."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                folders = self._folders()
                if folders:
                    self._listen(folders)
                else:
                    self._stop.wait(_TICK / 1000)
            except Exception as error:  # the thread must live: in-trays that die silently lose data
                self._warn(f"in-trays: {type(error).__name__}: {error}")
                self._stop.wait(1)

    def _listen(self, folders: dict[Path, tuple[int, int]]) -> None:
        """Follow the changes until a folder comes or goes."""
        from watchfiles import watch as follow

        due = 0.0
        deep = any(p.deep for p in self._trays.patterns)
        changes = follow(
            *folders,
            watch_filter=None,
            debounce=200,
            step=50,
            stop_event=self._stop,
            rust_timeout=_TICK,
            yield_on_timeout=True,
            raise_interrupt=False,
            recursive=deep,
        )
        with contextlib.closing(changes) as batches:
            for batch in batches:
                if time.monotonic() >= due:  # the first time, too: the watch is in place by now
                    self._trays.look(self._taken)
                    due = time.monotonic() + AGAIN
                paths = sorted({Path(name) for _, name in batch})
                if deep and any(path.is_dir() for path in paths):
                    # What was made in a new folder before it was watched shows in no later batch.
                    due = min(due, time.monotonic() + SOON)
                    self._trays.look(self._taken)
                for path in paths:
                    for pattern in self._trays.patterns:
                        if pattern.matches(path):
                            self._trays.consider(pattern, path, self._taken)
                self._trays.look_again(self._taken)
                if self._stop.is_set() or self._folders() != folders:
                    return

    def _folders(self) -> dict[Path, tuple[int, int]]:
        """The folders that are there, with what tells a folder from another of the same name."""
        found = {}
        for pattern in self._trays.patterns:
            with contextlib.suppress(OSError):
                status = pattern.base.stat()
                if stat.S_ISDIR(status.st_mode):
                    found[pattern.base] = (status.st_dev, status.st_ino)
        return found


def _ignore(_: Receipt) -> None:
    pass


def _being_written(path: Path) -> bool:
    """Whether somebody has the file open for writing, where the kernel tells.

    A read lease is granted only if nobody has, and it is given back at once. The signal of a lease
    being broken in between is set to one that is ignored by default, since its usual one would end us.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False  # whoever reads it next says why
    try:
        fcntl.fcntl(descriptor, _F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:  # not our file, or a file system without leases
        return False
    finally:
        os.close(descriptor)
    return False
