"""Ghosts on a cluster, from outside: the entry begins a walk, and the circuit's console follows it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from koalja_fn.cluster.console import Console
from koalja_fn.cluster.sending import WITH_BODY, entry_of
from koalja_fn.engine.ghosting import Shape
from koalja_fn.errors import ClusterError
from koalja_fn.local import client


def begin(console: Console, circuit: str, wires: Sequence[str], shape: Shape) -> str:
    """Have the entry begin a walk from these wires, or from all ways in; the walk's id.

    Raises:
        ClusterError: The entry does not answer, or knows no ghosts.
        NotFound, Refused: As the entry said.
    """
    entry = entry_of(console, circuit)
    wish = {
        "id": os.urandom(16).hex(),
        "wires": list(wires),
        "type": shape.type,
        "size": shape.size,
        "name": shape.name,
    }
    headers = {"Content-Type": "application/json", **WITH_BODY}
    line = json.dumps({"url": f"{entry.url}/ghost", "headers": headers}) + "\n"
    ended = console.post(line.encode() + json.dumps(wish).encode())
    if ended.status != 0:
        why = ended.err.decode("utf-8", "replace").strip()
        raise ClusterError(
            f"the entry at {entry.url} did not answer", why=why, cure="koalja-fn doctor --cluster"
        )
    head, _, answer = ended.out.partition(b"\n")
    said = json.loads(head)
    if said["status"] >= 300:
        raise client.error_of(said["status"], answer, said["retry_after"])
    return str(json.loads(answer)["accepted"][0]["walk"])
