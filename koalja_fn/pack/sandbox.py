"""Where buildpacks run: unprivileged on the base image's root file system, or on this machine.

The sandbox needs nothing but user name spaces. Where they are forbidden, buildpacks run on the host, as an
ordinary user if we are root, and `why_host` says why: then the layers' paths are those of this machine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from koalja_fn.pack import agent
from koalja_fn.pack.environment import HOME
from koalja_fn.pack.errors import PhaseError

NOBODY = 64123
"""Whom root becomes to run buildpacks: a number that is no person's."""

_NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of this machine, and where a program in the sandbox finds it."""

    at: str
    path: Path
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended, and all that it said."""

    status: int
    output: str


def owner() -> int | None:
    """The user as whom buildpacks run, where that is not us."""
    return NOBODY if os.geteuid() == 0 else None


def give(folder: Path) -> None:
    """Make all in a folder the buildpacks' own."""
    number = owner()
    if number is None:
        return
    os.chown(folder, number, number)
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(f"{parent}/{name}", number, number, follow_symlinks=False)


@dataclass
class Sandbox:
    """Runs programs one after the other; a context manager.

    `rootfs` is None to run on the host from the beginning. After entering, `why_host` is empty if, and only
    if, programs run in the sandbox.
    """

    rootfs: Path | None
    mounts: Sequence[Mount]
    why_host: str = ""
    _agent: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _log: Any = field(default=None, init=False)
    _room: Path | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile(buffering=0)
        self._room = Path(tempfile.mkdtemp(prefix="koalja-box-"))
        give(self._room)
        if self.rootfs is not None:
            self.why_host = self._start(self.rootfs)
        if self.rootfs is None or self.why_host:
            trouble = self._start(None)
            if trouble:
                raise PhaseError("no program can be started to run buildpacks", why=trouble)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all programs; the kernel takes its time to clear name spaces away, so nobody waits."""
        if self._agent is not None:
            with suppress(OSError):
                self._agent.kill()
        threading.Thread(target=self._clear, name="clearing").start()

    def _clear(self) -> None:
        self._end()
        self._log.close()
        if self._room is not None:
            _remove(self._room)

    @property
    def home(self) -> str:
        """The programs' home folder."""
        return f"{self._room}/home" if self.on_host else HOME

    @property
    def on_host(self) -> bool:
        """Whether programs run without a sandbox."""
        return self.rootfs is None or bool(self.why_host)

    def seen(self, path: Path) -> str:
        """Where a program finds a path of this machine."""
        if not self.on_host:
            for mount in self.mounts:
                if path.is_relative_to(mount.path):
                    rest = path.relative_to(mount.path).as_posix()
                    return mount.at if rest == "." else f"{mount.at}/{rest}"
        return str(path)

    def run(self, argv: Sequence[str], environ: Mapping[str, str], cwd: str) -> Ran:
        """Run one program to its end; whatever it leaves running is ended.

        Raises:
            PhaseError: It can't be started.
        """
        before = os.fstat(self._log.fileno()).st_size
        answer = self._ask({"argv": list(argv), "environ": dict(environ), "cwd": cwd})
        output = os.pread(self._log.fileno(), 1 << 24, before).decode("utf-8", "replace")
        if answer.get("trouble"):
            raise PhaseError(f"{argv[0]} can't be started", why=answer["trouble"], output=output)
        return Ran(int(answer["status"]), output)

    def _start(self, rootfs: Path | None) -> str:
        number = owner()
        assert self._room is not None
        setup = {
            "rootfs": str(rootfs) if rootfs else "",
            "mounts": {m.at: (str(m.path), m.writable) for m in self.mounts},
            "room": str(self._room),
            "uid": os.getuid() if number is None else number,
            "gid": os.getgid() if number is None else number,
            "files": _files(rootfs) if rootfs else {},
        }
        (self._room / "home").mkdir(exist_ok=True)
        give(self._room)
        log = os.dup(self._log.fileno())
        try:
            self._agent = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BOOT, agent.__file__, str(log)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                pass_fds=(log,),
                env={},
                cwd="/",
            )
        except OSError as error:
            return str(error)
        finally:
            os.close(log)
        answer = self._ask(setup)
        if answer.get("ready"):
            return ""
        self._end()
        return str(answer.get("why") or "it ended at once")

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._agent is not None
        assert self._agent.stdin is not None
        assert self._agent.stdout is not None
        try:
            self._agent.stdin.write(json.dumps(request).encode() + b"\n")
            self._agent.stdin.flush()
            line = self._agent.stdout.readline()
        except BrokenPipeError:
            line = b""
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        said = os.pread(self._log.fileno(), 1 << 16, 0).decode("utf-8", "replace").strip()
        if "argv" in request:
            raise PhaseError("the process that runs buildpacks has ended", output=said)
        return {"ready": False, "why": said[-300:]}

    def _end(self) -> None:
        if self._agent is None:
            return
        with suppress(OSError):
            self._agent.kill()
        self._agent.wait()
        for pipe in (self._agent.stdin, self._agent.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._agent = None


# Descriptor 3 is where programs' output goes; a script of ours is run without its folder on the path.
_BOOT = """
import os, sys
number = int(sys.argv[2])
if number != 3:
    os.dup2(number, 3)
    os.close(number)
exec(compile(open(sys.argv[1]).read(), sys.argv[1], "exec"), {"__name__": "__main__"})
"""


def _files(rootfs: Path) -> dict[str, str]:
    """How to find names in the network and whom to trust there, as on this machine; a name for the user."""
    found = {}
    for name in _NETWORK:
        with suppress(OSError):
            found[name] = Path(name).read_text(encoding="utf-8", errors="replace")
    line = f"cnb:x:{agent.USER}:{agent.USER}::{HOME}:/bin/sh\n"
    with suppress(OSError):
        users = (rootfs / "etc/passwd").read_text(encoding="utf-8", errors="replace")
        if not any(entry.split(":")[2:3] == [str(agent.USER)] for entry in users.splitlines()):
            found["/etc/passwd"] = users.rstrip("\n") + "\n" + line
    return found


def _remove(folder: Path) -> None:
    """Remove a folder in which the kernel has left one without any rights (overlay's work folder)."""
    for parent, folders, _ in os.walk(folder):
        for name in folders:
            with suppress(OSError):
                Path(parent, name).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
