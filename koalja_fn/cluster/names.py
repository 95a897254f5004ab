"""What a circuit's objects are called: C for the circuit, T for the task, two hyphens between.

Nothing is cut: a name is what people type, and what other objects refer to. One that Kubernetes would not
take is an error that says how many characters are left.
"""

from __future__ import annotations

import hashlib
import re

from koalja_fn.errors import UsageError
from koalja_fn.model import Circuit
from koalja_fn.wiring.names import normalised

LONGEST = 63
"""A Knative Service's name is a DNS label, and all names become labels' values (RFC 1123)."""

ENTRY, SWEEP, CONSOLE, QUEUE = "entry", "sweep", "console", "queue"
_OURS = (ENTRY, SWEEP, CONSOLE)
_BETWEEN = "--"
_HASHED = 8


def broker(circuit: str) -> str:
    """The Broker of a circuit: the circuit's own name."""
    return normalised(circuit)


def channel(circuit: str) -> str:
    """The channel that the multi-tenant Broker looks for before it makes one (mtbroker/resources)."""
    return f"{broker(circuit)}-kne-trigger"


def entry(circuit: str) -> str:
    """The Service where data come in."""
    return _joined(circuit, ENTRY)


def sweep(circuit: str) -> str:
    """What finds what nobody rang for: a PingSource, a ScaledJob, or both."""
    return _joined(circuit, SWEEP)


def console(circuit: str) -> str:
    """The Pod in which commands are run."""
    return _joined(circuit, CONSOLE)


def authentication(circuit: str) -> str:
    """KEDA's way to the registry."""
    return _joined(circuit, "registry")


def egress(circuit: str) -> str:
    """The NetworkPolicy that says what its pods may reach."""
    return _joined(circuit, "egress")


def reach(circuit: str) -> str:
    """The NetworkPolicy that says what its console may reach besides."""
    return _joined(circuit, "reach")


def installation(circuit: str) -> str:
    """What brings the circuit into the registry where `deploy` does not."""
    return _joined(circuit, "install")


def task(circuit: str, name: str) -> str:
    """The Service, or the ScaledJob, of a task."""
    return _joined(circuit, normalised(name))


def link(circuit: str, reader: str, wire: str) -> str:
    """The Trigger that rings a task for a wire."""
    return _hashed(_joined(circuit, normalised(reader), normalised(wire)), reader, wire)


def own_rings(circuit: str, name: str) -> str:
    """The Trigger for a task's rings to itself."""
    return _hashed(_joined(circuit, normalised(name), "ring"), name)


def accepted(circuit: str, pattern: str) -> str:
    """The Trigger for foreign events of a type."""
    return _hashed(_joined(circuit, "in", _readable(pattern)), pattern)


def written(circuit: str, wire: str) -> str:
    """The Trigger for a wire that is written somewhere."""
    return _hashed(_joined(circuit, "to", normalised(wire)), wire)


def queues(circuit: str) -> str:
    """KEDA's way to the queues."""
    return _joined(circuit, "queues")


def fed(circuit: str, wire: str) -> str:
    """The ScaledJob that takes the messages of a wire's queues."""
    return _hashed(_joined(circuit, "from", normalised(wire)), wire)


def check(circuit: Circuit) -> None:
    """See that all names can be used on a cluster.

    Raises:
        UsageError: Some can't; all of them are named.
    """
    found = [*_troubles(circuit)]
    if found:
        raise UsageError(
            f"circuit {circuit.name} has names that a cluster can't have",
            why="; ".join(found),
            cure="rename them in the wiring",
        )


def _troubles(circuit: Circuit) -> list[str]:
    name = broker(circuit.name)
    found = []
    if _BETWEEN in name:  # else circuit a with task b--c and circuit a--b with task c were one
        found.append(f"the circuit's name has {_BETWEEN} in it, which stands between circuit and task")
    if name == "xn":
        found.append("xn-- is how encoded host names begin")
    for one in circuit.tasks:
        if normalised(one.name) in _OURS:
            found.append(f"a task is called {one.name}, as a part of each circuit is")
    hashed = f"{installation(circuit.name)}-{'0' * _HASHED}"
    for longest in (hashed, entry(circuit.name), console(circuit.name), channel(circuit.name)):
        if len(longest) > LONGEST:
            room = LONGEST - (len(longest) - len(name))
            found.append(f"the circuit's name has {len(name)} characters, {room} can be")
            break
    else:
        room = LONGEST - len(name) - len(_BETWEEN)
        found += [
            f"task {one.name} has {len(one.name)} characters, beside the circuit's name {room} can be"
            for one in circuit.tasks
            if len(one.name) > room
        ]
    return found


def _joined(*parts: str) -> str:
    return _BETWEEN.join((broker(parts[0]), *parts[1:]))


def _hashed(text: str, *parts: str) -> str:
    """A name that nobody types: as long as may be, made unique by what it stands for."""
    digest = hashlib.sha256("\0".join((text, *parts)).encode()).hexdigest()[:_HASHED]
    return f"{text[: LONGEST - _HASHED - 1].rstrip('-')}-{digest}"


def _readable(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "any"
