"""What is on record for the look-ups of one execution on one wire, given out again request by request."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence

from koalja_fn.lookups import masking
from koalja_fn.registry.lookups import Body, Lookup, LookupRow

# Request headers that ask for a part, or only for what has changed: with others it is another request.
_SELECTING = frozenset(
    {"if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "range"}
)
# A request: its method, its path, digest and size of its body, and those headers.
_Request = tuple[str, str, str, int, tuple[tuple[str, str], ...]]


class Missing(Exception):
    """No answer to a request is on record; the text says why."""


class Record:
    """The answers of one execution on one wire; each is given once, those of equal requests in their order.

    Requests are equal that have the same method, path (secrets masked) and body, and the same of those
    headers on which the answer depended (its `Vary`; ranges and conditions). Where a service gave no answer,
    none is given now. Called from several threads.
    """

    def __init__(self, rows: Sequence[LookupRow]) -> None:
        self._lock = threading.Lock()
        self._left: dict[_Request, list[LookupRow]] = defaultdict(list)
        self._failed: dict[_Request, str] = {}
        self._count: dict[_Request, int] = defaultdict(int)
        for row in rows:
            one = row.lookup
            request = _request(one.method, one.path, one.asked, one.headers.get("asked"))
            if one.problem or not one.status:
                self._failed.setdefault(request, one.problem)
            elif one.asked.size and not one.asked.digest:  # which body it was is not known
                self._failed.setdefault(request, "the end of its body was not seen")
            else:
                self._left[request].append(row)
                self._count[request] += 1
        self._empty = not rows

    def take(self, method: str, path: str, body: Body, headers: object) -> LookupRow:
        """The next answer to a request whose path and headers are as they go on record.

        Raises:
            Missing: There is none.
        """
        if masking.is_cut(path):
            raise Missing("its path is too long to be on record whole")
        request = _request(method, path, body, headers)
        with self._lock:
            left = self._left.get(request, [])
            for place, row in enumerate(left):
                if not _varying(row.lookup, headers):
                    return left.pop(place)
            raise Missing(self._why(request, left, headers))

    def _why(self, request: _Request, left: Sequence[LookupRow], headers: object) -> str:
        if left:
            return _with_others(_varying(left[0].lookup, headers))
        if count := self._count.get(request):
            return f"it was asked {'once' if count == 1 else f'{count} times'}, and not once more"
        if request in self._failed:
            return f"it got no answer then: {self._failed[request] or 'nobody answered'}"
        if self._empty:
            return "nothing was asked"
        known = (*self._left, *self._failed)
        for one in known:
            if one[:4] == request[:4]:
                return _with_others({name for name, _ in {*one[4]} ^ {*request[4]}})
        if any(one[:2] == request[:2] for one in known):
            return "it was asked with another body"
        return "it was not asked"


def records(rows: Sequence[LookupRow], wires: Iterable[str]) -> dict[str, Record]:
    """What is on record, for each wire that is asked."""
    return {wire: Record([row for row in rows if row.lookup.wire == wire]) for wire in wires}


def _request(method: str, path: str, body: Body, headers: object) -> _Request:
    selecting = sorted((n.lower(), value) for n, value in pairs_of(headers) if n.lower() in _SELECTING)
    return method, path, body.digest, body.size, tuple(selecting)


def _with_others(names: Iterable[str]) -> str:
    return f"it was asked with other headers ({', '.join(sorted(names))})"


def _varying(one: Lookup, now: object) -> list[str]:
    """Names of the headers on which an answer said that it depends, and that are not the same now."""
    then, told = one.headers.get("asked"), one.headers.get("told")
    varied = {name.strip().lower() for value in _values(told, "vary") for name in value.split(",")}
    return [name for name in varied - {"*", ""} if _values(then, name) != _values(now, name)]


def _values(headers: object, name: str) -> list[str]:
    return [value for known, value in pairs_of(headers) if known.lower() == name]


def pairs_of(headers: object) -> Iterable[tuple[str, str]]:
    """Headers on record, each name and value; JSON's lists are taken as they are."""
    if isinstance(headers, list):
        yield from ((str(name), str(value)) for name, value in headers)
