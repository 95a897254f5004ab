"""Waiting until things are Ready: with a time limit, with grace, and with the cause where it is in vain."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from koalja_fn.cluster.client import Cluster
from koalja_fn.cluster.conditions import State, failing, state
from koalja_fn.cluster.diagnosing import Cause, diagnose
from koalja_fn.cluster.kinds import LABEL_PART, Kind, Object, kind_of, labels_of, name_of, title
from koalja_fn.cluster.telling import Teller
from koalja_fn.errors import NotReady

_LOOK = 0.4
_GRACE = 2.0  # a False that lasts shorter is a controller's intermediate state
_DOUBT = 30.0  # a False without a known cause may be a remnant of the last attempt
_ASK = 3.0  # between two looks at what is behind something that takes long
_STUBBORN = 10.0  # a cause that does not go away by itself must be seen for so long


@dataclass(frozen=True)
class Clock:
    """Time and its passing, in seconds."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass
class _Watched:
    """Something that is waited for, and since when it has been how."""

    item: Object
    live: Object | None = None
    failed_since: float | None = None
    cause: Cause | None = None
    cause_since: float | None = None
    asked: float = field(default=float("-inf"))


def wait_ready(
    cluster: Cluster,
    namespace: str,
    items: Sequence[Object],
    *,
    timeout: float,
    teller: Teller,
    clock: Clock | None = None,
) -> list[Object]:
    """Wait until all are Ready; return them as they are then.

    Raises:
        NotReady: One of them can't get Ready, or not all did within `timeout` seconds.
    """
    clock = clock or Clock()
    began = clock.now()
    watched = {(kind_of(item), name_of(item)): _Watched(item) for item in items}
    done: list[Object] = []
    told: set[tuple[Kind, str]] = set()
    try:
        while True:
            _look(cluster, namespace, watched)
            for key, one in list(watched.items()):
                if one.live is not None and state(one.live) is State.READY:
                    done.append(one.live)
                    teller.state(title(one.item), "")
                    if key in told:
                        teller.say(f"{title(one.item)} is ready")
                    del watched[key]
            if not watched:
                return done
            now = clock.now()
            for key, one in watched.items():
                _consider(cluster, one, now, began)
                teller.state(title(one.item), _doing(one))
                told.add(key)
            _give_up(list(watched.values()), now, late=now - began >= timeout, timeout=timeout)
            clock.sleep(_LOOK)
    finally:
        for one in watched.values():
            teller.state(title(one.item), "")


def _look(cluster: Cluster, namespace: str, watched: dict[tuple[Kind, str], _Watched]) -> None:
    for kind in dict.fromkeys(kind for kind, _ in watched):
        ours = [one for (its, _), one in watched.items() if its == kind]
        labels = {
            k: v
            for k, v in labels_of(ours[0].item).items()
            if all(labels_of(o.item).get(k) == v for o in ours)
        }
        found = {name_of(item): item for item in cluster.list(kind, namespace, labels)}
        for (its, name), one in watched.items():
            if its == kind:
                one.live = found.get(name)


def _consider(cluster: Cluster, one: _Watched, now: float, began: float) -> None:
    """Note since when it has failed, and look for the cause now and then."""
    if one.live is None:
        return
    failed = state(one.live) is State.FAILED
    one.failed_since = (one.failed_since if one.failed_since is not None else now) if failed else None
    due = now - one.asked >= _ASK and (now - began >= _ASK or _for(one.failed_since, now) >= _GRACE)
    if not due:
        return
    one.asked = now
    cause = diagnose(cluster, one.live)
    if cause is None or one.cause is None or cause.what != one.cause.what:
        one.cause_since = now
    one.cause = cause


def _give_up(watched: Sequence[_Watched], now: float, *, late: bool, timeout: float) -> None:
    for one in watched:
        final = one.cause is not None and one.cause.final
        failed = _for(one.failed_since, now)
        known = one.cause is not None and final and _for(one.cause_since, now) >= _STUBBORN
        # What may still come right (a node that is being added) has the whole time limit.
        if known or (failed >= _GRACE and final) or (failed >= _DOUBT and one.cause is None):
            raise not_ready(one.item, one.live, one.cause, [o.item for o in watched if o is not one])
    if late:
        first = next((one for one in watched if one.cause is not None), watched[0])
        others = [one.item for one in watched if one is not first]
        raise not_ready(first.item, first.live, first.cause, others, f"after {timeout:g} seconds")


def _for(since: float | None, now: float) -> float:
    return now - since if since is not None else 0.0


def _doing(one: _Watched) -> str:
    if one.cause is not None:
        return one.cause.what
    return "getting ready" if one.live is not None else "not there yet"


def not_ready(
    item: Object, live: Object | None, cause: Cause | None, others: Sequence[Object] = (), when: str = ""
) -> NotReady:
    """The error about something that did not get Ready."""
    what = f"{title(item)} is not ready" + (f" {when}" if when else "")
    what += f": {cause.what}" if cause else ""
    if others:
        more = f" and {len(others) - 4} more" if len(others) > 4 else ""
        what += f" (nor: {', '.join(name_of(one) for one in others[:4])}{more})"
    why = cause.why if cause else "; ".join(one.text for one in failing(live or {}))
    cure = cause.cure if cause else ""
    return NotReady(what, why=why.replace("\n", "\n       "), cure=cure or "koalja-fn doctor --cluster")


def soft(item: Object) -> bool:
    """Whether a circuit works without it: each of the two sweeps does what the other does."""
    return labels_of(item).get(LABEL_PART) == "sweep"
