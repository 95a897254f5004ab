"""Carrying a plan out: stage by stage, each Ready before the next; then what is left over is pruned.

Every step may be repeated, and nothing is remembered in between: whoever is interrupted plans anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

from koalja_fn.cluster import deleting
from koalja_fn.cluster.client import Cluster
from koalja_fn.cluster.kinds import BROKER, PING_SOURCE, TRIGGER, Object, Stage, kind_of, name_of, title
from koalja_fn.cluster.planning import Change, Plan, Step
from koalja_fn.cluster.telling import Teller
from koalja_fn.cluster.waiting import Clock, soft, wait_ready
from koalja_fn.errors import KoaljaError, NotReady

BROKER_VARIABLE = "KOALJA_BROKER"
_AT_ONCE = 8
_SHORT = 20.0  # for what a circuit works without


def carry_out(
    cluster: Cluster,
    namespace: str,
    plan: Plan,
    *,
    timeout: float,
    teller: Teller,
    clock: Clock | None = None,
) -> None:
    """Apply what changes, wait for all, prune.

    Raises:
        ClusterError: Something is refused, or does not get Ready within `timeout` seconds. What was applied
            stays; the same call goes on from there.
    """
    clock = clock or Clock()
    address = ""
    steps = plan.of(Change.CREATE, Change.UPDATE, Change.SAME)
    for stage in Stage:
        mine = [_addressed(step, address) for step in steps if kind_of(step.item).stage is stage]
        _apply(cluster, [step for step in mine if step.change is not Change.SAME], teller)
        _await(cluster, namespace, [step.item for step in mine], timeout, teller, clock)
        if stage is Stage.BROKER:
            address = _address(cluster, mine)
    deleting.prune(cluster, namespace, [step.item for step in plan.of(Change.PRUNE)], teller, clock)


def broker_address(live: Object | None) -> str:
    """Where a Broker takes events, as it says itself; empty while it does not."""
    return str((((live or {}).get("status") or {}).get("address") or {}).get("url") or "")


def with_broker(item: Object, address: str) -> Object:
    """An object whose containers are told the Broker's real address; the same where they are told none."""
    if not address or not _told(item, address):
        return item
    changed = deepcopy(item)
    for variable in _variables(changed):
        variable["value"] = address
    return changed


def _told(item: Object, address: str) -> bool:
    return any(variable.get("value") != address for variable in _variables(item))


def _variables(item: Object) -> list[Object]:
    """The entries of KOALJA_BROKER in all containers, wherever an object has its pod."""
    spec = item.get("spec") or {}
    pods = [spec, (spec.get("template") or {}).get("spec") or {}]
    job = (spec.get("jobTargetRef") or {}).get("template") or {}
    pods.append(job.get("spec") or {})
    containers = [c for pod in pods for c in pod.get("containers") or []]
    return [v for c in containers for v in c.get("env") or [] if v.get("name") == BROKER_VARIABLE]


def _address(cluster: Cluster, brokers: Sequence[Step]) -> str:
    for step in brokers:
        live = cluster.get(BROKER, str(step.item["metadata"].get("namespace", "")), name_of(step.item))
        if found := broker_address(live):
            return found
    return ""


def _addressed(step: Step, address: str) -> Step:
    """A step as the Broker's address has it, which is known only when the Broker is there."""
    item = with_broker(step.item, address)
    if item is step.item:
        return step
    change = Change.UPDATE if step.change is Change.SAME else step.change
    return Step(change, item, step.differences)


def _apply(cluster: Cluster, steps: Sequence[Step], teller: Teller) -> None:
    """Apply the objects of a stage; all refusals are told."""

    def one(step: Step) -> KoaljaError | None:
        try:
            cluster.apply(step.item)
        except KoaljaError as error:
            return error
        teller.say(f"{title(step.item)} {'made' if step.change is Change.CREATE else 'changed'}")
        return None

    # Triggers one after the other: each writes the channel's list of subscribers.
    several = _AT_ONCE if steps and kind_of(steps[0].item) != TRIGGER else 1
    with ThreadPoolExecutor(several, thread_name_prefix="apply") as pool:
        errors = [error for error in pool.map(one, steps) if error is not None]
    for more in errors[1:]:
        teller.say(f"koalja-fn: {more}")
    if errors:
        raise errors[0]


def _await(
    cluster: Cluster, namespace: str, items: Sequence[Object], timeout: float, teller: Teller, clock: Clock
) -> None:
    waited = [item for item in items if kind_of(item).waited]
    needed = [item for item in waited if not soft(item) and kind_of(item) != PING_SOURCE]
    if needed:
        wait_ready(cluster, namespace, needed, timeout=timeout, teller=teller, clock=clock)
    optional = [item for item in waited if item not in needed]
    for item in optional:
        try:
            wait_ready(cluster, namespace, [item], timeout=min(timeout, _SHORT), teller=teller, clock=clock)
        except NotReady as error:
            teller.say(f"warning: {error}")
            teller.say("  passed over: what is due later than a minute is found only while one sweep works")
