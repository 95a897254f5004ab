"""Call the user's program on one snapshot: place its inputs, run it, collect its outputs.

Knows nothing of registries, leases or retries: the engine decides what a failure means.
"""

from __future__ import annotations

from pathlib import Path

from koalja_fn.program.cancel import Cancel
from koalja_fn.program.contract import Job, Limits, Result
from koalja_fn.program.starting import Spawning, Starter
from koalja_fn.store import Store


class Caller:
    """Calls programs, from as many threads at once as one likes.

    Args:
        store: Where inputs come from.
        root: The folder for scratch folders, such as `.koalja/scratch`; best on the store's file system.
        starter: How processes are made.
        limits: How far a program may go.
    """

    def __init__(
        self, store: Store, root: Path, *, starter: Starter | None = None, limits: Limits | None = None
    ) -> None:
        self.store = store
        self.root = root
        self.starter = starter or Spawning()
        self.limits = limits or Limits()

    def call(self, job: Job, stop: Cancel | None = None) -> Result:
        """Run `job` to its end. A program that fails is a `Result`, not an exception.

        Raises:
            StoreError: A payload is missing or there is no room for the inputs.
        """
        raise NotImplementedError

    def discard(self, result: Result) -> None:
        """Clear the scratch folder of a successful call, once its outputs are stored."""
        raise NotImplementedError

    def close(self) -> None:
        """Remove all scratch folders but those of failed calls; no call may be under way."""
        raise NotImplementedError
