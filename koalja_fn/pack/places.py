"""Where koalja-fn keeps what can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$KOALJA_CACHE, else the user's cache folder; for root one that others may look into."""
    if os.environ.get("KOALJA_CACHE"):
        return Path(os.environ["KOALJA_CACHE"]).absolute()
    if os.geteuid() == 0 and not os.environ.get("XDG_CACHE_HOME"):
        return Path("/var/cache/koalja-fn")
    home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(home).absolute() / "koalja-fn"
