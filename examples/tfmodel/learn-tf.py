#!/usr/bin/env python3
"""Train a classifier of handwritten digits: multinomial logistic regression in plain Python.

Each argument is a PGM sheet: 8x8 images of one digit, one below the other; a comment says which
digit. Stochastic gradient descent in a fixed order, so the same sheets give the same model.
"""

import json
import math
import operator
import sys
from pathlib import Path

SIDE = 8
CLASSES = 10
EPOCHS = 20
RATE = 0.05

Example = tuple[list[float], int]


def examples(file: str) -> list[Example]:
    """The images of a sheet, each as 64 brightnesses from 0 to 1 and a constant 1, with its digit."""
    lines = Path(file).read_text().splitlines()
    digit = int(next(line for line in lines if line.startswith("# digit")).split()[-1])
    numbers = " ".join(line for line in lines[1:] if not line.startswith("#")).split()
    brightest = int(numbers[2])
    pixels = [int(n) / brightest for n in numbers[3:]]
    size = SIDE * SIDE
    return [([*pixels[at : at + size], 1.0], digit) for at in range(0, len(pixels), size)]


def in_turns(sheets: list[list[Example]]) -> list[Example]:
    """One image of each sheet, then the next of each: the digits take turns."""
    longest = max(len(sheet) for sheet in sheets)
    return [sheet[i] for i in range(longest) for sheet in sheets if i < len(sheet)]


def learn(lessons: list[Example]) -> list[list[float]]:
    weights = [[0.0] * (SIDE * SIDE + 1) for _ in range(CLASSES)]
    for _ in range(EPOCHS):
        for image, digit in lessons:
            scores = [sum(map(operator.mul, row, image)) for row in weights]
            top = max(scores)
            odds = [math.exp(score - top) for score in scores]
            total = sum(odds)
            for k in range(CLASSES):
                step = RATE * ((k == digit) - odds[k] / total)
                weights[k] = [w + step * x for w, x in zip(weights[k], image, strict=True)]
    return weights


lessons = in_turns([examples(file) for file in sys.argv[1:]])
weights = learn(lessons)
print(json.dumps({"trained_on": len(lessons), "weights": [[round(w, 4) for w in row] for row in weights]}))
