#!/usr/bin/env python3
"""Name the digit on each image of a window: predict.py IMAGES.json MODEL.json."""

import json
import operator
import sys
from pathlib import Path

images, model = (json.loads(Path(file).read_text()) for file in sys.argv[1:3])


def digit(pixels: list[float]) -> int:
    scores = [sum(map(operator.mul, row, [*pixels, 1.0])) for row in model["weights"]]
    return scores.index(max(scores))


seen = [digit(image["pixels"]) for image in images]
meant = [image["meant"] for image in images]
right = sum(a == b for a, b in zip(seen, meant, strict=True))
print(json.dumps({"seen": seen, "meant": meant, "right": right, "of": len(images)}))
