#!/usr/bin/env python3
"""Hand on the readings of strong wind."""

import json
import sys
from pathlib import Path

said = json.loads(Path(sys.argv[1]).read_text())
if said["value"] >= 20:
    print(json.dumps(said))
