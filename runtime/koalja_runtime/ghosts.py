"""Ghosts on a cluster: the entry lets them in, doorbells bring them on, and each task looks where it runs.

A ghost goes the way that doorbells go, entry, Broker, Trigger, the task's own pod, so that what it shows is
where data would really go. Tasks that hear no doorbells (jobs, what time drives) are walked for by whoever
comes to their wires.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flask import Response, request

from koalja_fn import ids
from koalja_fn.engine import ghosting
from koalja_fn.engine.ghosting import Look, Remark, Shape, Start
from koalja_fn.engine.plans import CircuitPlan
from koalja_fn.engine.ringing import News, source_of
from koalja_fn.engine.working import Post
from koalja_fn.errors import KoaljaError, Refused
from koalja_fn.events import Event, check_value, media_type
from koalja_fn.events.values import bare
from koalja_fn.local.ghosting import Walked, code_remarks, probe_remarks, shape_of, walk_of
from koalja_fn.local.offering import check_wire
from koalja_fn.model import Circuit, Task
from koalja_fn.registry.registry import Transaction
from koalja_runtime.bells import Bells
from koalja_runtime.joining import Joined

_NOWHERE = "sha256:" + "0" * 64
_MOST = 65_536


class Ghosts:
    """The part of ghosts in a circuit's runtime."""

    def __init__(self, joined: Joined, bells: Bells) -> None:
        self._joined = joined
        self._bells = bells

    def enter(self, plan: CircuitPlan, wire: str, events: Sequence[Event]) -> list[Walked]:
        """Have ghosts from outside walk from a wire."""
        found = []
        for event in events:
            named = walk_of(plan.circuit.name, wire, event)
            new = self.begin(plan, named, Start((wire,)), shape_of(event))
            found.append(Walked(ids.ghost(named, wire), named, not new))
        return found

    def begin(self, plan: CircuitPlan, walk: str, start: Start, shape: Shape) -> bool:
        """Begin a walk and ring; False where it had begun before, and then it is rung again."""
        registry, circuit, store = self._joined.registry, plan.circuit, self._joined.settings.store
        said = {wire: _sinks(circuit, wire) for wire in start.wires}
        looks = {task.name: _elsewhere(plan, task, store) for task in circuit.tasks}

        def step(tx: Transaction) -> tuple[bool, list[str]]:
            new = ghosting.begin(
                tx,
                registry.clock,
                circuit,
                walk,
                start,
                shape,
                plan=plan,
                where=_here(),
                store=store,
                remarks=said,
            )
            reached = ghosting.walk(
                tx, registry.clock, circuit, walk, looks, plan, begun=start, only=_is_silent
            )
            return new, reached

        new, reached = registry.transact(step)
        self._ring(circuit, walk, reached)
        return new

    def come(self, post: Post, wire: str, walk: str) -> None:
        """A doorbell has brought a ghost to the task of this image: look, and ring on."""
        registry, plan, circuit = self._joined.registry, post.circuit, post.circuit.circuit
        task = circuit.task(post.plan.name)
        if task is None or not any(wire in item.wires for item in task.streams):
            return
        here = self._look(post, task)
        looks = {each.name: _elsewhere(plan, each, here.store) for each in circuit.tasks}

        def step(tx: Transaction) -> list[str]:
            made = ghosting.take(tx, registry.clock, circuit, walk, wire, task, here, plan)
            begun = Start(tuple(made))
            return ghosting.walk(tx, registry.clock, circuit, walk, looks, plan, begun=begun, only=_is_silent)

        self._ring(circuit, walk, registry.transact(step))

    def _look(self, post: Post, task: Task) -> Look:
        """What is seen in this pod."""
        circuit, code = post.circuit.circuit, post.plan.code
        remarks = [*code_remarks(code), *self._store_remarks(), *probe_remarks(circuit, task)]
        if not post.current:
            what = f"this pod has other code ({code.version}) than was deployed: it leaves the work to that"
            remarks.append(
                Remark("refused", "version", what, "koalja-fn deploy, or wait until it is through")
            )
        return Look(
            _here(),
            self._joined.settings.store,
            code.version,
            task.run or (code.program.name if code.program else ""),
            tuple(remarks),
            {wire: _sinks(circuit, wire) for wire in task.output_wires},
        )

    def _store_remarks(self) -> list[Remark]:
        """Whether the store answers here."""
        try:
            self._joined.store.has(_NOWHERE)
        except KoaljaError as error:
            what = f"the store {self._joined.settings.store} can't be reached: {error.what}"
            return [Remark("refused", "store", what, error.cure or "koalja-fn doctor --cluster")]
        return []

    def _ring(self, circuit: Circuit, walk: str, wires: Iterable[str]) -> None:
        """Tell who reads these wires that a ghost is there."""
        rung = [wire for wire in wires if any(ghosting.is_rung(task) for task in circuit.readers(wire))]
        self._bells.news(
            [News(wire, ids.ghost(walk, wire), source_of(circuit.name, "ghost"), ghost=walk) for wire in rung]
        )
        self._bells.flush()

    def view(self, plan: CircuitPlan) -> Response:
        """`POST /ghost` at the entry: {"id", "wires", "type", "size", "name"}, as JSON, begins a walk."""
        told = request.get_json(force=True, silent=True) if (request.content_length or 0) <= _MOST else None
        if not isinstance(told, dict) or not isinstance(told.get("wires", []), list):
            raise Refused(
                "this is no wish for ghosts", cure="koalja-fn ghost --cluster CIRCUIT", http_status=400
            )
        circuit = plan.circuit
        wires = [check_wire(circuit, str(wire)) for wire in told.get("wires", [])]
        size = told.get("size") or 0
        if not isinstance(size, int) or not 0 <= size < 1 << 62:
            raise Refused("the size is no number of bytes", why=f"it is {str(size)[:40]!r}")
        kind = str(told.get("type") or "")
        shape = Shape(
            media_type(kind) if kind else "", size, check_value("name", str(told.get("name") or ""))
        )
        walk = ids.derive(
            "walk", circuit.name, check_value("id", str(told.get("id") or os.urandom(16).hex()))
        )
        self.begin(plan, walk, ghosting.starts_of(circuit, wires), shape)
        return Response(f'{{"accepted": [{{"walk": "{walk}"}}]}}\n', 202, mimetype="application/json")


def wire_of_ring(environ: Mapping[str, Any]) -> str:
    """The wire that a doorbell rings for."""
    return bare("koaljawire", str(environ.get("HTTP_CE_KOALJAWIRE", "")))


def _is_silent(task: Task) -> bool:
    return not ghosting.is_rung(task)


def _elsewhere(plan: CircuitPlan, task: Task, store: str) -> Look:
    """What is known of a task that is not rung, from the registry only."""
    what = "a job: its link was taken for it, and no pod was started"
    if not task.streams:
        what = "time drives it: its link was taken for it"
    return Look(
        "",
        store,
        plan.tasks[task.name].code.version,
        task.run or "",
        (Remark("note", "not-started", what),),
        {wire: _sinks(plan.circuit, wire) for wire in task.output_wires},
    )


def _sinks(circuit: Circuit, wire: str) -> tuple[Remark, ...]:
    sink = ghosting.sink_of(circuit, wire)
    if not ghosting.is_file_pattern(sink):
        return ()
    return (
        Remark(
            "note", "to", f"to = {sink} names files, which a cluster has not: its values stay in the store"
        ),
    )


def _here() -> str:
    return os.uname().nodename
