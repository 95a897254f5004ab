"""What the conditions of an object say: whether it is Ready, and what each controller reports."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from koalja_fn.cluster.kinds import Object


class State(StrEnum):
    """How far an object has come."""

    READY = "ready"
    PENDING = "pending"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition; `status` is True, False or Unknown as text."""

    type: str
    status: str
    reason: str = ""
    message: str = ""

    @property
    def text(self) -> str:
        """Why, for people."""
        return self.message or self.reason


def conditions(item: Object) -> list[Condition]:
    """All conditions, in the order in which the controller wrote them."""
    found = (item.get("status") or {}).get("conditions") or []
    return [
        Condition(
            str(one.get("type", "")),
            str(one.get("status", "Unknown")),
            str(one.get("reason") or ""),
            str(one.get("message") or ""),
        )
        for one in found
    ]


def condition(item: Object, type_: str) -> Condition:
    """One condition; unknown where the controller has not said."""
    return next((one for one in conditions(item) if one.type == type_), Condition(type_, "Unknown"))


def seen(item: Object) -> bool:
    """Whether what the status says is about the object as it is now.

    KEDA's objects do not tell which generation they saw.
    """
    observed = (item.get("status") or {}).get("observedGeneration")
    return observed is None or observed == item["metadata"].get("generation", observed)


def state(item: Object) -> State:
    """Whether an object is Ready as it is now; what a controller said of an earlier one does not count."""
    if not seen(item):
        return State.PENDING
    status = condition(item, "Ready").status
    return {"True": State.READY, "False": State.FAILED}.get(status, State.PENDING)


def failing(item: Object) -> list[Condition]:
    """The conditions that are False, the summarising `Ready` last."""
    found = [one for one in conditions(item) if one.status == "False" and one.text]
    return sorted(found, key=lambda one: one.type == "Ready")
