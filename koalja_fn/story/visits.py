"""The visitor log of a task (paper, III.C): who came through, when, and what was done to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from koalja_fn.engine.usual import Usual
from koalja_fn.errors import NotFound
from koalja_fn.registry import overview, stories
from koalja_fn.registry.overview import TaskCounts
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.rows import FormedRow
from koalja_fn.story.passport import Limits, Visit
from koalja_fn.story.telling import attempt_texts, lookup_texts, remark_text, window_texts
from koalja_fn.story.usually import usual_json, usual_text
from koalja_fn.story.visiting import visit
from koalja_fn.story.words import local, plural, positions, short, size

_LIMITS = Limits(wide=12)
# Outputs of one execution that are told.
_MADE = 12


@dataclass(frozen=True, slots=True)
class Visits:
    """A task's latest visitors, the oldest first. `made` has, by snapshot, its outputs in words."""

    circuit: str
    task: TaskCounts
    visits: tuple[Visit, ...]
    made: dict[str, tuple[str, ...]]
    anomalies_only: bool = False

    def to_json(self) -> dict[str, Any]:
        """Numbers from 1, times in UTC."""
        return {
            "circuit": self.circuit,
            "task": self.task.name,
            "snapshots": self.task.formed,
            "usual": usual_json(Usual.from_json(self.task.usual)),
            "visits": [{k: v for k, v in one.to_json().items() if k != "depth"} for one in self.visits],
        }


def find_task(tx: Transaction, name: str) -> tuple[str, TaskCounts]:
    """The task of that name, and its circuit.

    Raises:
        NotFound: There is none.
    """
    names: list[str] = []
    for circuit in overview.circuits(tx):
        for task in overview.tasks(tx, circuit.id):
            if task.name == name:
                return circuit.name, task
            names.append(task.name)
    raise NotFound(f"no task {name!r}", why=f"there are: {', '.join(names) or 'none'}")


def visits(tx: Transaction, name: str, last: int, *, anomalies: bool = False) -> Visits:
    """The last visitors of a task; with `anomalies` only those with something odd about them.

    Raises:
        NotFound: There is no such task.
    """
    circuit, task = find_task(tx, name)
    found = _odd(tx, task.id, last) if anomalies else overview.latest_formed(tx, task.id, last)
    told, made = [], {}
    for formed in reversed(found):
        outputs = stories.made(tx, formed.rid, _MADE + 1)
        shown = outputs[:_MADE]
        told.append(
            replace(
                visit(tx, formed, 0, _LIMITS),
                made=tuple(value.id for value in shown),
                made_more=len(outputs) > _MADE,
            )
        )
        made[formed.id] = tuple(
            f"{v.wire} {positions(v.position, v.position)}  {short(v.id)}  {size(v.size)} {v.type}"
            for v in shown
        )
    return Visits(circuit, task, tuple(told), made, anomalies)


def _odd(tx: Transaction, task: int, last: int) -> list[FormedRow]:
    """Snapshots with anomalies, the latest first, each once."""
    # An execution may be odd in four ways.
    remarks = stories.latest_anomalies(tx, task, last * 4)
    ids = dict.fromkeys(remark.snapshot for remark in remarks if remark.snapshot)
    found = (stories.formed_by_id(tx, one) for one in list(ids)[:last])
    return [formed for formed in found if formed is not None]


def visits_text(log: Visits) -> str:
    """One paragraph for each visitor, in the spirit of the paper's figure 9."""
    return "\n".join(_lines(log))


def _lines(log: Visits) -> Iterator[str]:
    shown = f"the last {len(log.visits)} of " if len(log.visits) < log.task.formed else ""
    odd = " with anomalies" if log.anomalies_only else ""
    yield f"visitor log of {log.task.name} in {log.circuit}: {shown}{plural(log.task.formed, 'visit')}{odd}"
    for line in usual_text(Usual.from_json(log.task.usual)):
        yield f"  {line}"
    for one in log.visits:
        formed = one.formed
        stamp = local(formed.formed)
        blank = " " * len(stamp)
        yield f"{stamp} | {formed.number + 1:>6}  snapshot {short(formed.id)} {formed.state}"
        texts = [text for window in one.windows for text in window_texts(window)]
        for attempt in one.attempts:
            texts += attempt_texts(attempt, one.run_lines.get(attempt.version, ""))
        texts += [remark_text(remark) for remark in one.remarks]
        texts += lookup_texts(one.lookups)
        texts += [f"[out: {text}]" for text in log.made[formed.id]]
        if one.made_more:
            texts.append("[out: and more]")
        yield from (f"{blank} |     ->    {text}" for text in texts)
