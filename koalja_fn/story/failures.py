"""Dead letters and refused events: what went wrong, with what, and what can be done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from koalja_fn.registry import overview, stories
from koalja_fn.registry.overview import RefusalRow
from koalja_fn.registry.registry import Transaction
from koalja_fn.story.passport import Limits, Visit
from koalja_fn.story.visiting import visit
from koalja_fn.story.words import iso, short

_LIMITS = Limits(wide=12)

_CURES = {
    "exit": "mend the program or its data",
    "signal": "see whether it needs more memory, or who ends it",
    "timeout": "make it faster, or give it a longer `timeout`",
    "outputs": "let it write its outputs as the program contract says",
    "not started": "see that the program is there, executable, and its arguments are not too many",
    "lost": "see why whatever ran it was killed; the program may do that itself",
    "max-hops": "let the loop come to an end, or raise `max-hops`",
    "inputs": "koalja-fn doctor looks at the store",
    "store": "make room on the disk",
}
# Their cures put the result where the old one stood; a retry would not.
_BETTER = frozenset({"look-up"})


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: its last attempt is `visit.attempts[-1]`."""

    visit: Visit
    cure: str

    def to_json(self) -> dict[str, Any]:
        """As a visit, with the cure."""
        told = {k: v for k, v in self.visit.to_json().items() if k not in ("depth", "made", "madeMore")}
        return {**told, "cure": self.cure}


@dataclass(frozen=True, slots=True)
class Failures:
    """All that went wrong for good; `more` dead letters are not told."""

    letters: tuple[Letter, ...]
    refusals: tuple[RefusalRow, ...]
    more: int = 0

    def to_json(self) -> dict[str, Any]:
        """Two lists."""
        return {
            "letters": [letter.to_json() for letter in self.letters],
            "more": self.more,
            "refused": [
                {
                    "at": iso(r.at),
                    "circuit": r.circuit,
                    "wire": r.wire,
                    "value": r.value or None,
                    "event": {"source": r.event_source, "id": r.event_id},
                    "digest": r.digest or None,
                    "kept": r.kept or None,
                    "reason": r.reason,
                }
                for r in self.refusals
            ],
        }


def failures(tx: Transaction, task: str | None, last: int) -> Failures:
    """Dead letters, the oldest of each task first, and the last refused events."""
    letters: list[Letter] = []
    dead = 0
    for circuit in overview.circuits(tx):
        for counts in overview.tasks(tx, circuit.id):
            if task in (None, counts.name):
                dead += counts.dead
                found = stories.dead(tx, counts.id, last - len(letters)) if counts.dead else []
                letters += [_letter(visit(tx, formed, 0, _LIMITS)) for formed in found]
    end = overview.cursors(tx).refusal
    refusals = overview.refusals_after(tx, max(0, end - last), last) if task is None else []
    return Failures(tuple(letters), tuple(refusals), dead - len(letters))


def dead_rids(tx: Transaction, task: str | None) -> list[int]:
    """Rows of all dead letters, or of one task's."""
    return [
        formed.rid
        for circuit in overview.circuits(tx)
        for counts in overview.tasks(tx, circuit.id)
        if task in (None, counts.name) and counts.dead
        for formed in stories.dead(tx, counts.id, counts.dead)
    ]


def _letter(told: Visit) -> Letter:
    last = told.attempts[-1] if told.attempts else None
    again = f"koalja-fn retry {short(told.formed.id)}"
    own = last.message.partition("\n  try: ")[2] if last else ""
    cure = own or _CURES.get(last.reason if last else "", "see what it said")
    return Letter(told, cure if last and last.reason in _BETTER else f"{cure}, then {again}")
