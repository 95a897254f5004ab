"""The real `pack`, where it and a Docker API are there: the same buildpack, somebody else's builder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from koalja_fn.errors import UsageError
from koalja_fn.pack.collecting import LABELS, NOTE, VERSION_LABEL, Source, labels_text
from koalja_fn.pack.errors import PhaseError, phase
from koalja_fn.pack.ground import RECIPE_LABEL, Choice
from koalja_fn.pack.oci.client import RegistryClient
from koalja_fn.pack.oci.reference import Reference, Target, is_loopback
from koalja_fn.pack.packing import Listener, Packer
from koalja_fn.pack.wheels import ready

BUILDER = "paketobuildpacks/builder-jammy-base"
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Engine:
    """What was found on this machine: the command `pack`, and why it can't be used if it can't."""

    pack: str
    trouble: str


def look(environ: Mapping[str, str] = os.environ) -> Engine:
    """Whether the real `pack` can be used here."""
    pack = shutil.which("pack", path=environ.get("PATH"))
    if pack is None:
        return Engine("", "there is no `pack` on PATH")
    docker = shutil.which("docker", path=environ.get("PATH"))
    if docker is None:
        return Engine(pack, "there is no `docker` on PATH to ask which engine answers")
    try:
        asked = subprocess.run(
            [docker, "version", "--format", "{{json .Server}}"],
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return Engine(pack, "no Docker API answers")
    if asked.returncode != 0:
        return Engine(pack, "no Docker API answers")
    return Engine(pack, trouble_of(asked.stdout))


def trouble_of(server: str) -> str:
    """Why the engine that calls itself so can't be used; empty if it can."""
    try:
        told = json.loads(server)
    except ValueError:
        return "the Docker API does not say what it is"
    parts = [*(told.get("Components") or []), {"Name": "Engine", "Version": told.get("Version", "")}]
    for part in parts:
        if "podman" in str(part.get("Name", "")).lower() and re.match(
            r"4\.3\.", str(part.get("Version", ""))
        ):
            return f"the engine is Podman {part['Version']}, which mixes up layers: use 4.2 or 4.4"
    return ""


def choose(wanted: str, *, layout: bool, run_image: bool) -> tuple[str, str]:
    """Which packer, and why.

    Raises:
        UsageError: `pack` is wanted and can't be used.
    """
    if wanted == "embedded":
        return "embedded", "as asked for"
    found = Engine("", "images for a folder are made without it") if layout else look()
    if wanted == "pack":
        if found.trouble:
            raise UsageError("pack can't be used", why=found.trouble, cure="--packer embedded")
        return "pack", "as asked for"
    if found.trouble:
        return "embedded", found.trouble
    if run_image:
        return "embedded", "a run image without a builder was named"
    return "pack", "it and a Docker API are here"


def packer(choice: Choice, client: RegistryClient) -> Packer:
    """The packer that calls `pack build`."""
    command = look().pack
    folder = ready()

    def one(source: Source, to: Target, recipe: str, listener: Listener) -> tuple[str, int, int]:
        assert isinstance(to, Reference)
        with tempfile.TemporaryDirectory(prefix="koalja-app-") as scratch, phase(source.task.name, "build"):
            app = Path(scratch)
            _fill(source, recipe, app)
            _run(_words(command, choice, folder, app, to), source.task.name, listener)
            digest = client.place(to).digest_of(to.which)
            return digest or "", 0, 0

    return one


def _words(command: str, choice: Choice, folder: Path, app: Path, to: Reference) -> list[str]:
    words = [command, "build", str(to), "--path", str(app), "--builder", choice.builder or BUILDER]
    words += ["--trust-builder", "--trust-extra-buildpacks", "--pull-policy", "if-not-present", "--publish"]
    if choice.run_image:
        words += ["--run-image", choice.run_image]
    if is_loopback(to.registry):
        words += ["--network", "host"]
    if choice.buildpacks:
        for path in (*choice.buildpacks, folder / "koalja"):
            words += ["--buildpack", str(path)]
    else:
        words += ["--post-buildpack", str(folder / "koalja")]
    for name, value in choice.variables.items():
        words += ["--env", f"{name}={value}"]
    return words


def _fill(source: Source, recipe: str, app: Path) -> None:
    for inside, path in source.files:
        to = app / inside
        to.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            to.symlink_to(path.readlink())
        else:
            shutil.copyfile(path, to)
            to.chmod(0o755 if os.access(path, os.X_OK) else 0o644)
    (app / NOTE).parent.mkdir(exist_ok=True)
    (app / NOTE).write_text(json.dumps(source.note, sort_keys=True, indent=1) + "\n")
    (app / LABELS).write_text(labels_text([(VERSION_LABEL, source.version), (RECIPE_LABEL, recipe)]))


def _run(words: list[str], task: str, listener: Listener) -> None:
    lines: list[str] = []
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            listener.step(task, line.rstrip())
        status = process.wait()
    if status != 0:
        raise PhaseError(f"pack failed with exit status {status}", phase="build", output="".join(lines))
