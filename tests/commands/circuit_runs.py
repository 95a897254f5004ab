"""Circuits in folders, and `koalja-fn` as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-m", "koalja_fn"]


def folder_of(home: Path, wiring: str, **programs: str) -> Path:
    """A folder with a circuit; programs by name, `_` for a dot."""
    folder = home / "circuit"
    folder.mkdir(exist_ok=True)
    (folder / "circuit.koalja").write_text("[circuit]\n" + wiring)
    for name, text in programs.items():
        path = folder / name.replace("_", ".")
        path.write_text(text)
        path.chmod(0o755)
    return folder


@contextmanager
def disk_of(path: Path, size: str) -> Iterator[Path]:
    """A small disk of its own, in memory."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "koalja-test", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk takes root and CAP_SYS_ADMIN; run the tests in such a container")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def koalja(*args: object, stdin: str | bytes = b"", timeout: float = 60, **more: Any) -> Any:
    """Run to the end; output as text."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        [*COMMAND, *(str(a) for a in args)], input=data, capture_output=True, timeout=timeout, **more
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def once(folder: Path, *args: object, **more: Any) -> dict[str, Any]:
    """`run --once -o json`, its summary and its exit status."""
    done = koalja("run", "--once", "-o", "json", folder, *args, **more)
    assert done.returncode in (0, 4), done.stderr
    return {**json.loads(done.stdout), "status": done.returncode, "talk": done.stderr}


def texts(found: dict[str, Any], wire: str) -> list[str]:
    """What the new values of a wire say."""
    return [Path(value["path"]).read_text() for value in found["wires"][wire]]


@contextmanager
def running(folder: Path, *args: object, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """`run` until the block ends; it listens when the block begins."""
    process = subprocess.Popen(
        [*COMMAND, "run", str(folder), *(str(a) for a in args)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **more,
    )
    try:
        note = folder / ".koalja/run.json"
        wait_for(lambda: note.exists() or process.poll() is not None)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=30)


def wait_for(true: Callable[[], Any], seconds: float = 30) -> Any:
    """Look until something is so."""
    until = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)
    return found


def end(process: subprocess.Popen[str], sign: int = signal.SIGINT) -> tuple[str, str]:
    """Send a signal and wait; return what it wrote."""
    process.send_signal(sign)
    return process.communicate(timeout=30)


def post(folder: Path, wire: str, data: bytes, circuit: str = "circuit") -> int:
    """Send a value by HTTP."""
    url = json.loads((folder / ".koalja/run.json").read_text())["url"]
    request = urllib.request.Request(f"{url}/{circuit}/{wire}", data, {"Content-Type": "text/plain"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return int(answer.status)


def alive(marker: str) -> list[int]:
    """Processes whose arguments or environment have the marker in them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
            except OSError:
                continue
            if marker.encode() in text and state != "Z":
                found.append(int(entry.name))
    return found


def rows(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    """Ask a registry in which nothing runs, or something does."""
    import sqlite3

    raw = sqlite3.connect(folder / ".koalja/registry.db")
    try:
        return raw.execute(sql).fetchall()
    finally:
        raw.close()
