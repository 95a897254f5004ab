"""Asking a task's pods over HTTP for an execution: the request stays open until that is over.

The request has the autoscaler start a pod if there is none. It carries no more than a key: what is to be done
is on record.
"""

from __future__ import annotations

import http.client
import json
import select
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from koalja_fn.program.cancel import Cancel

_TRIES = 6
_PAUSE = 1.0
_CONNECTING = 10.0
# A request is answered within ten minutes, or cut off (services.REQUEST_SECONDS).
_LONGEST = 660.0
# Nobody is there yet, or not any more: asking again is safe.
_AGAIN = (429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task is asked, and the image that its pods run, by its digest."""

    address: str
    image: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: status 0 where nobody was there."""

    status: int
    said: Mapping[str, Any]
    why: str = ""


class Interrupted(Exception):
    """The run is to end; nobody waits for the answer any more."""


class Pods:
    """Asks pods, from several threads at once, until `stop` is set.

    One of the words `ends` is in each answer of a task that has seen to what it was asked for.
    """

    def __init__(self, stop: Cancel, ends: Collection[str]) -> None:
        self._stop = stop
        self._ends = set(ends)

    def ask(self, place: Place, path: str) -> Answer:
        """Ask until there is an answer that is one.

        Raises:
            Interrupted: We are to end.
        """
        answer = Answer(0, {})
        for number in range(_TRIES):
            if number and self._readable([self._stop.fileno()], _PAUSE * number):
                raise Interrupted
            answer = self._once(place, path)
            if answer.status and answer.status not in _AGAIN:
                break
        return answer

    def _once(self, place: Place, path: str) -> Answer:
        parts = urlsplit(place.address)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=_CONNECTING)
        try:
            connection.request("POST", path, b"", {"Content-Length": "0"})
            self._wait(connection.sock)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, {}, f"{place.address}: {error}")
        finally:
            connection.close()
        try:
            said = json.loads(body)
        except ValueError:
            said = {}
        if not isinstance(said, dict) or (answer.status == 200 and not self._ends & set(said)):
            return Answer(502, {}, "what answered is no task of koalja-fn: deploy the circuit again")
        return Answer(answer.status, said, str(said.get("why", "")) or body[:200].decode("utf-8", "replace"))

    def _wait(self, sock: socket.socket) -> None:
        """Wait for the answer's first byte, or for the run's end."""
        ready = self._readable([sock.fileno(), self._stop.fileno()], _LONGEST)
        if self._stop.is_set:
            raise Interrupted
        if not ready:
            raise TimeoutError(f"no answer within {_LONGEST:g} s")

    def _readable(self, descriptors: list[int], seconds: float) -> bool:
        poll = select.poll()
        for descriptor in descriptors:
            poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
