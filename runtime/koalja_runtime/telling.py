"""What the runtime says on standard error: a line of JSON for each attempt, and trouble."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from koalja_fn.engine.executing import Executed


def ended(executed: Executed) -> None:
    """An attempt has ended."""
    ending = executed.ending
    say(
        json.dumps(
            {
                "task": executed.claim.plan.name,
                "snapshot": executed.claim.id,
                "outcome": executed.outcome,
                "seconds": round(ending.seconds, 3),
                "message": ending.message,
                "values": [{"wire": v.wire, "id": v.id, "digest": v.digest} for v in ending.values],
            }
        )
    )


def trouble(error: BaseException) -> None:
    """Something went wrong in the runtime itself."""
    say(f"trouble: {type(error).__name__}: {error}")


def say(text: str) -> None:
    """Say it in one piece: threads do not mix."""
    sys.stderr.write(f"koalja: {text}\n")
    sys.stderr.flush()
