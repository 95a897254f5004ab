"""A service's process: a long-running program on one snapshot, with a port to listen on.

It is called like any other program, in a scratch folder of its own; what differs is that it is not waited
for, that it finds $PORT in its environment, and that to end is a failure unless it was told to.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from koalja_fn.errors import StoreError
from koalja_fn.program import ports
from koalja_fn.program.calling import Caller
from koalja_fn.program.cancel import Cancel
from koalja_fn.program.contract import Job, Reason, Result

_FIRST_LOOK = 0.005
_LATER_LOOK = 0.1
# Somebody outside of the program's session may listen for it, such as a container engine: then it lives on.
_BELIEVED = 1.0


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a process is of no use (any more); the fields are those of a `Result`."""

    reason: str
    message: str
    status: int | None = None
    stderr: str = ""
    permanent: bool = False


class Serving:
    """One process of a service, from its start on. `job` is called with $PORT besides.

    Use it from one thread; `is_over` may be asked from any. `over` is called when the process has ended.
    """

    def __init__(self, caller: Caller, job: Job, over: Callable[[], None] = lambda: None) -> None:
        self.port = ports.free_port()
        self.began = time.monotonic()
        self._caller = caller
        self._tell = over
        self._timeout = job.timeout
        env = (*job.env, ("PORT", str(self.port)))
        self._job = replace(job, outputs=(), timeout=None, env=env, warm=False)
        self._stop = Cancel()
        self._over = threading.Event()
        self._pid = 0
        self._ended = False
        self._result: Result | None = None
        self._damage = ""
        self._thread = threading.Thread(target=self._run, name=f"service-{job.task}", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """The process, 0 before it is there."""
        return self._pid

    @property
    def is_over(self) -> bool:
        """Whether the process has ended, or never began."""
        return self._over.is_set()

    @property
    def seconds(self) -> float:
        """How long it has been there."""
        return time.monotonic() - self.began

    def wait_until_listening(self, stop: threading.Event, patience: float | None = None) -> Fault | None:
        """Wait until the process accepts connections; return why it does not, or None.

        `patience` is in seconds, the job's timeout where it is not given. `stop` gives up (`cancelled`).
        """
        limit = self._timeout if patience is None else patience
        pause, seen = _FIRST_LOOK, 0.0
        while not stop.is_set():
            if self._over.wait(pause):
                return self.fault()
            if self._pid and ports.listens(self.port, self._pid):
                return None
            if ports.is_taken(self.port):
                seen += pause
                if seen >= _BELIEVED:
                    return None
            if limit is not None and self.seconds >= limit:
                return self._never(limit)
            pause = min(pause * 1.5, _LATER_LOOK)
        return Fault(str(Reason.CANCELLED), "was cancelled before it listened")

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the process is over; False where it is not yet."""
        return self._over.wait(seconds)

    def fault(self) -> Fault:
        """How the process ended by itself; for a service that is a failure, whatever the status."""
        result = self._result
        if result is None:
            return Fault("trouble", self._damage or "it could not be brought to an end", permanent=False)
        if result.ok:
            message = "ended by itself with exit status 0; a service goes on until it is ended"
            return Fault(str(Reason.EXIT), message, 0, result.stderr)
        status = result.status if result.signal is None else result.signal
        return Fault(str(result.reason), result.message, status, result.stderr, result.permanent)

    def end(self) -> None:
        """End the process, and all that it started: SIGTERM, then SIGKILL; returns when it is gone."""
        if not self._ended:
            self._ended = True
            self._stop.set()
            self._thread.join()
            self._stop.close()

    def _never(self, limit: float) -> Fault:
        self.end()
        said = self._result.stderr if self._result else ""
        message = (
            f"did not listen on 127.0.0.1:$PORT within {limit:g} s\n"
            "  try: let it listen on the port that $PORT names, or give it more time with `timeout`"
        )
        return Fault(str(Reason.TIMEOUT), message, None, said)

    def _run(self) -> None:
        try:
            result = self._caller.call(self._job, self._stop, self._begun)
            self._caller.discard(result)
            self._result = result
        except (StoreError, OSError) as error:
            self._damage = str(error)
        finally:
            self._over.set()
            self._tell()

    def _begun(self, pid: int) -> None:
        self._pid = pid  # it leads its session
