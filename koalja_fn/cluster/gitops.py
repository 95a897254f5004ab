"""What `deploy` does besides applying objects, as objects: for clusters that somebody else applies to.

A circuit has to be in the registry before its tasks work. A Job brings it there; until it is done the
runtimes answer that they are not ready, and try again.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from koalja_fn.cluster import names, pods
from koalja_fn.cluster.kinds import Object
from koalja_fn.cluster.place import Deployed
from koalja_fn.plain import plain_circuit

_FILE, _FOLDER = "circuit.json", "/circuit"
_LAYER = "koalja_function/runtime/python"
# The runtime's own command, with the file in place of standard input.
_PROGRAM = f"""\
import os, sys
sys.path.insert(0, os.path.join(os.environ.get("CNB_LAYERS_DIR", "/layers"), "{_LAYER}"))
sys.stdin = open("{_FOLDER}/{_FILE}", encoding="utf-8")
from koalja_runtime.starting import main
sys.exit(main(["install"]))
"""
_TRIES = 6
_HASHED = 8


def installation(place: Deployed, wiring: str) -> list[Object]:
    """The circuit as a file, and the Job that brings it into the registry; a new one for each change."""
    told = {
        "circuit": plain_circuit(place.circuit),
        "wiring": wiring,
        "versions": {task.name: place.versions.get(task.name, "") for task in place.circuit.tasks},
    }
    text = json.dumps(told, ensure_ascii=False, indent=1) + "\n"
    # A Job can't be changed: whatever is in it, or in the file, makes another one.
    draft = json.dumps(_job(place, ""), sort_keys=True)
    digest = hashlib.sha256(f"{text}\0{draft}".encode()).hexdigest()[:_HASHED]
    name = f"{names.installation(place.circuit.name)}-{digest}"
    told_as_file = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": place.metadata(name, "install"),
        "immutable": True,
        "data": {_FILE: text},
    }
    return [told_as_file, _job(place, name)]


def _job(place: Deployed, name: str) -> Object:
    content = pods.container(place, names.ENTRY, "console")
    content["command"] = ["python3", "-I", "-c", _PROGRAM]
    content["volumeMounts"].append({"name": "circuit", "mountPath": _FOLDER, "readOnly": True})
    found: dict[str, Any] = pods.pod(place, content)
    found["volumes"].append({"name": "circuit", "configMap": {"name": name}})
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": place.metadata(name, "install"),
        "spec": {
            "backoffLimit": _TRIES,
            "template": {
                "metadata": place.template("install"),
                "spec": {"restartPolicy": "Never", **found},
            },
        },
    }
