"""A PostgreSQL server for tests: thrown away at the end, reached through a socket in a temporary folder.

It is Debian's server; where we are root it runs as the user `postgres`, since it refuses root.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psycopg

# A power failure would not hurt a test.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "listen_addresses": "",
    "max_connections": "150",
    "shared_buffers": "64MB",
    "autovacuum_naptime": "10s",
    "dynamic_shared_memory_type": "mmap",  # else a killed server leaves some behind
    "max_wal_size": "2GB",
}
# It ends when the test's process closes the pipe, or is gone, however it ended.
_WATCHED = '"$@" </dev/null & read -r _; kill -INT $!; wait'
_starting = threading.Lock()


@dataclass
class Server:
    """A running server; `url` is its first database."""

    folder: Path
    settings: dict[str, str]
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"postgresql://koalja@/postgres?host={self.folder}"

    def with_schema(self, name: str) -> str:
        """The address of a registry of its own."""
        return f"{self.url}&schema={name}"

    def connect(self) -> psycopg.Connection:
        """A connection for the test's own questions."""
        return psycopg.connect(self.url, autocommit=True)

    def crash(self) -> None:
        """End it as a power failure would, and start it again."""
        with open(self.folder / "data/postmaster.pid") as file:
            os.kill(int(file.readline()), signal.SIGQUIT)
        self._end()
        self.process = _start(self.folder, self.settings)
        _wait(self)

    def stop(self) -> None:
        """End it and remove what it wrote."""
        self._end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def server() -> Server:
    """The server that the tests of this process share."""
    with _starting:
        return _server()


@cache
def _server() -> Server:
    made = start()
    atexit.register(made.stop)
    return made


def start(**settings: str) -> Server:
    """A server of its own; `settings` are PostgreSQL's."""
    folder = Path(tempfile.mkdtemp(prefix="koalja-pg-", dir=_memory()))
    if os.getuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    subprocess.run(
        [
            _program("initdb"),
            *("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"),
            *("--username=koalja", f"--pgdata={folder}/data"),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd="/",
        **_user(),
    )
    chosen = SETTINGS | settings
    made = Server(folder, chosen, _start(folder, chosen))
    _wait(made)
    return made


def _memory() -> Path | None:
    """A file system in memory with room for a server, where there is one."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > 1 << 30 else None


def _start(folder: Path, settings: dict[str, str]) -> subprocess.Popen[bytes]:
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    log = open(folder / "log", "ab")  # noqa: SIM115 - the child has it
    process = subprocess.Popen(
        ["sh", "-c", _WATCHED, "sh", _program("postgres"), "-D", f"{folder}/data", "-k", folder, *options],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        cwd="/",
        **_user(),
    )
    log.close()
    return process


def _wait(server: Server) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            server.connect().close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > until or server.process.poll() is not None:
                raise AssertionError((server.folder / "log").read_text()) from None
        time.sleep(0.02)


def _program(name: str) -> str:
    """Debian keeps the server's programs out of the path, by version."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    path = str(found[-1]) if found else shutil.which(name)
    assert path, f"no {name}: apt-get install postgresql"
    return path


def _user() -> dict[str, str]:
    return {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
