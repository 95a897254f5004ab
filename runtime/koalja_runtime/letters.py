"""Dead letters of Triggers: what a Broker could not deliver is noted, so that `failures` and `log` tell it.

A doorbell that was not heard loses nothing: the sweep rings again. The data of a foreign event that no wire
took are kept in the store, and the event on the list of what was refused.
"""

from __future__ import annotations

import base64
import binascii

from flask import request

from koalja_fn.engine.plans import CircuitPlan, TaskPlan
from koalja_fn.engine.ringing import is_ring
from koalja_fn.events import Event, read
from koalja_fn.local.spool import spool_stream
from koalja_fn.registry import records
from koalja_fn.registry.registry import Transaction
from koalja_runtime.entrance import LIMITS
from koalja_runtime.joining import Joined

_LONGEST = 1024


def note(joined: Joined, plan: CircuitPlan) -> None:
    """Note the events of the request.

    Raises:
        Refused: It is no event.
    """
    said = {
        name.lower()[3:]: text for name, text in request.headers.items() if name.lower().startswith("ce-")
    }
    if is_ring(said.get("type", "")):  # it carries nothing, and what it says is looked up, never trusted
        _note(joined, plan, Event(b"", said.get("source", ""), said.get("id", ""), attributes=said))
        return
    body = spool_stream(request.stream, joined.scratch / "spool", LIMITS.body)  # type: ignore[arg-type]
    try:
        for event in read(dict(request.headers.items()), body, LIMITS):
            _note(joined, plan, event)
    finally:
        if not isinstance(body, bytes):
            body.unlink(missing_ok=True)


def _note(joined: Joined, plan: CircuitPlan, event: Event) -> None:
    said = event.attributes
    if is_ring(str(said.get("type", ""))):
        task = _task_of(plan, event)
        if task is not None:
            text = f"a doorbell was not heard: {_why(event)}"
            fields = {name: said[name] for name in ("koaljawire", "koaljatask") if name in said}

            def remark(tx: Transaction) -> None:
                records.remark(tx, task.id, None, joined.registry.clock(), "undelivered", text, fields)

            joined.registry.transact(remark)
        return
    stored = (
        joined.store.put_bytes(event.payload)
        if isinstance(event.payload, bytes)
        else joined.store.put_file(event.payload)
    )

    def refuse(tx: Transaction) -> None:
        now = joined.registry.clock()
        reason = f"not delivered: {_why(event)}"
        refusal = records.Refusal("", now, "", event.source, event.id, stored.digest, "", reason)
        records.refuse(tx, refusal, plan.id)

    joined.registry.transact(refuse)


def _task_of(plan: CircuitPlan, event: Event) -> TaskPlan | None:
    """The task that was meant: named by the ring, or by where it was to be delivered."""
    said = event.attributes
    named = plan.tasks.get(str(said.get("koaljatask", "")))
    if named is not None:
        return named
    readers = plan.by_wire.get(str(said.get("koaljawire", "")), ())
    place = str(said.get("knativeerrordest", ""))
    meant = [reader for reader in readers if f"//{plan.circuit.name}--{reader.name}." in place]
    return next(iter(meant or readers), None)


def _why(event: Event) -> str:
    """What the Broker says about it; its text is cut, and never trusted."""
    said = event.attributes
    encoded = str(said.get("knativeerrordata", ""))[: 2 * _LONGEST]
    try:
        text = base64.b64decode(encoded, validate=True).decode("utf-8", "replace")
    except (ValueError, binascii.Error):
        text = encoded
    code = str(said.get("knativeerrorcode", "")) or "no answer"
    return f"{code} {' '.join(text.split())}".strip()[:_LONGEST]
