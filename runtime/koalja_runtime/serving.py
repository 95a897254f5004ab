"""Gunicorn around the server: one working process, told from here, ended by SIGTERM with grace.

What is started first is the arbiter: as the first process of a container it takes in orphans, and it
starts the working process anew should that be killed. The working process serves by `koalja_fn.web`, and by
gunicorn's own threads in the role service, whose answers are streamed.
"""

from __future__ import annotations

import codecs
import gc
import os
import select
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication
from gunicorn.workers import base

from koalja_fn.web import Server
from koalja_runtime.front import Front
from koalja_runtime.settings import Settings

if TYPE_CHECKING:
    from koalja_fn.web import Body

# More requests than places are let in, so that rings that find no place are answered at once.
_BESIDES = 8
_MORE_THREADS = 4
# Before the grace is over programs are ended, and their snapshots given back.
_LAST = 15.0
_KEEP_ALIVE = 620  # longer than any client of ours keeps an idle connection
_LONGEST_LINE = 8190
_LARGEST_HEAD = 65_536
_LARGEST_BODY = 1 << 30
_LOOK = 1.0
_FIELDS = 100


def serve(settings: Settings) -> int:
    """Serve until SIGTERM; the exit status."""
    # Werkzeug looks up the codec 'idna'. Two first requests at a time may break its import, and
    # CPython remembers the failure for the rest of the process.
    codecs.lookup("idna")
    "x".encode("idna")
    gc.freeze()  # the working process shares these pages, so long as nobody writes to them
    gc.enable()
    Served(settings).run()
    return 0


class Ended:
    """A gunicorn worker whose application is told when the end has come."""

    wsgi: Any
    cfg: Any

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: what is under way goes on."""
        self.wsgi.drain(max(1.0, self.cfg.graceful_timeout - _LAST))
        super().handle_exit(sig, frame)  # type: ignore[misc]

    def handle_quit(self, sig: int, frame: Any) -> None:
        """SIGINT, SIGQUIT: end soon."""
        self.wsgi.drain(0.0)
        super().handle_exit(sig, frame)  # type: ignore[misc]


class Worker(Ended, base.Worker):  # type: ignore[misc]  # gunicorn has no types
    """Our server, on gunicorn's socket."""

    def run(self) -> None:
        """Serve until a signal ends it, or the arbiter is gone; what is under way then is answered."""
        settings: Settings = self.wsgi.settings
        server = Server(
            self.wsgi,
            spool=lambda: _spooled(Path(settings.scratch) / "spool"),
            body=_LARGEST_BODY,
            headers=_LARGEST_HEAD,
            listener=self.sockets[0].sock,
            threads=self.cfg.threads,
            express=self.wsgi,
            idle=_KEEP_ALIVE,
        )
        server.start()
        while self.alive and self.ppid == os.getppid():
            self.notify()
            select.select([self.PIPE[0]], [], [], _LOOK)  # a signal writes into it
        server.drain(self.cfg.graceful_timeout)


def _spooled(folder: Path) -> Body:
    from koalja_fn.local.spool import Spooled  # who serves doorbells needs none

    return Spooled(folder)


def _threads() -> type[Any]:
    """Gunicorn's own threads, which send an answer piece by piece."""
    from gunicorn.workers.gthread import ThreadWorker

    return type("Threads", (Ended, ThreadWorker), {})


class Served(BaseApplication):  # type: ignore[misc]
    """The application with gunicorn's settings, none of which comes from files or the environment."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        """Say how to serve."""
        settings = self._settings
        memory = "/dev/shm"  # noqa: S108  a file there costs no disk; the name is not chosen by others
        values = {
            "bind": f"{settings.host}:{settings.port}",
            "worker_class": _threads() if settings.role == "service" else Worker,
            "workers": 1,
            "threads": settings.places + _BESIDES + _MORE_THREADS,
            "timeout": 0,
            "graceful_timeout": round(settings.grace),
            "keepalive": _KEEP_ALIVE,
            "worker_tmp_dir": memory if os.access(memory, os.W_OK) else None,
            "control_socket_disable": True,
            "limit_request_line": _LONGEST_LINE,
            "limit_request_fields": _FIELDS,
            "limit_request_field_size": _LONGEST_LINE,
            "loglevel": "warning",
            "proc_name": "koalja",
            "worker_exit": lambda _server, worker: worker.wsgi.close() if worker.wsgi else None,
            "post_worker_init": lambda worker: worker.wsgi.warm_up(),
        }
        for name, value in values.items():
            self.cfg.set(name, value)

    def load(self) -> Front:
        """Make the application, in the working process."""
        return Front(self._settings)
