"""A walk of ghosts through a circuit's folder: what is seen at each task on this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from koalja_fn import ids
from koalja_fn.engine import ghosting
from koalja_fn.engine.attaching import attach
from koalja_fn.engine.ghosting import Look, Remark, Shape
from koalja_fn.engine.plans import CircuitPlan
from koalja_fn.errors import KoaljaError, NotFound, Refused
from koalja_fn.events import UNTYPED, Event
from koalja_fn.local.holding import state_of
from koalja_fn.local.offering import check_wire
from koalja_fn.local.opening import open_registry, payloads_of
from koalja_fn.local.workplace import findings_error
from koalja_fn.model import Circuit, Task
from koalja_fn.program.folder import Opened, open_circuit
from koalja_fn.program.interpreters import NoCode
from koalja_fn.program.locating import Located, Locator
from koalja_fn.registry import Registry, ghosts
from koalja_fn.registry.registry import Transaction

_PATIENCE = 3.0
_HERE = "this machine"
GHOST = "koaljaghost"
"""The attribute of a CloudEvent that says it is a ghost; on a doorbell it names the walk."""


@dataclass(frozen=True, slots=True)
class Walked:
    """What became of a ghost from outside: its id and its walk's; `duplicate` where that had begun before."""

    id: str
    walk: str
    duplicate: bool


Ghosts = Callable[[str, Sequence[Event]], list[Walked]]
"""Has ghosts from outside walk from a wire."""


def ghosts_of(registry: Registry, plan: CircuitPlan, store: str) -> Ghosts:
    """Ghosts that come to a circuit which runs here: each walks the whole way at once."""

    def walked(wire: str, events: Sequence[Event]) -> list[Walked]:
        circuit = plan.circuit
        located = {name: task.code for name, task in plan.tasks.items()}
        looks = looks_of(Opened(circuit, located, (), plan.folder, None, circuit), circuit, store=store)
        return _walk_each(registry, circuit, looks, wire, events, plan.folder, store)

    return walked


def walk_here(path: Path, wire: str, events: Sequence[Event]) -> list[Walked]:
    """Have ghosts walk through a circuit that does not run.

    Raises:
        WiringError: Its wiring has errors besides missing programs.
        NotFound: It has no such wire.
    """
    opened = open_circuit(path)
    circuit = circuit_to_walk(opened)
    check_wire(circuit, wire)
    folder = opened.folder.resolve()
    store = store_of(folder, state_of(folder))
    looks = looks_of(opened, circuit, store=store)
    registry = open_registry(folder)
    try:
        return _walk_each(registry, circuit, looks, wire, events, folder, store)
    finally:
        registry.close()


def _walk_each(
    registry: Registry,
    circuit: Circuit,
    looks: Mapping[str, Look],
    wire: str,
    events: Sequence[Event],
    folder: Path,
    store: str,
) -> list[Walked]:
    found = []
    for event in events:
        named = walk_of(circuit.name, wire, event)
        known = registry.read(lambda tx, named=named: ghosts.walk(tx, named))  # type: ignore[misc]
        walk(registry, circuit, looks, [wire], shape_of(event), folder=folder, store=store, id=named)
        found.append(Walked(ids.ghost(named, wire), named, known is not None))
    return found


def walk(
    registry: Registry,
    circuit: Circuit,
    looks: Mapping[str, Look],
    wires: Sequence[str],
    shape: Shape,
    *,
    folder: Path,
    store: str,
    id: str = "",
) -> str:
    """Walk the whole circuit; the walk's id, which is drawn where none is given."""
    named = id or ids.derive("walk", circuit.name, registry.clock(), os.urandom(16).hex())
    start = ghosting.starts_of(circuit, wires)
    said = {wire: sink_remarks(circuit, wire, folder) for wire in start.wires}

    def step(tx: Transaction) -> None:
        plan = installed(tx, circuit.name)
        if ghosting.begin(
            tx,
            registry.clock,
            circuit,
            named,
            start,
            shape,
            plan=plan,
            where=_HERE,
            store=store,
            remarks=said,
        ):
            ghosting.walk(tx, registry.clock, circuit, named, looks, plan, begun=start)

    registry.transact(step)
    return named


def circuit_to_walk(opened: Opened) -> Circuit:
    """The circuit as far as its wiring says; missing programs do not hinder a ghost.

    Raises:
        WiringError: It has other errors.
    """
    if opened.circuit is not None:
        return opened.circuit
    excused = {(refusal.code, refusal.message) for refusal in _lacking(opened).values()}
    errors = [f for f in opened.findings if f.severity == "error" and (f.code, f.message) not in excused]
    if errors or not opened.draft.tasks:
        raise findings_error(opened)
    return opened.draft


def looks_of(opened: Opened, circuit: Circuit, *, store: str, probe: bool = False) -> dict[str, Look]:
    """What is seen at each task; with `probe` services outside are connected to."""
    lacking = _lacking(opened)
    found = {}
    for task in circuit.tasks:
        code = opened.located.get(task.name)
        remarks = [*code_remarks(code, lacking.get(task.name))]
        if probe:
            remarks += probe_remarks(circuit, task)
        wires = {wire: sink_remarks(circuit, wire, opened.folder) for wire in task.output_wires}
        found[task.name] = Look(
            _HERE,
            store,
            code.version if code else "",
            _run_of(task, code, opened.folder),
            tuple(remarks),
            wires,
        )
    return found


def code_remarks(code: Located | None, lacking: NoCode | None = None) -> list[Remark]:
    """Whether there is a program that can be started."""
    if lacking is not None or code is None:
        what = lacking.message if lacking else "there is no program"
        told = f"{what}: no snapshot could be run"
        return [
            Remark("refused", lacking.code if lacking else "no-code", told, lacking.cure if lacking else "")
        ]
    first = code.command[0] if code.command else ""
    if not first or not os.access(first, os.X_OK):
        return [
            Remark(
                "refused", "not-executable", f"{first or 'the program'} can't be started", f"chmod +x {first}"
            )
        ]
    missing = [str(path) for path in code.files if not os.access(path, os.R_OK)]
    return [
        Remark("refused", "unreadable", f"can't read {path}", "see its permissions") for path in missing[:3]
    ]


def sink_remarks(circuit: Circuit, wire: str, folder: Path) -> tuple[Remark, ...]:
    """Whether files of a `to` could be written."""
    sink = ghosting.sink_of(circuit, wire)
    if not ghosting.is_file_pattern(sink):
        return ()
    place = folder / ghosting.first_folder(sink)
    there = next((p for p in (place, *place.parents) if p.exists()), Path("/"))
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return ()
    why = "you may not write there" if there.is_dir() else f"{there} is no folder"
    return (
        Remark("refused", "to", f"to = {sink} can't be written: {why}", f"see the permissions of {there}"),
    )


def probe_remarks(circuit: Circuit, task: Task) -> list[Remark]:
    """Which outside services of a task do not even accept a connection; nothing is sent to them."""
    found = []
    for item in task.inputs:
        address = circuit.wires[item.wires[0]].at if item.implicit else None
        why = _unreachable(address) if address else ""
        if why:
            what = f"'{item.wires[0]}' at {address} can't be reached: {why}"
            found.append(Remark("refused", "unreachable", what, "see the address, and whether it runs"))
    return found


def _unreachable(address: str) -> str:
    try:
        parts = urlsplit(address)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        with socket.create_connection((parts.hostname or "", port), timeout=_PATIENCE):
            return ""
    except (OSError, ValueError) as error:
        return str(error)


def store_of(folder: Path, state: Path) -> str:
    """Where payloads of a folder would be put, as people know it."""
    payloads = payloads_of(state)
    if payloads:
        return payloads.url
    objects = state / "objects"
    return str(objects.relative_to(folder) if objects.is_relative_to(folder) else objects)


def ghosts_among(events: Sequence[Event]) -> bool:
    """Whether these events are ghosts: a message has ghosts only, or none.

    Raises:
        Refused: They are mixed, or one of them has a payload.
    """
    marked = [str(event.attributes.get(GHOST, "")).lower() == "true" for event in events]
    if not any(marked):
        return False
    if not all(marked):
        raise Refused("ghosts and values in one batch", cure="send them one after the other")
    if any(_has_payload(event) for event in events):
        raise Refused(
            "a ghost carries no payload",
            why=f"the event says {GHOST}, and it has data",
            cure=f"leave out the data (koaljasize and the content type tell of it), or leave out {GHOST}",
        )
    return True


def _has_payload(event: Event) -> bool:
    if isinstance(event.payload, bytes):
        return bool(event.payload)
    return event.payload.stat().st_size > 0


def shape_of(event: Event) -> Shape:
    """What a ghost says about the value that it stands for."""
    size = str(event.attributes.get("koaljasize", ""))
    if size and not (size.isascii() and size.isdigit() and len(size) < 19):
        raise Refused("koaljasize is no number of bytes", why=f"it is {size[:40]!r}", cure="a whole number")
    return Shape("" if event.type == UNTYPED else event.type, int(size or 0), event.name)


def walk_of(circuit: str, wire: str, event: Event) -> str:
    """The walk's id of a ghost from outside: the same event again is the same walk."""
    return ids.derive("walk", circuit, wire, event.source, event.id)


def installed(tx: Transaction, name: str) -> CircuitPlan | None:
    """The circuit as it is installed in this registry, if it is."""
    try:
        return attach(tx, name, {}).plan
    except (NotFound, KeyError):
        return None


def _lacking(opened: Opened) -> dict[str, NoCode]:
    """Tasks whose code was not found, and why."""
    lacking = [task for task in opened.draft.tasks if task.name not in opened.located]
    if not lacking or not opened.folder.is_dir():
        return {}
    locator = Locator(opened.folder, opened.draft)
    found = {}
    for task in lacking:
        try:
            locator.locate(task)
        except NoCode as missing:
            found[task.name] = missing
        except (KoaljaError, OSError):
            continue
    return found


def _run_of(task: Task, code: Located | None, folder: Path) -> str:
    """What would be started, as the user wrote or named it."""
    if task.run:
        return task.run
    if code is None or code.program is None:
        return ""
    try:
        return f"./{code.program.relative_to(folder)}"
    except ValueError:
        return str(code.program)
