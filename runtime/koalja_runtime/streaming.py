"""The role service's server: gunicorn's threads, which send an answer in pieces, as it is made."""

from __future__ import annotations

import os
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.workers.gthread import ThreadWorker

from koalja_runtime.front import Front
from koalja_runtime.settings import BESIDES, LAST, Settings

_KEEP_ALIVE = 620  # longer than any client of ours keeps an idle connection
_LONGEST_LINE = 8190
_FIELDS = 100


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn's threads, with an application that is told when the end has come."""

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: what is under way goes on."""
        self.wsgi.drain(max(1.0, self.cfg.graceful_timeout - LAST))
        super().handle_exit(sig, frame)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """SIGINT, SIGQUIT: end soon."""
        self.wsgi.drain(0.0)
        super().handle_exit(sig, frame)


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
            "worker_class": Worker,
            "workers": 1,
            "threads": settings.places + BESIDES,
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
