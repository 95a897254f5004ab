"""Where look-ups go: to the process that is a service now, or to an outside address that the wiring names."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from koalja_fn.errors import UsageError

LOOKUP = "Koalja-Lookup"
"""A header of requests that a runtime hands on to a service elsewhere: the wire's name."""
ANSWERED, VERSION = "Koalja-Answered", "Koalja-Version"
"""Headers of its answers: the row of the service's snapshot, the version of the service's code."""

_AGAIN = 0.1


@dataclass(frozen=True, slots=True)
class Target:
    """An address to ask, and whose answers come from there.

    `base` is a path that stands before every request's, without a slash at its end. `answered` is the
    row of the service's snapshot, `version` that of its code; `place` is an outside service's address.
    `relayed`: a runtime of the service's answers there, which says with each answer whose it is.
    """

    host: str
    port: int
    tls: bool = False
    base: str = ""
    answered: int | None = None
    version: str = ""
    place: str = ""
    relayed: bool = False


class Unavailable(Exception):
    """Nobody can be asked: with the reason, for the program to read. `late` says that time ran out."""

    def __init__(self, why: str, *, late: bool = False) -> None:
        super().__init__(why)
        self.late = late


class Upstream(Protocol):
    """Whom a wire's look-ups go to. Called from many threads at once."""

    def acquire(self, deadline: float, *, but: Target | None = None) -> Target:
        """Whom to ask now; waits for it until `deadline` (monotonic seconds). To be given back.

        `but` has just refused a connection: somebody else is waited for.

        Raises:
            Unavailable: There is nobody, and will be nobody soon.
        """
        ...

    def release(self, target: Target) -> None:
        """The request is over."""
        ...


class Switch:
    """A service whose process changes: requests go to the current one, and hold the one they are with.

    While there is none, requests wait; that is how none fails between two processes.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._bell = threading.Condition()
        self._current: Target | None = None
        self._open: dict[Target, int] = {}
        self._refused = ""

    @property
    def is_up(self) -> bool:
        """Whether there is a process to ask."""
        return self._current is not None

    @property
    def current(self) -> Target | None:
        """Who is asked now."""
        return self._current

    def switch(self, target: Target) -> None:
        """From now on requests go there."""
        with self._bell:
            self._current = target
            self._refused = ""
            self._bell.notify_all()

    def down(self, target: Target | None) -> None:
        """The process is gone; requests wait for the next, if it was the current one."""
        with self._bell:
            if self._current is target:
                self._current = None

    def refuse(self, why: str) -> None:
        """Where there is no process now, none will come either, for this reason; empty: one will."""
        with self._bell:
            self._refused = why
            self._bell.notify_all()

    def acquire(self, deadline: float, *, but: Target | None = None) -> Target:
        """The current process; see `Upstream`."""
        with self._bell:
            while self._current is None or self._current is but:
                if self._current is None and self._refused:
                    raise Unavailable(self._refused)
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Unavailable(f"no process of {self._name} came up in time", late=True)
                self._bell.wait(left)
            self._open[self._current] = self._open.get(self._current, 0) + 1
            return self._current

    def release(self, target: Target) -> None:
        """The request is over."""
        with self._bell:
            self._open[target] -= 1
            if not self._open[target]:
                del self._open[target]
                self._bell.notify_all()

    def drain(self, target: Target, seconds: float) -> bool:
        """Wait until no request is with a process that is not the current one any more."""
        until = time.monotonic() + seconds
        with self._bell:
            while target in self._open and (left := until - time.monotonic()) > 0:
                self._bell.wait(left)
            return target not in self._open


class Outside:
    """An address that never changes."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def acquire(self, deadline: float, *, but: Target | None = None) -> Target:  # noqa: ARG002
        """That address; see `Upstream`."""
        if but is not None:
            raise Unavailable(f"{self.target.place} refused the connection")
        return self.target

    def release(self, target: Target) -> None:
        """Nothing to give back."""


class Relayed:
    """A service of the circuit's that runs elsewhere, at an address that never changes.

    Who answers is found out from the answer. That nobody takes a connection there does not last.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.target = Target(parts.hostname or "", parts.port or 80, relayed=True)

    def acquire(self, deadline: float, *, but: Target | None = None) -> Target:
        """That address; see `Upstream`."""
        if but is not None:
            time.sleep(_AGAIN)
        if time.monotonic() >= deadline:
            raise Unavailable(f"{self.target.host} refused the connection", late=True)
        return self.target

    def release(self, target: Target) -> None:
        """Nothing to give back."""


def outside(address: str) -> Outside:
    """The service at an http or https address of the wiring.

    Raises:
        UsageError: It is none, or carries a password, which a wiring file must not.
    """
    try:
        parts = urlsplit(address)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise UsageError(f"at = {address}: {error}", cure="write at = https://HOST/PATH") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"at = {address}: no such kind of address", cure="write at = https://HOST/PATH")
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageError(
            f"at = {parts.scheme}://{parts.hostname}…: only a host, a port and a path can stand there",
            cure="let the program send its credentials itself; env.NAME gives them to it",
        )
    base = parts.path.rstrip("/")
    place = f"{parts.scheme}://{parts.netloc}{base}"
    return Outside(Target(parts.hostname, port, parts.scheme == "https", base, place=place))
