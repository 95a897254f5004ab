"""How a deployment is told: what is waited for as a live table on a terminal, plain lines elsewhere.

Both on standard error; standard output has only what programs read.
"""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

_REFRESH = 5
_LINE = 90


class Teller(Protocol):
    """Who is told how it goes; from several threads."""

    def say(self, text: str) -> None:
        """Something that is done, or worth knowing."""

    def state(self, name: str, text: str) -> None:
        """How something is that is waited for; an empty text where it is waited for no longer."""


class Plain:
    """Lines, one for each thing that is worth one. What is waited for is told when its state changes."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()
        self._states: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def say(self, text: str) -> None:
        """A line."""
        with self._lock:
            print(text, file=self._stream, flush=True)

    def state(self, name: str, text: str) -> None:
        """A line, where something else is told than before."""
        if self._changed(name, text) and text:
            self.say(f"{name}: {text}")

    def _changed(self, name: str, text: str) -> bool:
        with self._lock:
            before = self._states.get(name, "")
            self._states[name] = text
            return before != text


class Live(Plain):
    """A table of what is waited for, below the lines of what is done."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._since: dict[str, float] = {}
        self._live: Any = None

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.live import Live as RichLive

        console = Console(file=self._stream)
        self._live = RichLive(
            console=console, refresh_per_second=_REFRESH, get_renderable=self._draw, transient=True
        )
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        self._live = None

    def say(self, text: str) -> None:
        """A line above the table."""
        if self._live is None:
            super().say(text)
        else:
            self._live.console.print(text, markup=False, highlight=False)

    def state(self, name: str, text: str) -> None:
        """A row of the table."""
        self._changed(name, text)
        with self._lock:
            self._since.setdefault(name, time.monotonic())

    def _draw(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        now = time.monotonic()
        with self._lock:
            for name, text in self._states.items():
                if text:
                    seconds = Text(f"{now - self._since[name]:.0f} s", style="dim")
                    table.add_row(Text(name, style="bold"), seconds, Text(text[:_LINE]))
        return table


def teller(*, live: bool) -> Plain:
    """The one that suits."""
    return Live() if live else Plain()
