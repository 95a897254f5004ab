"""The snapshot core: which values come together, as a function of recorded events alone. No I/O.

`advance(spec, state, events) -> (state, outcomes)` is all there is to it; the rest says what a
task's wiring means to it (`spec_of`), begins (`fresh`) or rewires (`rewire`) a state, and answers
questions about one.
"""

from koalja_fn.snapshots.advance import advance
from koalja_fn.snapshots.events import Arrival, Event, Free, Time
from koalja_fn.snapshots.outcomes import Admitted, Formed, Outcome, Skipped, Superseded, Unmatched, Window
from koalja_fn.snapshots.outlook import due, eager, held, needed, pending
from koalja_fn.snapshots.rewiring import rewire, stragglers, unchanged
from koalja_fn.snapshots.spec import InputSpec, Spec, spec_of
from koalja_fn.snapshots.state import State, fresh

__all__ = [
    "Admitted",
    "Arrival",
    "Event",
    "Formed",
    "Free",
    "InputSpec",
    "Outcome",
    "Skipped",
    "Spec",
    "State",
    "Superseded",
    "Time",
    "Unmatched",
    "Window",
    "advance",
    "due",
    "eager",
    "fresh",
    "held",
    "needed",
    "pending",
    "rewire",
    "spec_of",
    "stragglers",
    "unchanged",
]
