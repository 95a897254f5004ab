#!/usr/bin/env python3
"""Average a window of wind readings and say how cold it feels at the latest temperature."""

import argparse
import json
import statistics
from pathlib import Path


def reading(file: Path) -> tuple[str, float]:
    time, value = file.read_text().strip().split(",")
    return time, float(value)


def wind_chill(fahrenheit: float, mph: float) -> float:
    """The index of the US National Weather Service (2001); it is defined for cold and windy hours."""
    if fahrenheit > 50 or mph < 3:
        return fahrenheit
    return 35.74 + 0.6215 * fahrenheit + (0.4275 * fahrenheit - 35.75) * mph**0.16


parser = argparse.ArgumentParser()
parser.add_argument("--temp", type=Path)
parser.add_argument("wind", type=Path, nargs="+")
given = parser.parse_args()

measured, fahrenheit = reading(given.temp)
winds = [reading(file) for file in given.wind]
mph = statistics.fmean(value for _, value in winds)
print(
    json.dumps(
        {
            "from": winds[0][0],
            "until": winds[-1][0],
            "readings": len(winds),
            "mph": round(mph, 2),
            "temp": fahrenheit,
            "temp_measured": measured,
            "feels_like": round(wind_chill(fahrenheit, mph), 1),
        }
    )
)
