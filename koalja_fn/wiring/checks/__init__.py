"""What is wrong, or worth knowing, between the statements of a circuit."""

from __future__ import annotations

from koalja_fn.wiring.checks.inputs import check_inputs
from koalja_fn.wiring.checks.later import check_later
from koalja_fn.wiring.checks.loops import check_loops
from koalja_fn.wiring.checks.runs import check_runs
from koalja_fn.wiring.checks.tasks import check_tasks
from koalja_fn.wiring.checks.wires import check_wires
from koalja_fn.wiring.findings import Notebook
from koalja_fn.wiring.meaning import Draft

__all__ = ["check"]


def check(draft: Draft, notebook: Notebook) -> None:
    """Write all findings about a draft into the notebook."""
    check_inputs(draft, notebook)
    check_tasks(draft, notebook)
    check_runs(draft, notebook)
    check_wires(draft, notebook)
    check_loops(draft, notebook)
    check_later(draft, notebook)
