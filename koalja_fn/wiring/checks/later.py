"""Words that parse, and that this version does not act on: said openly, once for each place."""

from __future__ import annotations

from koalja_fn.wiring.findings import Notebook
from koalja_fn.wiring.meaning import Draft
from koalja_fn.wiring.syntax import Line

_TASK = {
    "region": "`run` runs every task here",
    "mode": "`run` treats every task alike",
    "scale": "`run` uses `concurrency` only",
}
_WIRE = {
    "confined": "`run` does not confine payloads",
}


def check_later(draft: Draft, notebook: Notebook) -> None:
    """Note what is left out."""
    _lines(draft.own, _TASK, notebook)
    for each in draft.tasks:
        _lines(each.own, _TASK, notebook)
        for output in each.task.outputs if each.task.service else ():
            if not output.implicit:
                message = (
                    f"not yet in this version: values of a service; `run` collects none of '{output.wire}'"
                )
                notebook.warning("not-yet", message, output.place)
    for lines in draft.wires.values():
        _lines(lines, _WIRE, notebook)


def _lines(lines: dict[str, Line], what: dict[str, str], notebook: Notebook) -> None:
    for key, line in lines.items():
        if key in what and not (key == "mode" and line.value.text == "service"):
            notebook.note("not-yet", f"not yet in this version: `{key}`; {what[key]}", line.key)
