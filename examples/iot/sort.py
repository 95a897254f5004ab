#!/usr/bin/env python3
"""Put a message of a sensor on the wire that bears the sensor's name."""

import json
import os
import sys
from pathlib import Path

message = Path(sys.argv[1])
said = json.loads(message.read_text())
if said["sensor"] in ("temp", "wind"):
    folder = Path(os.environ["KOALJA_OUT"], said["sensor"])
    folder.mkdir(exist_ok=True)
    (folder / f"{said['time'].replace(':', '')}.json").write_text(json.dumps(said))
