"""Sending values to a deployed circuit from outside the cluster: by its console, which reaches the entry.

So neither an ingress nor a forwarded port is needed, only the right to run commands in the namespace's pods.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from koalja_fn.cluster import names
from koalja_fn.cluster.client import Pieces
from koalja_fn.cluster.console import Console
from koalja_fn.cluster.kinds import SERVICE
from koalja_fn.errors import ClusterError
from koalja_fn.events import Event, Limits
from koalja_fn.local import client
from koalja_fn.local.spool import too_large

_PART = 1 << 20
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
        size = len(body) if isinstance(body, bytes) else int(headers["Content-Length"])
        if size > Limits().body:
            raise too_large(Limits().body)
        line = json.dumps({"url": url, "headers": {**headers, **WITH_BODY}}).encode() + b"\n"
        ended = console.post(Pieces(len(line) + size, chain([line], _parts(body))))
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


def _parts(body: Any) -> Iterator[bytes]:
    """A value's bytes; one in a file is read as it is sent."""
    if isinstance(body, bytes):
        yield body
        return
    while part := body.read(_PART):
        yield part
