"""Sending values to a deployed circuit from outside the cluster: by its console, which reaches the entry.

So neither an ingress nor a forwarded port is needed, only the right to run commands in the namespace's pods.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from koalja_fn.cluster import names
from koalja_fn.cluster.console import Console
from koalja_fn.cluster.kinds import SERVICE
from koalja_fn.errors import ClusterError, Refused
from koalja_fn.events import Event
from koalja_fn.local import client

_MOST = 256 << 20
WITH_BODY = {"Prefer": "return=representation"}


def entry_of(console: Console, circuit: str) -> client.Entry:
    """The entry's address inside the cluster.

    Raises:
        ClusterError: It has none yet.
    """
    found = console.cluster.get(SERVICE, console.namespace, names.entry(circuit)) or {}
    address = ((found.get("status") or {}).get("address") or {}).get("url")
    if not address:
        raise ClusterError(
            f"the entry of circuit {circuit} is not ready", cure="koalja-fn doctor --cluster tells why"
        )
    return client.Entry(str(address).rstrip("/"), circuit, {})


def post(
    console: Console, entry: client.Entry, wire: str, group: Sequence[Event], told: Any
) -> list[dict[str, Any]]:
    """Post events; the receipts. Raises as `client.post` does."""

    def ask(url: str, body: Any, headers: dict[str, str]) -> list[dict[str, Any]]:
        data = body if isinstance(body, bytes) else _whole(body)
        length = {name: text for name, text in headers.items() if name != "Content-Length"}
        line = json.dumps({"url": url, "headers": {**length, **WITH_BODY}}) + "\n"
        ended = console.post(line.encode() + data)
        if ended.status != 0:
            why = ended.err.decode("utf-8", "replace").strip()
            raise client.Unreachable(
                f"the entry at {url} did not answer", why=why, cure="koalja-fn doctor --cluster"
            )
        head, _, answer = ended.out.partition(b"\n")
        said = json.loads(head)
        if said["status"] >= 300:
            raise client.error_of(said["status"], answer, said["retry_after"])
        accepted: list[dict[str, Any]] = json.loads(answer)["accepted"]
        return accepted

    return client.post(entry, wire, group, told=told, ask=ask)


def _whole(file: Any) -> bytes:
    data: bytes = file.read(_MOST + 1)
    if len(data) > _MOST:
        raise Refused(
            "a value of more than 256 MB does not go through the console",
            cure="POST it to the entry's own address, which `koalja-fn deploy` prints",
            http_status=413,
        )
    return data
