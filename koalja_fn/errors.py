"""What can go wrong, drawn as one tree.

    KoaljaError                 what the command shows as a message, never as a traceback
    ├── UsageError              the call itself is wrong                     exit status 2
    ├── WiringError             the wiring has findings                      exit status 3
    ├── ProgramError            a program failed: values are dead letters    exit status 4
    ├── Conflict                same id, other content                       exit status 5, HTTP 422
    ├── Refused                 an event that breaks a rule or a limit       exit status 5, HTTP 4xx
    │   └── Full                a backlog is full; the same event may be sent again   HTTP 429
    ├── Busy                    somebody else holds the folder               exit status 6
    ├── NotFound                no such circuit, task, wire or value         exit status 7
    ├── StoreError              a payload is missing, damaged or has no room exit status 8
    ├── RegistryError           the registry can't be read or written        exit status 8
    │   └── NewerRegistry       written by a newer koalja-fn
    ├── PackError               no image came of it                          exit status 9
    │   ├── Unreachable         the image registry doesn't answer
    │   ├── Unauthorised        the image registry wants other credentials
    │   ├── NoSuchImage         no manifest or blob of that name there
    │   ├── WrongPlatform       the image is for other machines
    │   └── Damaged             bytes are not those that their digest promises
    └── ClusterError            the cluster can't do or won't have it        exit status 10
        ├── Unanswered          its API server doesn't answer
        ├── Forbidden           the user lacks a right, or isn't known there
        ├── Rejected            a webhook or a schema refuses an object
        └── NotReady            something didn't get ready; with the first real cause

Every message has up to three parts: what failed (with its place), why, and what to try.
"""

from __future__ import annotations

from typing import ClassVar


class KoaljaError(Exception):
    """Base of everything that is reported to a person: `what`, then `why`, then `cure`."""

    exit_status: ClassVar[int] = 1

    def __init__(self, what: str, *, why: str = "", cure: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.cure = cure

    def __str__(self) -> str:
        parts = [self.what]
        if self.why:
            parts.append(f"  why: {self.why}")
        if self.cure:
            parts.append(f"  try: {self.cure}")
        return "\n".join(parts)


class UsageError(KoaljaError):
    """The command line does not make sense; the user can mend the call."""

    exit_status = 2


class WiringError(KoaljaError):
    """The wiring has errors; the user mends the text. All findings are in `what`."""

    exit_status = 3


class ProgramError(KoaljaError):
    """A program of the user's failed for good; its snapshot is kept as a dead letter."""

    exit_status = 4


class Conflict(KoaljaError):
    """An event has the id of an earlier one but other content (HTTP 422)."""

    exit_status = 5
    http_status: ClassVar[int] = 422


class Refused(KoaljaError):
    """An event that breaks a rule or a limit; sending it again is useless (HTTP 4xx)."""

    exit_status = 5

    def __init__(self, what: str, *, why: str = "", cure: str = "", http_status: int = 400) -> None:
        super().__init__(what, why=why, cure=cure)
        self.http_status = http_status


class Full(Refused):
    """A backlog is full: the sender should back off and send the same again (HTTP 429)."""

    def __init__(self, what: str, *, why: str = "", cure: str = "", retry_after: float = 1.0) -> None:
        super().__init__(what, why=why, cure=cure, http_status=429)
        self.retry_after = retry_after


class Busy(KoaljaError):
    """Another process holds what this one needs, such as a second `run` on one folder."""

    exit_status = 6


class NotFound(KoaljaError):
    """Nothing of that name or id; the user can mend the name."""

    exit_status = 7


class StoreError(KoaljaError):
    """A payload can't be written, found or trusted; the operator can mend the disk."""

    exit_status = 8


class RegistryError(KoaljaError):
    """The registry can't be opened, read or written; the operator can mend it."""

    exit_status = 8


class NewerRegistry(RegistryError):
    """The registry was written by a newer version; the user updates koalja-fn."""


class PackError(KoaljaError):
    """A program couldn't be made into an image, or the image not be brought where it belongs."""

    exit_status = 9


class Unreachable(PackError):
    """An image registry doesn't answer, also after several tries; the operator can mend it."""


class Unauthorised(PackError):
    """An image registry refuses the credentials, or wants some; the user logs in."""


class NoSuchImage(PackError):
    """The image registry has no such manifest or blob; the user can mend the name."""


class WrongPlatform(PackError):
    """An image is there, but for another operating system or processor."""


class Damaged(PackError):
    """Bytes of an image are not those that their digest promises."""


class ClusterError(KoaljaError):
    """A cluster can't do what is asked of it, or won't; `why` is what it reported."""

    exit_status = 10


class Unanswered(ClusterError):
    """The cluster's API server doesn't answer, also after several tries."""


class Forbidden(ClusterError):
    """The API server doesn't let us: the user needs a right, or has to log in."""


class Rejected(ClusterError):
    """A schema, a webhook or a quota refuses an object; `status` is what the API answered."""

    def __init__(self, what: str, *, why: str = "", cure: str = "", status: int = 0) -> None:
        super().__init__(what, why=why, cure=cure)
        self.status = status


class NotReady(ClusterError):
    """Something on the cluster did not get ready in time, or can't; the first real cause is in `why`."""
