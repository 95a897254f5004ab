#!/usr/bin/env python3
"""Turn a window of PGM images into one JSON document that `predict` reads."""

import json
import sys
from pathlib import Path


def image(file: str) -> dict[str, object]:
    """Brightnesses from 0 to 1; the digit that was meant, if a comment says it."""
    lines = Path(file).read_text().splitlines()
    meant = [int(line.split()[-1]) for line in lines if line.startswith("# digit")]
    numbers = " ".join(line for line in lines[1:] if not line.startswith("#")).split()
    brightest = int(numbers[2])
    return {"meant": meant[0] if meant else None, "pixels": [int(n) / brightest for n in numbers[3:]]}


print(json.dumps([image(file) for file in sys.argv[1:]]))
