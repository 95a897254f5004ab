"""Errands: where the programs are in images, an execution is run by who has its image.

The execution is put on record, then its task is asked over HTTP, which has the autoscaler start a pod if
there is none. The request stays open until the execution is over. An answer that was lost costs nothing: what
came of it is in the registry under the execution's key, and is found there when it is asked for again.
"""

from __future__ import annotations

import http.client
import json
import select
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from koalja_fn.errors import ClusterError
from koalja_fn.pull.asking import Failure
from koalja_fn.pull.course import Site
from koalja_fn.pull.runs import Done, Execution
from koalja_fn.registry import errands, making
from koalja_fn.registry.errands import Errand

PATH = "/errands/"
_TRIES = 6
_PAUSE = 1.0
_CONNECTING = 10.0
# A request is answered within ten minutes, or cut off (services.REQUEST_SECONDS).
_LONGEST = 660.0
# One of these is in the answer of a task that has seen to an errand.
_ENDS = {"known", "failure", "damaged"}
# Nobody is there yet, or not any more: asking again is safe.
_AGAIN = (429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task is asked, and the image that its pods run, by its digest."""

    address: str
    image: str


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    said: Mapping[str, Any]
    why: str = ""


class Interrupted(Exception):
    """The run is to end; nobody waits for the answer any more."""


class Errands:
    """Has executions run by their tasks' pods; called by several threads at once."""

    def __init__(self, site: Site, places: Mapping[str, Place], run: int) -> None:
        self._site = site
        self._places = places
        self._run = run

    def execute(self, execution: Execution) -> Done:
        """Have it run. Whatever goes wrong is in the answer."""
        try:
            return self._executed(execution)
        except Interrupted:
            return Done(execution, failure=_failure(execution, "was interrupted"), cancelled=True)
        except BaseException as error:
            return Done(execution, trouble=error)

    def _executed(self, execution: Execution) -> Done:
        registry, task = self._site.registry, execution.task
        errand = Errand(
            execution.key,
            self._site.found.circuit.name,
            task.name,
            execution.number,
            self._site.found.located[task.name].version,
            self._run,
            registry.clock(),
            execution.members,
            execution.told,
        )
        registry.transact(lambda tx: errands.keep(tx, errand))
        try:
            answer = self._asked(self._places[task.name], execution.key)
        finally:
            registry.transact(lambda tx: errands.drop(tx, execution.key))
        if answer.status != 200:
            raise ClusterError(
                f"task {task.name} was not run: it answered {answer.status or 'nothing'}",
                why=answer.why,
                cure="koalja-fn doctor --cluster tells what is wrong; what was finished is kept",
            )
        return self._done(execution, answer.said)

    def _done(self, execution: Execution, said: Mapping[str, Any]) -> Done:
        failed, damaged = said.get("failure"), said.get("damaged")
        if failed:
            return Done(execution, failure=_failure(execution, failed["message"], failed["stderr"]))
        if damaged:
            return self._damaged(execution, damaged)
        values = self._site.registry.read(lambda tx: making.values_of(tx, execution.key))
        return Done(execution, tuple(values), float(said["seconds"]), known=bool(said["known"]))

    def _damaged(self, execution: Execution, named: str) -> Done:
        """What was made can be made again; what has arrived can't."""
        value = next(v for member in execution.members for v in member.values if v.id == named)
        made = value.snapshot
        if made and self._site.registry.read(lambda tx: making.made(tx, made)) is not None:
            return Done(execution, damaged=value)
        message = (
            f"the payload of value {value.id[:12]} of wire {value.wire} is damaged or missing: send it again"
        )
        return Done(execution, failure=_failure(execution, message))

    def _asked(self, place: Place, key: str) -> _Answer:
        """Ask until there is an answer that is one."""
        answer = _Answer(0, {})
        for number in range(_TRIES):
            if number and self._readable([self._site.stop.fileno()], _PAUSE * number):
                raise Interrupted
            answer = self._once(place, key)
            if answer.status and answer.status not in _AGAIN:
                break
        return answer

    def _once(self, place: Place, key: str) -> _Answer:
        parts = urlsplit(place.address)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=_CONNECTING)
        try:
            connection.request("POST", f"{PATH}{key}", b"", {"Content-Length": "0"})
            self._wait(connection.sock)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            return _Answer(0, {}, f"{place.address}: {error}")
        finally:
            connection.close()
        try:
            said = json.loads(body)
        except ValueError:
            said = {}
        if not isinstance(said, dict) or (answer.status == 200 and not _ENDS & set(said)):
            return _Answer(502, {}, "what answered is no task of koalja-fn: deploy the circuit again")
        return _Answer(answer.status, said, str(said.get("why", "")) or body[:200].decode("utf-8", "replace"))

    def _wait(self, sock: socket.socket) -> None:
        """Wait for the answer's first byte, or for the run's end."""
        ready = self._readable([sock.fileno(), self._site.stop.fileno()], _LONGEST)
        if self._site.stop.is_set:
            raise Interrupted
        if not ready:
            raise TimeoutError(f"no answer within {_LONGEST:g} s")

    def _readable(self, descriptors: list[int], seconds: float) -> bool:
        poll = select.poll()
        for descriptor in descriptors:
            poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(seconds * 1000))


def _failure(execution: Execution, message: str, stderr: str = "") -> Failure:
    return Failure(execution.task.name, execution.number, message, stderr, None)
