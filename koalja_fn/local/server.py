"""The entry's server: on loopback, with large bodies in the folder's spool."""

from __future__ import annotations

import codecs
from functools import partial
from pathlib import Path

from koalja_fn.events import DEFAULT_LIMITS, Limits
from koalja_fn.local import spool as spools
from koalja_fn.web import Express
from koalja_fn.web import Server as HttpServer
from koalja_fn.web.wsgi import Application


class Server:
    """Serves an application on 127.0.0.1; `start` tells the port, `drain` ends it."""

    def __init__(
        self,
        app: Application,
        *,
        spool: Path,
        limits: Limits = DEFAULT_LIMITS,
        port: int = 0,
        threads: int = 8,
        express: Express | None = None,
    ) -> None:
        self._spool = spool
        self._server = HttpServer(
            app,
            spool=partial(spools.Spooled, spool),
            body=limits.body,
            headers=limits.headers,
            port=port,
            threads=threads,
            express=express,
        )

    @property
    def port(self) -> int:
        """The port in use."""
        return self._server.port

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> int:
        """Listen, and serve in threads; return the port. OSError if the port is taken."""
        # Werkzeug looks up the codec 'idna'. Two first requests at a time may break its import, and
        # CPython remembers the failure for the rest of the process.
        codecs.lookup("idna")
        "x".encode("idna")
        self._spool.mkdir(parents=True, exist_ok=True)
        spools.clear(self._spool)
        return self._server.start()

    def drain(self, timeout: float = 30.0) -> bool:
        """Refuse new requests (503), answer those in flight, close; False if some took longer."""
        return self._server.drain(timeout)
