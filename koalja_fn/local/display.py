"""Showing a run while it goes on: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from koalja_fn.engine.executing import Executed
from koalja_fn.engine.serving import LISTENING

if TYPE_CHECKING:
    from koalja_fn.local.session import Session

_REFRESH = 0.25
_LINES = 8


class Display(Protocol):
    """Where a run tells what happens."""

    def begin(self, session: Session) -> None:
        """The session has begun."""

    def ended(self, executed: Executed) -> None:
        """An attempt has ended; called from many threads."""

    def say(self, text: str) -> None:
        """Something that a person should read; called from many threads."""

    def end(self) -> None:
        """Nothing more will come."""


def fits(stream: TextIO) -> bool:
    """Whether a live table makes sense on the stream."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and not os.environ.get("CI")


@contextmanager
def _nobody_need_listen() -> Iterator[None]:
    """The circuit goes on where nobody reads what is told: a pipe to `head`, a terminal that was closed."""
    with suppress(OSError, ValueError):
        yield


def line(executed: Executed) -> str:
    """One line about an attempt."""
    claim, ending = executed.claim, executed.ending
    made: dict[str, int] = {}
    for value in ending.values:
        made[value.wire] = made.get(value.wire, 0) + 1
    what = ", ".join(f"{wire} {count}" for wire, count in sorted(made.items()))
    text = f"{claim.plan.name} #{claim.number + 1} {executed.outcome} {ending.seconds:.3f} s"
    if executed.outcome == LISTENING:
        return f"{text}, at {ending.message}"
    if executed.outcome == "done":
        text += ", cached" if ending.reason == "cached" else ""
        return text + (f" -> {what}" if what else "")
    again = ""
    if executed.due is not None:
        pause = max(0.0, executed.due / 1e6 - time.time())
        again = f"; again in {pause:.{0 if pause >= 1 else 1}f} s"
    first = ending.message.splitlines()[0] if ending.message else ending.reason
    return f"{text} (attempt {claim.attempt}): {first}{again}"


class Plain:
    """Lines on a stream. `quiet` leaves out what went well."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._lock = threading.Lock()

    def begin(self, session: Session) -> None:
        """Nothing to prepare."""

    def ended(self, executed: Executed) -> None:
        """Tell of an attempt."""
        if not (self._quiet and executed.outcome in ("done", LISTENING)):
            self.say(line(executed))

    def say(self, text: str) -> None:
        """Write a line with the time."""
        with self._lock, _nobody_need_listen():
            print(f"{time.strftime('%H:%M:%S')} {text}", file=self._stream, flush=True)

    def end(self) -> None:
        """Nothing to clean up."""


class Live:
    """A table of the tasks that is drawn again while it changes, with the latest lines below."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._seconds: dict[str, float] = {}
        self._session: Session | None = None
        self._live: Any = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, session: Session) -> None:
        """Draw, and go on drawing."""
        from rich.console import Console
        from rich.live import Live as RichLive

        self._session = session
        self._live = RichLive(
            self._draw(), console=Console(file=self._stream), auto_refresh=False, transient=False
        )
        self._live.start()
        self._thread = threading.Thread(target=self._refresh, name="display", daemon=True)
        self._thread.start()

    def ended(self, executed: Executed) -> None:
        """Remember an attempt for the next drawing."""
        self._seconds[executed.claim.plan.name] = executed.ending.seconds
        if executed.outcome != "done":
            self.say(line(executed))

    def say(self, text: str) -> None:
        """Remember a line for the next drawing."""
        self._lines.append(f"{time.strftime('%H:%M:%S')} {text}")
        if self._session is None:
            with _nobody_need_listen():
                print(text, file=self._stream, flush=True)

    def end(self) -> None:
        """Draw for the last time."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            with _nobody_need_listen():
                self._live.update(self._draw(), refresh=True)
                self._live.stop()

    def _refresh(self) -> None:
        with _nobody_need_listen():
            while not self._stop.wait(_REFRESH):
                self._live.update(self._draw(), refresh=True)

    def _draw(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        assert self._session is not None
        table = Table(title=self._session.workplace.plan.circuit.name, title_justify="left", box=None)
        for column in ("task", "waiting", "ready", "running", "done", "dead", "last"):
            table.add_column(column, justify="left" if column == "task" else "right")
        for row in self._session.counts():
            dead = Text(str(row.dead), style="bold red" if row.dead else "")
            seconds = self._seconds.get(row.task)
            last = f"{seconds:.3f} s" if seconds is not None else ""
            numbers = (row.waiting, row.ready, row.running, row.done)
            table.add_row(row.task, *(str(number) for number in numbers), dead, last)
        return Group(table, *(Text(text, style="dim") for text in self._lines))
