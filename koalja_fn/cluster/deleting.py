"""Taking away: what a circuit no longer has, and whole circuits, in the order that leaves nothing behind.

Triggers of one Broker go one at a time. When several go at once, the channel keeps subscribers that are no
longer there, and every later event for the Broker is tried on them until its retries are over (measured on
Knative Eventing of 2026).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from koalja_fn.cluster.client import Cluster
from koalja_fn.cluster.kinds import (
    BROKER,
    CHANNEL,
    JOB,
    LABEL_PART,
    OWNED,
    PING_SOURCE,
    POD,
    SCALED_JOB,
    SERVICE,
    SUBSCRIPTION,
    TRIGGER,
    Kind,
    Object,
    kind_of,
    name_of,
    of_circuit,
    title,
)
from koalja_fn.cluster.telling import Teller
from koalja_fn.cluster.waiting import Clock
from koalja_fn.errors import NotReady

_LOOK = 0.3
_SETTLING = 30.0
_GONE = 60.0


def prune(
    cluster: Cluster, namespace: str, items: Sequence[Object], teller: Teller, clock: Clock | None = None
) -> None:
    """Delete objects that are not wanted any more; Triggers one at a time."""
    clock = clock or Clock()
    for item in items:
        kind = kind_of(item)
        if kind == TRIGGER:
            delete_trigger(cluster, namespace, item, teller, clock)
        else:
            cluster.delete(kind, namespace, name_of(item))
        teller.say(f"{title(item)} deleted")


def delete_trigger(
    cluster: Cluster, namespace: str, trigger: Object, teller: Teller, clock: Clock | None = None
) -> None:
    """Delete a Trigger and wait until its Broker's channel has no subscriber without a Subscription."""
    clock = clock or Clock()
    broker = str((trigger.get("spec") or {}).get("broker", ""))
    _settle(cluster, namespace, broker, teller, clock)  # one that an interrupted call has deleted
    cluster.delete(TRIGGER, namespace, name_of(trigger))
    _gone(cluster, TRIGGER, namespace, name_of(trigger), clock)
    _settle(cluster, namespace, broker, teller, clock)


def stale_subscribers(cluster: Cluster, namespace: str, broker: str) -> list[str]:
    """The subscribers of a Broker's channel whose Subscription is gone: their addresses."""
    channel = cluster.get(CHANNEL, namespace, channel_of(broker))
    listed = ((channel or {}).get("spec") or {}).get("subscribers") or []
    if not listed:
        return []
    known = {
        str(one["metadata"].get("uid"))
        for one in cluster.list(SUBSCRIPTION, namespace, {})
        if not one["metadata"].get("deletionTimestamp")
    }
    return [str(one.get("subscriberUri", "?")) for one in listed if str(one.get("uid")) not in known]


def channel_of(broker: str) -> str:
    """The channel that the multi-tenant Broker makes for itself, or finds."""
    return f"{broker}-kne-trigger"


def delete_circuit(
    cluster: Cluster,
    namespace: str,
    circuit: str,
    teller: Teller,
    *,
    timeout: float = 600.0,
    clock: Clock | None = None,
    forget: Callable[[], object] | None = None,
) -> int:
    """Delete all objects of a circuit and wait until its pods are gone; how many objects there were.

    The Broker and its channel go as a whole, so its Triggers need not go one by one. `forget` is called when
    nothing works any more, and before the console goes, in which it may run.

    Raises:
        NotReady: Something is still there after `timeout` seconds.
    """
    clock = clock or Clock()
    ours = of_circuit(circuit)
    order = (PING_SOURCE, SCALED_JOB, BROKER, TRIGGER, CHANNEL, SERVICE)
    kinds = (*order, *(kind for kind in OWNED if kind not in order), JOB)
    count = 0
    for kind in kinds:
        for item in cluster.list(kind, namespace, ours):
            count += cluster.delete(kind, namespace, name_of(item))
            teller.say(f"{title(item)} deleted")
    until = clock.now() + timeout
    for kind in kinds:
        _await_gone(cluster, namespace, kind, ours, teller, until, clock)
    for part in ("task", "entry", "job", "sweep"):  # not the console; what they do they may end
        _await_gone(cluster, namespace, POD, {**ours, LABEL_PART: part}, teller, until, clock)
    if forget is not None:
        forget()
    for pod in cluster.list(POD, namespace, ours):
        count += cluster.delete(POD, namespace, name_of(pod), grace=1)
    _await_gone(cluster, namespace, POD, ours, teller, until, clock)
    return count


def await_leaving(
    cluster: Cluster, namespace: str, circuit: str, teller: Teller, timeout: float, clock: Clock | None = None
) -> None:
    """Wait until what is being deleted of a circuit is gone: what is on its way out can't be applied to.

    Raises:
        NotReady: Something is still there after `timeout` seconds.
    """
    clock = clock or Clock()
    until = clock.now() + timeout
    for kind in OWNED:
        while leaving := [
            item
            for item in cluster.list(kind, namespace, of_circuit(circuit))
            if item["metadata"].get("deletionTimestamp")
        ]:
            teller.state(kind.plural, f"{len(leaving)} on their way out")
            if clock.now() >= until:
                raise _still_there(leaving)
            clock.sleep(_LOOK)
        teller.state(kind.plural, "")


def _settle(cluster: Cluster, namespace: str, broker: str, teller: Teller, clock: Clock) -> None:
    until = clock.now() + _SETTLING
    while stale := stale_subscribers(cluster, namespace, broker):
        if clock.now() >= until:
            teller.say(
                f"warning: the channel of Broker {broker} keeps {len(stale)} subscribers that are gone"
            )
            teller.say(f"  try: koalja-fn delete --keep-data {broker}, then deploy again")
            return
        clock.sleep(_LOOK)


def _gone(cluster: Cluster, kind: Kind, namespace: str, name: str, clock: Clock) -> None:
    until = clock.now() + _GONE
    while cluster.get(kind, namespace, name) is not None and clock.now() < until:
        clock.sleep(_LOOK)


def _await_gone(
    cluster: Cluster,
    namespace: str,
    kind: Kind,
    labels: Mapping[str, str],
    teller: Teller,
    until: float,
    clock: Clock,
) -> None:
    while there := cluster.list(kind, namespace, labels):
        teller.state(kind.plural, f"{len(there)} still there")
        if clock.now() >= until:
            raise _still_there(there)
        clock.sleep(_LOOK)
    teller.state(kind.plural, "")


def _still_there(items: Sequence[Object]) -> NotReady:
    return NotReady(
        f"{', '.join(title(item) for item in items)}: still there",
        why="pods that are at work get the time to end it",
        cure="call it again: it goes on waiting; kubectl get pods tells what they do",
    )
