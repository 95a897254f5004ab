"""The first process of a container. It listens before anything heavy is imported: cold start is a feature."""

from __future__ import annotations

import os
import sys

# Started by its path and isolated (-I), so that no library of the user's can take the place of ours.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120

from koalja_runtime.starting import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
