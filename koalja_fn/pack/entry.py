"""The image of a circuit's entry: the runtime on the base of the tasks' images, and no code of the user's.

It is the same for all circuits, so its layers are in the registry already once one circuit is deployed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from koalja_fn.model import Task
from koalja_fn.pack.collecting import Source

ENTRY = "entry"


def entry_source() -> Source:
    """What goes into it: a note that says that there is no program."""
    note: dict[str, Any] = {"format": 1, "role": ENTRY}
    version = "sha256:" + hashlib.sha256(ENTRY.encode()).hexdigest()
    return Source(Task(ENTRY), Path("/"), (), (), version, note)
