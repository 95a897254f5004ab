"""The launcher's layer: ours, or the one that KOALJA_CNB_LAUNCHER names."""

from __future__ import annotations

import os
from pathlib import Path

from koalja_fn.pack import launcher
from koalja_fn.pack.errors import PhaseError
from koalja_fn.pack.oci.layer import Entry, layer_from_tree
from koalja_fn.pack.oci.values import Layer

LAUNCHER = "/cnb/lifecycle/launcher"


def launcher_layer(out: Path, interpreter: str) -> Layer:
    """A layer with `/cnb/lifecycle/launcher`; `interpreter` is the image's Python."""
    given = os.environ.get("KOALJA_CNB_LAUNCHER")
    if given:
        try:
            content = Path(given).read_bytes()
        except OSError as error:
            raise PhaseError(
                "the launcher that KOALJA_CNB_LAUNCHER names can't be read", phase="export", why=str(error)
            ) from error
    else:
        content = launcher_text(interpreter)
    folders = [Entry.folder(path) for path in ("/cnb", "/cnb/lifecycle")]
    return layer_from_tree([*folders, Entry.file(LAUNCHER, content, 0o755)], out, order="given")


def launcher_text(interpreter: str) -> bytes:
    """Our launcher for an image whose Python is at `interpreter`."""
    if not interpreter:
        raise PhaseError(
            "the run image has no Python of version 3.11 or newer",
            phase="export",
            why="the launcher of koalja-fn and the runtime are written in it",
            cure="name a run image with Python, such as python:3.12-slim",
        )
    text = Path(launcher.__file__).read_bytes()
    return f"#!{interpreter} -IS\n".encode() + text.split(b"\n", 1)[1]
