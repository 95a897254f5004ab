"""A recompute of a deployed circuit: it is driven here, and each program is run by a pod of its task.

A pod is asked for one snapshot of the lane, by its row, and answers with what came of it; what a program
wrote is in the store by then. Placing it, in its turn, is done here. A lost answer is asked for again.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from koalja_fn import ids
from koalja_fn.engine.attaching import moved
from koalja_fn.engine.claiming import Claim, Ending
from koalja_fn.engine.endings import ending_of
from koalja_fn.engine.executing import Executed, Executor
from koalja_fn.engine.lane.running import Lane
from koalja_fn.engine.plans import CircuitPlan
from koalja_fn.engine.ringing import call_headers
from koalja_fn.engine.sinking import Sinks
from koalja_fn.errors import ClusterError, UsageError
from koalja_fn.local.pods import Interrupted, Place, Pods
from koalja_fn.local.recomputing import Ears, ended
from koalja_fn.program.calling import Caller
from koalja_fn.program.cancel import Cancel
from koalja_fn.registry import Registry
from koalja_fn.registry.lanes import Recompute
from koalja_fn.store import Store

PATH = "/lanes/"
# One of these is in the answer of a pod that has seen to a snapshot.
_ENDS = {"ending", "failed", "cancelled"}
_BUSY = 503
_PAUSE = 0.5
_RINGING = 2.0


def check(circuit: CircuitPlan, part: Iterable[str], places: Mapping[str, Place]) -> None:
    """See that each task that takes part has somebody who runs its program.

    Raises:
        UsageError: One has not.
    """
    for name in part:
        task = circuit.tasks[name].task
        if task.service:
            continue
        if task.mode == "job":
            raise UsageError(
                f"task {name} runs as a job (`mode = job`)",
                why="a recompute asks pods that answer requests, and a job's pods answer none",
                cure="a task downstream of it, with --task, or say `mode = service` for it",
            )
        if name not in places:
            raise UsageError(
                f"it is not known where task {name} runs",
                why="it was deployed after this command looked, or is being removed",
                cure="try again",
            )


def recompute_afield(
    registry: Registry,
    store: Store,
    plan: CircuitPlan,
    found: Recompute,
    places: Mapping[str, Place],
    ears: Ears,
    stop: Cancel,
    jobs: int,
) -> Recompute | None:
    """Bring a recompute of a deployed circuit to its end, while that goes on; None where stopped before.

    Raises:
        Busy: Another process is at it.
        Usurped: It is at its end, or another process is at it since.
        ClusterError: A task does not answer.
    """
    lane = Lane(registry, found, plan, ears.settled, jobs)
    with TemporaryDirectory(prefix="koalja-") as scratch:
        caller = Caller(store, Path(scratch))
        try:
            sent = _Sent(lane.executor(store, caller, None), places, stop)

            def execute(claim: Claim, _: Cancel | None) -> Executed:
                executed = sent.execute(claim)
                ears.ended(executed)
                return executed

            if not lane.drive(execute, stop):
                return None
        finally:
            caller.close()
    now = registry.read(partial(moved, plan=plan))
    _ring(now, lane.names, places)
    Sinks(registry, store, now, files=False).flush()
    return ended(registry, plan, found)


class _Sent:
    """Has claims executed by pods."""

    def __init__(self, executor: Executor, places: Mapping[str, Place], stop: Cancel) -> None:
        self._executor = executor
        self._places = places
        self._stop = stop
        self._pods = Pods(stop, _ENDS)

    def execute(self, claim: Claim) -> Executed:
        """Have a claim executed, and commit what came of it in its turn.

        Raises:
            ClusterError: Nobody does it.
        """
        name, cancelled = claim.plan.name, Ending(claim.plan.code.version, reason="cancelled")
        try:
            answer = self._pods.ask(self._places[name], f"{PATH}{claim.rid}/{claim.fence}")
        except Interrupted:
            return Executed(claim, "cancelled", cancelled)
        if answer.status == _BUSY and answer.said:
            time.sleep(_PAUSE)  # all places are taken, or the pod is to go
            return Executed(claim, "cancelled", cancelled)
        if answer.status != 200:
            raise ClusterError(
                f"task {name} was not run: it answered {answer.status or 'nothing'}",
                why=answer.why,
                cure="koalja-fn doctor --cluster tells what is wrong; then do the same again: it goes on",
            )
        if "ending" in answer.said:
            return self._executor.finish(claim, ending_of(answer.said["ending"]))
        if "failed" in answer.said:
            failed = answer.said["failed"]
            return Executed(claim, failed["outcome"], ending_of(failed["ending"]), due=failed["due"])
        return Executed(claim, "cancelled", cancelled)


def _ring(plan: CircuitPlan, names: Iterable[str], places: Mapping[str, Place]) -> None:
    """Have somebody look at each task, whose values waited; who is not reached is found by the sweep."""
    threads = [
        threading.Thread(target=_ring_one, args=(places[name].address, plan.circuit.name, name), daemon=True)
        for name in names
        if name in places
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_RINGING)


def _ring_one(address: str, circuit: str, task: str) -> None:
    parts = urlsplit(address)
    kind: Callable[..., http.client.HTTPConnection] = (
        http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    )
    with suppress(OSError, http.client.HTTPException):
        connection = kind(parts.hostname or "", parts.port, timeout=_RINGING)
        headers = call_headers(circuit, task, ids.derive("ring", circuit, task, str(time.time_ns())))
        connection.request("POST", "/", b"", {**headers, "Content-Length": "0"})
        connection.getresponse()
        connection.close()
