"""How a deployment is told: what is waited for as a live table on a terminal, plain lines elsewhere.

Both on standard error; standard output has only what programs read.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

_REFRESH = 5
_LINE = 90
_LASTING = 8.0


class Teller(Protocol):
    """Who is told how it goes; from several threads."""

    def say(self, text: str) -> None:
        """Something that is done, or worth knowing."""

    def state(self, name: str, text: str) -> None:
        """How something is that is waited for; an empty text where it is waited for no longer."""


@dataclass
class _State:
    """What is told of something: since when just that, and since when anything."""

    text: str
    since: float
    begun: float
    told: bool = False


class Plain:
    """Lines, one for each thing that is worth one. Of what is waited for only what lasts is told."""

    def __init__(self, stream: TextIO | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()
        self._now = now
        self._states: dict[str, _State] = {}

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
        """A line, where the same is told for some seconds."""
        with self._lock:
            state = self._noted(name, text)
            lasts = bool(text) and not state.told and self._now() - state.since >= _LASTING
            state.told = state.told or lasts
        if lasts:
            self.say(f"{name}: {text}")

    def _noted(self, name: str, text: str) -> _State:
        state = self._states.get(name)
        if state is None or state.text != text:
            now = self._now()
            begun = state.begun if state is not None and state.text else now
            state = self._states[name] = _State(text, now, begun)
        return state


class Live(Plain):
    """A table of what is waited for, below the lines of what is done."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
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
        with self._lock:
            self._noted(name, text)

    def _draw(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        now = self._now()
        with self._lock:
            for name, state in self._states.items():
                if state.text:
                    seconds = Text(f"{now - state.begun:.0f} s", style="dim")
                    table.add_row(Text(name, style="bold"), seconds, Text(state.text[:_LINE]))
        return table


def teller(*, live: bool) -> Plain:
    """The one that suits."""
    return Live() if live else Plain()
