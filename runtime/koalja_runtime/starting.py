"""Starts what $KOALJA_ROLE says: a server (task, entry, or alone), or what ends by itself (job, queue, …)."""

from __future__ import annotations

import gc
import os
import sys

from koalja_runtime.hiding import hide
from koalja_runtime.settings import Settings


def main(arguments: list[str]) -> int:
    """Run; the exit status."""
    try:
        settings = Settings.of(os.environ)
    except ValueError as error:
        sys.stderr.write(f"koalja: {error}\n")
        return 2
    hide(os.environ)
    if arguments == ["install"]:
        from koalja_runtime.installing import run

        return run(settings)
    if arguments:
        sys.stderr.write(f"koalja: {arguments[0]!r} is no command of the runtime; try install, or none\n")
        return 2
    if settings.role in ("job", "queue", "sweep", "console"):
        from koalja_runtime import ending

        return ending.run(settings)
    gc.disable()  # until it serves: what imports make is here to stay
    from koalja_runtime.serving import serve

    return serve(settings)
