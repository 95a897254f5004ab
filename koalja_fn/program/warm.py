"""Warm starts: Python programs are forked from templates, anything else is spawned.

The first execution of a program is a cold start. With the second a template is begun beside it, and
executions are cold starts until it is ready. What can't be forked stays cold, and is told once.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from koalja_fn.program.cancel import Cancel
from koalja_fn.program.pythonic import Python, Unusual, recognised
from koalja_fn.program.scratch import remove
from koalja_fn.program.starting import Process, Spawning, Start, Starter
from koalja_fn.program.template import Broken, Template, Unfit

_MOST = 16
_SEATS = 512
_FORKS = 10_000
_LONGEST = 100_000
_SECONDS = 60.0
_IDLE = 300.0
_PATIENCE = 60.0

Key = tuple[Python, tuple[tuple[str, str], ...]]


@dataclass(slots=True)
class _Seat:
    """The place of one program's template. `due` is when the next may be begun, by the monotonic clock."""

    calls: int = 0
    template: Template | None = None
    making: bool = False
    why: str = ""
    told: bool = False
    due: float = 0.0
    broken: int = 0


def starter(folder: Path, environ: Mapping[str, str]) -> Starter:
    """What starts programs: with `KOALJA_STARTS=cold` none is forked, with `warm` even the first one is."""
    starts = environ.get("KOALJA_STARTS", "")
    return Spawning() if starts == "cold" else Warm(folder, first=starts == "warm")


class Warm:
    """Starts programs, from as many threads at once as one likes.

    Args:
        folder: Where templates have their folders; made and cleared away by others.
        seconds: How long the imports of a program may take.
        forks: After how many executions a template is replaced.
        first: Whether a program's first execution waits for its template.
    """

    def __init__(
        self, folder: Path, *, seconds: float = _SECONDS, forks: int = _FORKS, first: bool = False
    ) -> None:
        self._folder = folder
        self._seconds = seconds
        self._forks = forks
        self._first = first
        self._spawn = Spawning()
        self._lock = threading.Condition()
        self._seats: OrderedDict[Key, _Seat] = OrderedDict()
        self._unusual: set[str] = set()
        self._numbers = 0
        self._closed = False
        self._stop = Cancel()

    def __call__(self, start: Start) -> Process:
        """Start a program."""
        if not start.warm or sum(map(len, start.argv)) > _LONGEST:
            return self._spawn(start)
        try:
            python = recognised(start.argv, start.environ.get("PATH", ""))
            if python is None:
                return self._spawn(start)
            environ = _lasting(start)
        except Unusual as unusual:
            return self._cold(start, self._once(start.argv[0], str(unusual)))
        seat, template, remark = self._look((python, environ))
        if self._first and template is None:
            with self._lock:
                self._lock.wait_for(lambda: not seat.making)
            template = seat.template
        if template is not None:
            try:
                return template.fork(start, python.skip)
            except Broken:
                self._drop(seat, template)
        return self._cold(start, remark)

    def ready(self, start: Start, seconds: float = _SECONDS) -> str | None:
        """Wait until the template for a program is made: empty when it is there, else why there is none.

        None if none was begun.
        """
        python = recognised(start.argv, start.environ.get("PATH", ""))
        with self._lock:
            seat = self._seats.get((python, _lasting(start))) if python else None
            if seat is None:
                return None
            self._lock.wait_for(lambda: not seat.making, seconds)
            return "" if seat.template is not None else seat.why

    def close(self) -> None:
        """End all templates; no call may be under way."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._stop.set()  # nobody waits for templates that are being made
            self._lock.wait_for(lambda: not any(s.making for s in self._seats.values()))
            templates = [s.template for s in self._seats.values() if s.template is not None]
            self._seats.clear()
        for template in templates:
            template.close()
        self._stop.close()

    def _look(self, key: Key) -> tuple[_Seat, Template | None, str]:
        """The program's place, its template if there is one, and what is to be said."""
        ended: list[Template] = []
        with self._lock:
            seat = self._seats.setdefault(key, _Seat())
            self._seats.move_to_end(key)
            seat.calls += 1
            if seat.template is not None and seat.template.forks >= self._forks:
                ended.append(seat.template)
                seat.template = None
            remark = ""
            if seat.template is None and seat.why and not seat.told:
                seat.told = True
                remark = _said(seat.why)
            idle = seat.template is None and not seat.making and not seat.why
            if idle and (seat.calls > 1 or self._first) and time.monotonic() >= seat.due and not self._closed:
                ended += self._make_room()
                seat.making = True
                self._numbers += 1
                folder = self._folder / f"template-{self._numbers}"
                threading.Thread(target=self._make, args=(key, seat, folder), daemon=True).start()
            template = seat.template
        for one in ended:
            one.close()
        return seat, template, remark

    def _make_room(self) -> list[Template]:
        """Take the templates out that were not used for long, and one more where there are too many."""
        now = time.monotonic()
        live = [s for s in self._seats.values() if s.template is not None]
        live.sort(key=lambda s: s.template.used if s.template else 0.0)
        spare = len(live) - _MOST + 1
        taken = []
        for number, seat in enumerate(live):
            if seat.template is not None and (number < spare or now - seat.template.used > _IDLE):
                taken.append(seat.template)
                seat.template = None
        while len(self._seats) > _SEATS:
            key, seat = next(iter(self._seats.items()))
            if seat.template is not None or seat.making:
                break
            del self._seats[key]
        return taken

    def _make(self, key: Key, seat: _Seat, folder: Path) -> None:
        template, why = None, ""
        python, environ = key
        try:
            template = Template(python, dict(environ), folder, self._seconds, self._stop)
        except Unfit as unfit:
            why = str(unfit)
        except Exception as error:
            why = f"there is no template: {error}"
        if template is None:
            remove(str(folder))
        with self._lock:
            seat.template, seat.why, seat.making = template, why, False
            self._lock.notify_all()

    def _drop(self, seat: _Seat, template: Template) -> None:
        """A template is of no use any more; the next one is begun soon, later each time."""
        with self._lock:
            if seat.template is template:
                seat.template = None
                seat.due = time.monotonic() + (min(_PATIENCE, 2.0**seat.broken) if seat.broken else 0.0)
                seat.broken += 1
        with suppress(OSError):
            template.close()

    def _once(self, program: str, why: str) -> str:
        with self._lock:
            first = program not in self._unusual
            self._unusual.add(program)
        return _said(why) if first else ""

    def _cold(self, start: Start, remark: str) -> Process:
        child = self._spawn(start)
        return replace(child, remark=remark) if remark else child


def _said(why: str) -> str:
    return f"is started anew for each execution: {why}; `warm = no` says that this is meant"


def _lasting(start: Start) -> tuple[tuple[str, str], ...]:
    """The part of the environment that is the same for each execution.

    Raises:
        Unusual: Its module path depends on the working folder.
    """
    path = start.environ.get("PYTHONPATH")
    if path is not None and not all(part.startswith("/") for part in path.split(":")):
        raise Unusual("a PYTHONPATH that counts from the working folder")
    return tuple(
        (name, value)
        for name, value in start.environ.items()
        if value != start.cwd and name != "PORT" and not name.startswith(("KOALJA_", "_KOALJA_"))
    )
