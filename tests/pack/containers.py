"""Images that really run: unpacked into a bundle and started by runc, on the machine's own network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from koalja_fn.pack.oci.client import RegistryClient
from koalja_fn.pack.oci.image import load_base
from koalja_fn.pack.oci.reference import target
from koalja_fn.pack.oci.rootfs import extract_rootfs
from koalja_fn.pack.oci.values import Platform

_CAPABILITIES: dict[str, list[str]] = {kind: [] for kind in ("bounding", "effective", "permitted", "ambient")}


def needs_runc() -> str:
    """The path of runc; skips where there is none or where it may not be used."""
    path = shutil.which("runc", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        pytest.skip("needs runc: apt-get install runc (tests/run installs it)")
    if os.geteuid() != 0:
        pytest.skip("runc needs root here: run the tests as root to start the images, too")
    return path


@dataclass(frozen=True)
class Bundle:
    """An unpacked image."""

    folder: Path
    config: dict[str, object]

    @property
    def rootfs(self) -> Path:
        return self.folder / "rootfs"


def unpack(image: str, folder: Path) -> Bundle:
    """The image's files and configuration."""
    with RegistryClient() as client:
        base = load_base(target(image), Platform.here(), client)
        rootfs = extract_rootfs(base, client, folder / "unpacked")
        bundle = folder / f"bundle-{uuid.uuid4().hex[:8]}"
        bundle.mkdir(parents=True)
        (bundle / "rootfs").symlink_to(rootfs)
        return Bundle(bundle, dict(base.config["config"]))


def _spec(bundle: Bundle, args: list[str] | None, env: dict[str, str], scratch: Path) -> dict[str, object]:
    config = bundle.config
    uid, _, gid = str(config.get("User") or "0:0").partition(":")
    variables = [*config.get("Env", []), *(f"{k}={v}" for k, v in env.items())]  # type: ignore[misc]
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {"destination": "/tmp", "type": "bind", "source": str(scratch), "options": ["rbind", "rw"]},
    ]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": int(uid), "gid": int(gid or 0)},
            "args": args if args is not None else config["Entrypoint"],
            "env": variables,
            "cwd": config.get("WorkingDir") or "/",
            "capabilities": _CAPABILITIES,
            "noNewPrivileges": True,
        },
        "root": {"path": str(bundle.rootfs.resolve()), "readonly": True},
        "mounts": mounts,
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]},
    }


@contextmanager
def started(
    bundle: Bundle, args: list[str] | None = None, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """The image's process, or a command in it; killed at the end if need be."""
    runc = needs_runc()
    scratch = bundle.folder / "tmp"
    scratch.mkdir(exist_ok=True)
    scratch.chmod(0o1777)
    (bundle.folder / "config.json").write_text(json.dumps(_spec(bundle, args, env or {}, scratch)))
    name = f"koalja-test-{uuid.uuid4().hex[:12]}"
    root = bundle.folder / "runc"
    command = [runc, "--root", str(root), "run", "--bundle", str(bundle.folder), name]
    with open(bundle.folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield process
    finally:
        if process.poll() is None:
            subprocess.run(
                [runc, "--root", str(root), "kill", name, "KILL"], capture_output=True, check=False
            )
            process.wait(20)
        subprocess.run(
            [runc, "--root", str(root), "delete", "--force", name], capture_output=True, check=False
        )


def run(bundle: Bundle, args: list[str] | None = None, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run to the end: exit status and output."""
    with started(bundle, args, env) as process:
        status = process.wait(60)
    return status, (bundle.folder / "log").read_text()


def stop(bundle: Bundle, process: subprocess.Popen[bytes]) -> int:
    """SIGTERM, as an orchestrator sends it, and the exit status."""
    process.terminate()  # runc hands it on to the container's first process
    return process.wait(30)


def ask(url: str, data: bytes | None = None, patience: float = 20.0) -> tuple[int, bytes]:
    """Status and body, as soon as somebody listens."""
    until = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
