"""Words that parse, and that this version does not act on: said openly, once for each place."""

from __future__ import annotations

from koalja_fn.wiring.findings import Notebook
from koalja_fn.wiring.meaning import Draft
from koalja_fn.wiring.syntax import Line

_TASK = {
    "region": "`run` runs every task here",
    "mode": "`run` treats every task alike",
    "scale": "`run` uses `concurrency` only",
    "cache": "`run` runs every snapshot",
    "on-update": "`run` leaves old results as they are",
    "warm": "`run` starts every program anew",
}
_WIRE = {
    "confined": "`run` does not confine payloads",
    "keep": "`run` keeps all payloads",
    "at": "`run` gives programs no address to ask",
}


def check_later(draft: Draft, notebook: Notebook) -> None:
    """Note what is left out."""
    _lines(draft.own, _TASK, notebook)
    for each in draft.tasks:
        _lines(each.own, _TASK, notebook)
        for given in each.task.inputs:
            if given.implicit:
                message = f"not yet in this version: look-ups; `run` ignores '{given.name}'"
                notebook.note("not-yet", message, given.place)
        for output in each.task.outputs:
            if output.implicit:
                message = f"not yet in this version: services; `run` does not start '{each.task.name}' as one"
                notebook.note("not-yet", message, output.place)
    for lines in draft.wires.values():
        _lines(lines, _WIRE, notebook)


def _lines(lines: dict[str, Line], what: dict[str, str], notebook: Notebook) -> None:
    for key, line in lines.items():
        if key in what and not (key == "mode" and line.value.text == "service"):
            notebook.note("not-yet", f"not yet in this version: `{key}`; {what[key]}", line.key)
