"""How a packing is told: a live table on a terminal, plain lines elsewhere; both on standard error."""

from __future__ import annotations

import os
import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

if TYPE_CHECKING:
    from koalja_fn.pack.packing import Packed

_REFRESH = 0.1
_LINE = 70


def fits(stream: TextIO) -> bool:
    """Whether lines may be drawn again there."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def summary(packed: Packed) -> str:
    """One line about a task that is packed."""
    if not packed.changed:
        return f"{packed.task}: unchanged ({packed.seconds:.2f} s)"
    moved = f"{size(packed.sent)} sent, {size(packed.spared)} there already"
    return f"{packed.task}: packed, {moved} ({packed.seconds:.2f} s)"


def size(count: int) -> str:
    """Bytes for people."""
    number = float(count)
    for unit in ("B", "KB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


class Plain:
    """Lines, one for each thing that is worth one."""

    def __init__(self, *, verbose: bool = False, stream: TextIO | None = None) -> None:
        self._verbose = verbose
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()

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

    def step(self, task: str, text: str) -> None:
        """What a buildpack says is for those who ask for it."""
        if self._verbose:
            self.say("\n".join(f"{task}: {line}" for line in text.splitlines()))
        elif text.startswith("no sandbox"):
            self.say(f"{task}: {text}")

    def warn(self, task: str, text: str) -> None:
        """A warning."""
        self.say(f"{task}: warning: {text}")

    def moved(self, task: str, count: int) -> None:
        """Bytes are told at the end."""

    def done(self, packed: Packed) -> None:
        """A task's last line."""
        self.say(summary(packed))


class Live(Plain):
    """A table of the tasks at work, with lines for what is done above it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream=stream)
        self._rows: dict[str, list[Any]] = {}
        self._live: Any = None

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.live import Live as RichLive

        self._live = RichLive(
            console=Console(file=self._stream), refresh_per_second=1 / _REFRESH, get_renderable=self._draw
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

    def step(self, task: str, text: str) -> None:
        """The latest line of a task."""
        if text.startswith("no sandbox"):
            self.say(f"{task}: {text}")
        with self._lock:
            self._rows.setdefault(task, ["", 0])[0] = text.strip().splitlines()[-1] if text.strip() else ""

    def moved(self, task: str, count: int) -> None:
        """Bytes that have left."""
        with self._lock:
            self._rows.setdefault(task, ["", 0])[1] += count

    def done(self, packed: Packed) -> None:
        """From the table to the lines."""
        with self._lock:
            self._rows.pop(packed.task, None)
        self.say(summary(packed))

    def _draw(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        with self._lock:
            for task, (text, sent) in sorted(self._rows.items()):
                table.add_row(
                    Text(task, style="bold"),
                    Text(text[:_LINE]),
                    Text(size(sent) if sent else "", style="dim"),
                )
        return table
