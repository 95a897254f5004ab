"""Checks on wires: who feeds them, who reads them, who offers a service."""

from __future__ import annotations

import difflib
import re

from koalja_fn.addresses import Objects, Queue, check_sink, check_source
from koalja_fn.errors import UsageError
from koalja_fn.model import SINK_FIELDS, Circuit, Place, is_address
from koalja_fn.wiring.findings import Notebook
from koalja_fn.wiring.meaning import Draft
from koalja_fn.wiring.names import RESERVED, did_you_mean
from koalja_fn.wiring.syntax import Line

_FIELD = re.compile(r"\{(\w+)\}")
_MOST_PAIRS = 2_000
"""Pairs of names up to which likely slips of the pen are looked for: it takes a while for each."""


class _Uses:
    """Who uses each wire, and where: (task, place)."""

    def __init__(self, circuit: Circuit) -> None:
        self.read: dict[str, tuple[str, Place]] = {}
        self.asked: dict[str, list[tuple[str, Place]]] = {}
        self.fed: dict[str, list[tuple[str, Place]]] = {}
        self.offered: dict[str, list[tuple[str, Place]]] = {}
        for task in circuit.tasks:
            for given in task.inputs:
                for wire in given.wires:
                    if given.implicit:
                        self.asked.setdefault(wire, []).append((task.name, given.place))
                    else:
                        self.read.setdefault(wire, (task.name, given.place))
            for output in task.outputs:
                side = self.offered if output.implicit else self.fed
                side.setdefault(output.wire, []).append((task.name, output.place))


def check_wires(draft: Draft, notebook: Notebook) -> None:
    """Check all wires of a circuit. What may be an effect of an unreadable statement is left out."""
    uses = _Uses(draft.circuit)
    _feeders(uses, notebook)
    _services(uses, draft, notebook)
    _statements(uses, draft, notebook)
    if not draft.partial:
        _loose_ends(uses, draft.circuit, notebook)


def _feeders(uses: _Uses, notebook: Notebook) -> None:
    for side in (uses.fed, uses.offered):
        for wire, feeders in side.items():
            first = feeders[0][0]
            for task, place in feeders[1:]:
                if task == first:
                    notebook.error(
                        "wire-twice", f"'{wire}' is there twice in the outputs of '{task}'", place, "drop one"
                    )
                    continue
                notebook.error(
                    "two-feeders",
                    f"wire '{wire}' is fed by '{first}' and by '{task}'",
                    place,
                    f"give each its own wire, and merge them at the reader: ({wire} + {wire}-2) task (out)",
                )


def _services(uses: _Uses, draft: Draft, notebook: Notebook) -> None:
    for wire, askers in uses.asked.items():
        if wire in uses.offered or draft.circuit.wires[wire].at or draft.partial:
            continue
        task, place = askers[0]
        cure = f"add a task with the output `{wire} implicit`, or: wire {wire} with at = https://…"
        if wire in uses.fed:
            cure = (
                f"write `{wire} implicit` in the outputs of '{uses.fed[wire][0][0]}', or drop `implicit` here"
            )
        elif guess := did_you_mean(wire, [w for w in uses.offered if w != wire]):
            cure = guess
        notebook.error("no-offer", f"nobody offers '{wire}', which '{task}' asks", place, cure)
    for wire, offers in uses.offered.items():
        if wire in uses.read:
            task, place = uses.read[wire]
            notebook.error(
                "service-read",
                f"'{wire}' is a service of '{offers[0][0]}', no stream of values that '{task}' could read",
                place,
                f"write: {wire} implicit",
            )
        if wire in uses.fed:
            task, place = uses.fed[wire][0]
            notebook.error(
                "two-feeders",
                f"'{wire}' is a service of '{offers[0][0]}' and a stream of '{task}'",
                place,
                "rename one of them",
            )


def _statements(uses: _Uses, draft: Draft, notebook: Notebook) -> None:
    streams = {**uses.read, **uses.fed}
    used = {**streams, **uses.asked, **uses.offered}
    taken: dict[str, str] = {}
    for wire, lines in draft.wires.items():
        place = draft.circuit.wires[wire].place
        if wire not in used:
            if not draft.partial:
                cure = did_you_mean(wire, used) or "drop the statement, or use the wire"
                notebook.warning("unused-wire", f"no task has the wire '{wire}'", place, cure)
            continue
        if "from" in lines and wire in uses.fed:
            notebook.error(
                "from-fed",
                f"'{wire}' is fed by '{uses.fed[wire][0][0]}', so it can't also be filled from outside",
                lines["from"].key,
                "drop `from`, or merge two wires: (a + b) task (out)",
            )
        if "at" in lines and wire not in uses.asked:
            notebook.warning(
                "no-effect",
                "`at` has no effect here: no task asks this wire",
                lines["at"].key,
                f"write `{wire} implicit` in the inputs of a task",
            )
        if "to" in lines:
            _fields(lines["to"], notebook)
        _addresses(wire, lines, taken, notebook)
        for key in ("type", "from", "to", "keep", "identity", "accept"):
            if key in lines and wire not in streams:
                notebook.warning(
                    "no-effect",
                    f"`{key}` has no effect here: '{wire}' is a service, no stream",
                    lines[key].key,
                    "drop it",
                )


def _addresses(wire: str, lines: dict[str, Line], taken: dict[str, str], notebook: Notebook) -> None:
    """Queues and buckets in `from` and `to`: each can be read, and somebody tells of new objects.

    `taken` are the queues and their wires so far.
    """
    source, sink = lines.get("from"), lines.get("to")
    named = []
    try:
        if sink is not None and is_address(sink.value.text):
            check_sink(sink.value.text)
        for text in source.value.text.split(",") if source is not None else ():
            if is_address(text.strip()):
                named.append(check_source(text.strip()))
    except UsageError as error:
        place = (sink if sink is not None and sink.value.text in error.what else source) or sink
        assert place is not None
        notebook.error("address", ": ".join(filter(None, (error.what, error.why))), place.value, error.cure)
        return
    for queue in (one for one in named if isinstance(one, Queue)):
        other = taken.setdefault(queue.name, wire)
        if other != wire and source is not None:
            message = f"'{other}' takes the messages of {queue}, too: each would come to one of them only"
            notebook.error("address", message, source.value, "have both tasks read one wire")
    buckets = [one for one in named if isinstance(one, Objects)]
    if source is not None and buckets and len(buckets) == len(named):
        message = f"nobody tells '{wire}' of new objects in {buckets[0].bucket}"
        cure = f"name the queue to which the bucket's notifications go: from = sqs://NAME, {buckets[0]}"
        notebook.error("address", message, source.value, cure)


def _fields(sink: Line, notebook: Notebook) -> None:
    """Braces in a `to` that stand for nothing: all values would be written to one file."""
    for name in _FIELD.findall(sink.value.text):
        if name not in SINK_FIELDS:
            message = f"to: {{{name}}} stands for nothing here and is written as it is"
            cure = did_you_mean(name, SINK_FIELDS) or f"one of {', '.join(f'{{{f}}}' for f in SINK_FIELDS)}"
            notebook.warning("placeholder", message, sink.value, cure)


def _loose_ends(uses: _Uses, circuit: Circuit, notebook: Notebook) -> None:
    sources = [w for w in uses.read if w not in uses.fed and w not in uses.offered]
    ends = [w for w in uses.fed if w not in uses.read and w not in uses.asked]
    guessing = len(sources) * len(ends) <= _MOST_PAIRS
    for wire in sources:
        task, place = uses.read[wire]
        reserved = difflib.get_close_matches(wire, RESERVED, n=1, cutoff=0.85)
        if reserved:
            message = f"no task feeds '{wire}': is it meant as a word that says how '{task}' reads?"
            notebook.warning("reserved", message, place, f"did you mean '{reserved[0]}'?")
            continue
        guess = did_you_mean(wire, ends) if guessing else ""
        notebook.note("source", f"no task feeds '{wire}', which '{task}' reads: it is a source", place, guess)
    for wire in ends:
        if not circuit.wires[wire].sink:
            task, place = uses.fed[wire][0]
            notebook.note("end", f"no task reads '{wire}' of '{task}': its values are results", place)
    for wire, offers in uses.offered.items():
        if wire not in uses.asked and wire not in uses.read:
            task, place = offers[0]
            notebook.note("end", f"no task asks '{wire}' of '{task}'", place)
