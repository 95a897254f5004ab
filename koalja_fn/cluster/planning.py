"""What would change: one plan for `diff`, `deploy --dry-run` and `deploy`.

Each object is applied for show only (a dry run, which goes through the cluster's schemas, defaults and
webhooks), and what would come of it is compared with what is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from koalja_fn.cluster.client import Cluster
from koalja_fn.cluster.kinds import (
    LABEL_CIRCUIT,
    LABEL_MANAGER,
    LABEL_PART,
    MANAGER,
    NAMESPACE,
    OWNED,
    SECRET,
    Object,
    kind_of,
    labels_of,
    name_of,
    of_circuit,
    title,
)
from koalja_fn.errors import ClusterError, KoaljaError, Rejected

SETTINGS = "settings"
"""The part that belongs to the namespace, and to no circuit."""
_AT_ONCE = 8
_NOT_OURS = ("status",)
_BOOKKEEPING = (
    "managedFields",
    "resourceVersion",
    "generation",
    "uid",
    "creationTimestamp",
    "selfLink",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "finalizers",
)
_WRITERS = ("lastModifier", "creator")  # annotations of Knative that say who wrote last


class Change(StrEnum):
    """What becomes of an object."""

    CREATE = "create"
    UPDATE = "update"
    SAME = "same"
    PRUNE = "prune"


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that changes: its path, and what it is before and after; None where there is nothing."""

    path: str
    before: Any
    after: Any

    def line(self) -> str:
        """For people: `~ spec.x: 1 -> 2`."""
        if self.before is None:
            return f"+ {self.path}: {_short(self.after)}"
        if self.after is None:
            return f"- {self.path}: {_short(self.before)}"
        return f"~ {self.path}: {_short(self.before)} -> {_short(self.after)}"


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of one object. `item` is our part of it; for `prune` what is there."""

    change: Change
    item: Object
    differences: tuple[Difference, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "change": str(self.change),
            "kind": self.item["kind"],
            "name": name_of(self.item),
            "fields": [{"path": d.path, "before": d.before, "after": d.after} for d in self.differences],
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps: first what is applied, in the order of the stages, then what is pruned."""

    steps: tuple[Step, ...]

    @property
    def empty(self) -> bool:
        """Whether nothing would change."""
        return all(step.change is Change.SAME for step in self.steps)

    def of(self, *changes: Change) -> list[Step]:
        """The steps of some kinds."""
        return [step for step in self.steps if step.change in changes]

    def lines(self) -> Iterator[str]:
        """For people: what changes, and how many stay as they are."""
        for step in self.steps:
            if step.change is not Change.SAME:
                yield f"{step.change:<6} {title(step.item)}"
                yield from (f"         {difference.line()}" for difference in step.differences)
        same = len(self.of(Change.SAME))
        if self.empty:
            yield f"nothing changes: all {same} objects are as they should be"
        elif same:
            yield f"{same} more stay as they are"


def plan(cluster: Cluster, namespace: str, circuit: str, wanted: Sequence[Object]) -> Plan:
    """Compare what is wanted with what is there.

    Raises:
        ClusterError: The cluster refuses objects (all refusals are in it), or one of these names belongs
            to somebody else.
    """
    ordered = sorted(wanted, key=lambda item: kind_of(item).stage)  # stable: the given order within a stage
    fresh = cluster.get(NAMESPACE, "", namespace) is None

    def one(item: Object) -> Step | KoaljaError:
        try:
            return step_of(cluster, item, fresh=fresh)
        except KoaljaError as error:
            return error

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="plan") as pool:
        found = list(pool.map(one, ordered))
    refused = [one for one in found if isinstance(one, KoaljaError)]
    if refused:
        raise _together(refused)
    steps = [step for step in found if isinstance(step, Step)]
    gone = () if fresh else leftovers(cluster, namespace, circuit, wanted)
    return Plan((*steps, *(Step(Change.PRUNE, item) for item in gone)))


def leftovers(cluster: Cluster, namespace: str, circuit: str, wanted: Sequence[Object]) -> tuple[Object, ...]:
    """What carries the circuit's labels and is not wanted any more, in the order of its going."""
    keep = {(kind_of(item), name_of(item)) for item in wanted}
    return tuple(
        item
        for kind in OWNED
        for item in cluster.list(kind, namespace, of_circuit(circuit))
        if (kind, name_of(item)) not in keep and not item["metadata"].get("deletionTimestamp")
    )


def check_owner(live: Object, item: Object) -> None:
    """See that an object that is there is ours to change.

    Raises:
        ClusterError: Somebody else made it, or another circuit.
    """
    theirs, ours = labels_of(live), labels_of(item)
    circuit = theirs.get(LABEL_CIRCUIT, ours.get(LABEL_CIRCUIT))
    if theirs.get(LABEL_MANAGER) == MANAGER and circuit == ours.get(LABEL_CIRCUIT):
        return
    if ours.get(LABEL_PART) == SETTINGS:  # may come from `kubectl apply -k` as well
        return
    owner = f"circuit {circuit}" if theirs.get(LABEL_MANAGER) == MANAGER else "somebody else"
    raise ClusterError(
        f"{title(item)} is there already and belongs to {owner}",
        why="koalja-fn changes only what carries its own labels",
        cure="deploy into a namespace of its own (-n NAMESPACE), or rename the circuit",
    )


def step_of(cluster: Cluster, item: Object, *, fresh: bool = False) -> Step:
    """What becomes of one object; in a `fresh` namespace nothing is there yet.

    Raises:
        ClusterError: The cluster refuses it, or it belongs to somebody else.
    """
    kind = kind_of(item)
    if fresh and kind.namespaced:
        return Step(Change.CREATE, item)  # without its namespace nothing can be tried
    live = cluster.get(kind, str(item["metadata"].get("namespace", "")), name_of(item))
    if live is not None and kind.namespaced:
        check_owner(live, item)
    after = cluster.apply(item, dry_run=True)
    if live is None:
        return Step(Change.CREATE, item)
    hidden = kind == SECRET
    differences = tuple(
        Difference(d.path, *(("(hidden)", "(changed)") if hidden else (d.before, d.after)))
        for d in compare(_ours(live), _ours(after))
    )
    return Step(Change.UPDATE if differences else Change.SAME, item, differences)


def compare(before: Any, after: Any, path: str = "") -> Iterator[Difference]:
    """The fields in which two objects differ. Items of lists are known by their `name`, if they have one."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            inner = f"{path}.{key}" if path and "." not in key else f"{path}[{key}]" if path else key
            yield from compare(before.get(key), after.get(key), inner)
    elif isinstance(before, list) and isinstance(after, list):
        yield from compare(_keyed(before), _keyed(after), path) if before != after else ()
    elif before != after:
        yield Difference(path, before, after)


def _keyed(items: list[Any]) -> dict[str, Any]:
    named = all(isinstance(item, dict) and "name" in item for item in items)
    return {str(item["name"] if named else n): item for n, item in enumerate(items)}


def _ours(item: Object) -> Object:
    """An object without what the cluster keeps for itself."""
    told = {key: value for key, value in item.items() if key not in _NOT_OURS}
    metadata = {key: value for key, value in item["metadata"].items() if key not in _BOOKKEEPING}
    notes = metadata.get("annotations") or {}
    notes = {key: text for key, text in notes.items() if key.rpartition("/")[2] not in _WRITERS}
    told["metadata"] = {**metadata, "annotations": notes} if notes else _without(metadata, "annotations")
    return told


def _without(data: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in data.items() if k != key}


def _together(refused: Sequence[KoaljaError]) -> KoaljaError:
    """All refusals at once, each once, so that they are mended together."""
    first = refused[0]
    if len({str(one) for one in refused}) == 1 or not isinstance(first, Rejected):
        return first
    unique = list(dict.fromkeys(str(one) for one in refused))
    return ClusterError("\n".join(unique))


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
