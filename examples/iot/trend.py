#!/usr/bin/env python3
"""How much a reading changed from the first of the files to the last, per hour."""

import json
import sys
from datetime import datetime
from pathlib import Path

first, *_, last = (json.loads(Path(name).read_text()) for name in sys.argv[1:])
hours = (datetime.fromisoformat(last["time"]) - datetime.fromisoformat(first["time"])).total_seconds() / 3600
change = last["value"] - first["value"]
print(json.dumps({"until": last["time"], "change": round(change, 2), "per_hour": round(change / hours, 2)}))
