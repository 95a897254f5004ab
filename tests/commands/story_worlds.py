"""The registries of tests/story/builder.py, for the tests of the verbs that tell of them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "story"))

from builder import World, weather

__all__ = ["World", "weather"]
