"""Keeping: small caches as JSON in `.koalja/make`; whoever reads one finds all of it or none."""

from __future__ import annotations

import json
import os
from typing import Any


def read(state: str, name: str) -> Any:
    """What was kept under a name.

    Raises:
        OSError, ValueError: Nothing, or nothing that can be read.
    """
    with open(f"{state}/make/{name}", "rb") as file:
        return json.loads(file.read())


def write(state: str, name: str, data: Any) -> None:
    """Keep data under a name."""
    folder = f"{state}/make"
    os.makedirs(folder, exist_ok=True)  # noqa: PTH103
    temporary = f"{folder}/{name}.{os.getpid()}.part"
    with open(temporary, "w", encoding="utf-8", errors="surrogatepass") as file:
        file.write(json.dumps(data, separators=(",", ":"), ensure_ascii=False))
    os.replace(temporary, f"{folder}/{name}")  # noqa: PTH105
