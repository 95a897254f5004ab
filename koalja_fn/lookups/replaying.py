"""Replaying: a program's requests are answered from the record, and nobody is asked."""

from __future__ import annotations

import hashlib
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from koalja_fn.errors import StoreError
from koalja_fn.lookups import masking
from koalja_fn.lookups.receiving import HOP_BY_HOP, Connection, Refusal, Taped, clean, moved, named
from koalja_fn.lookups.recorded import Missing, Record, pairs_of
from koalja_fn.lookups.switching import ANSWERED, VERSION, Target
from koalja_fn.registry.lookups import Body, LookupRow

if TYPE_CHECKING:
    from koalja_fn.lookups.proxy import Asking

# An answer is looked at whole before any of it is given; larger ones are not kept.
_LARGEST = 64 << 20
_SHOWN = 200
_CURE = "a recompute without --replay-lookups asks anew"


class Replaying(Connection):
    """One connection from a program whose requests are answered from a record."""

    def __init__(self, client: socket.socket, wire: str, port: int, asking: Asking, record: Record) -> None:
        super().__init__(client, wire, port, asking)
        self._record_of_wire = record

    def _answer(self, taped: Taped, length: int | None) -> None:
        for _ in self._body(length, taped):
            pass  # which request it is shows at its end
        asked = taped.asked.known
        try:
            row = self._record_of_wire.take(taped.method, taped.path, asked, taped.headers["asked"])
            body = self._read(row)
        except Missing as missing:
            what = f"look-up {_named(taped, asked, self._wire)} has no answer on record: {missing}"
            self._asking.miss(what)
            raise Refusal(502, what, _CURE) from missing
        one = row.lookup
        taped.replayed = row.id if one.replayed is None else one.replayed
        taped.target = Target("", 0, answered=one.answered, version=one.version, place=one.place)
        taped.status = one.status
        self._give(taped, row, body)
        taped.told.end()

    def _read(self, row: LookupRow) -> bytes:
        """The recorded answer's body.

        Raises:
            Missing: It is not there any more, or never was.
        """
        told, store = row.lookup.told, self._asking.store
        if not told.size:
            return b""
        if not told.digest:
            raise Missing("the end of its answer was not seen then")
        try:
            if told.size > _LARGEST or not store.has(told.digest):
                why = "was purged, lost or damaged" if told.kept else "was too large to be kept"
                raise Missing(f"its answer of {told.size} bytes {why}")
            body = store.read(told.digest)
        except StoreError as error:
            raise Missing(f"its answer can't be read: {error}") from error
        if told.digest != f"sha256:{hashlib.sha256(body).hexdigest()}":
            raise Missing(f"its answer is damaged in the store: {told.digest}")
        return body

    def _give(self, taped: Taped, row: LookupRow, body: bytes) -> None:
        """Answer as it is on record, but for what is not on record as it was."""
        one = row.lookup
        bare = self.command == "HEAD" or one.status in (204, 304)
        recorded = list(pairs_of(one.headers.get("told")))
        dropped = HOP_BY_HOP | {ANSWERED.lower(), VERSION.lower()}
        dropped |= named([value for name, value in recorded if name.lower() == "connection"])
        if not bare or one.status == 204:
            dropped |= {"content-length"}  # its own is sent
        known = [(name, value) for name, value in recorded if name.lower() not in dropped]
        whole = [(name, value) for name, value in known if not masking.is_lost(value)]
        left_out = [[name, value] for name, value in known if masking.is_lost(value)]
        taped.headers["told"] = masking.headers(whole)
        if left_out:
            taped.headers["leftOut"] = left_out
        self.send_response_only(one.status)
        place = Target("", 0, base=urlsplit(one.place).path, place=one.place)
        for name, value in whole:
            self.send_header(name, clean(moved(value, place) if name.lower() == "location" else value))
        if not bare:
            self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self._answered = True
        if not bare and body:
            taped.told.take(body)
            self.wfile.write(body)


def _named(taped: Taped, asked: Body, wire: str) -> str:
    """A request in words."""
    body = f" with {asked.size} B {asked.digest[:19]}" if asked.size else ""
    path = taped.path if len(taped.path) <= _SHOWN else f"{taped.path[:_SHOWN]}…"
    return f"{taped.method} {path}{body} of '{wire}'"
