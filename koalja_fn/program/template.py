"""One template process: an interpreter with a Python program's imports, which forks for each call.

What happens inside it is in `inside/sitecustomize.py`. A message has a pipe for its answer, which the forked
child itself writes to once it is ready to go on: an end without an answer means that nothing was started.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from koalja_fn.program.cancel import Cancel
from koalja_fn.program.pythonic import Python
from koalja_fn.program.starting import Start

_INSIDE = str(Path(__file__).parent / "inside")
_ANSWER_SECONDS = 20.0
_PROBE_SECONDS = 20.0
_ROOM = 4096
_LOST = signal.SIGKILL.value  # the wait status of a process whose end nobody could see


class Broken(Exception):
    """The template is of no use any more; nothing was started. The message is why."""


class Unfit(Exception):
    """There is no template for this program; the message is why."""


@dataclass(frozen=True, slots=True)
class Forked:
    """A program that a template forked."""

    pid: int
    template: Template = field(repr=False)
    remark: str = ""

    def reap(self) -> tuple[int, float]:
        """Wait until it has ended; return its wait status and its processor time in seconds."""
        return self.template.reap(self.pid)


class Template:
    """A template that is ready. `folder` is made for it: its working folder, where it may write.

    `stop` gives up the wait for it.

    Raises:
        Unfit: The program can't be forked.
    """

    def __init__(
        self, python: Python, environ: Mapping[str, str], folder: Path, seconds: float, stop: Cancel
    ) -> None:
        self.forks = 0
        self.used = time.monotonic()
        self._sending = threading.Lock()
        work = folder / "work"
        work.mkdir(parents=True, exist_ok=True)
        probed = probe(python.executable, python.options, tuple(environ.items()), stop)
        if not probed.startswith("cpython 3."):
            raise Unfit(f"{python.executable} is {probed or 'no interpreter that tells about itself'}")
        ours, theirs = socket.socketpair()
        extra = {
            "KOALJA_TEMPLATE": f"serve:{theirs.fileno()}",
            "KOALJA_OUT": f"{folder}/out",
            "KOALJA_ROOM": "x" * _ROOM,
            "LD_BIND_NOW": "1",  # what is resolved here is not resolved in each fork
            "_KOALJA_COMM": python.name,
            "_KOALJA_SECONDS": str(max(1, round(seconds))),
            "HOME": str(work),
            "TMPDIR": str(work),
        }
        if python.code:
            extra["_KOALJA_CODE"] = python.code
        with theirs, (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            self._process = subprocess.Popen(
                python.words,
                executable=python.executable,
                cwd=work,
                env=_inside(environ) | extra,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                pass_fds=(theirs.fileno(),),
            )
        self._control = ours
        try:
            self._await_ready(seconds, stop)
        except BaseException:
            self.close()
            raise

    def _await_ready(self, seconds: float, stop: Cancel) -> None:
        said, until = b"", time.monotonic() + seconds
        while not said.endswith(b"\n"):
            if not _readable(self._control.fileno(), until - time.monotonic(), stop):
                self._kill()
                raise Unfit(f"its imports took longer than {seconds:g} s")
            more = self._control.recv(4096)
            if not more:
                self._process.wait()
                raise Unfit(f"its imports ended the interpreter (status {self._process.returncode})")
            said += more
        if not said.startswith(b"R"):
            raise Unfit(said[1:].decode("utf-8", "replace").strip())

    def fork(self, start: Start, skip: int) -> Forked:
        """Start a program; `skip` words of its command are the template's own.

        Raises:
            Broken: Nothing was started.
        """
        words = [*start.argv[skip:]]
        variables = [f"{name}={value}" for name, value in start.environ.items()]
        fields = [start.cwd, str(len(words)), *words, *variables]
        body = b"F" + b"\0".join(map(os.fsencode, fields))
        if body.count(b"\0") != len(fields) - 1:
            raise Broken("a word has a NUL in it")
        answer = self._ask(body, (start.stdout, start.stderr))
        if not answer.startswith(b"+"):
            raise Broken(answer[1:].decode("utf-8", "replace") or "its template has ended")
        self.forks += 1
        self.used = time.monotonic()
        return Forked(int(answer[1:]), self)

    def reap(self, pid: int) -> tuple[int, float]:
        """Wait for a forked process."""
        with suppress(OSError):
            fd = os.pidfd_open(pid)
            try:
                _readable(fd, None)
            finally:
                os.close(fd)
        answer = self._ask(b"W%d" % pid, ())
        if answer:
            state, micros = answer.split()
            return int(state), int(micros) / 1e6
        # The template is dead, so its children are ours: we are the subreaper.
        self._process.wait()
        try:
            _, status, usage = os.wait4(pid, 0)
        except ChildProcessError:
            return _LOST, 0.0
        return status, usage.ru_utime + usage.ru_stime

    def close(self) -> None:
        """End it; what it forked goes on."""
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._kill()
        with self._sending:
            self._control.close()

    def _ask(self, body: bytes, fds: tuple[int, ...]) -> bytes:
        """Send a message; return its answer, empty if there is none and never will be."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            try:
                with self._sending:
                    message = struct.pack(">I", len(body)) + body
                    sent = socket.send_fds(self._control, [message], [writing, *fds])
                    self._control.sendall(message[sent:])
            except OSError:
                return b""
            finally:
                os.close(writing)
            if not _readable(reading, _ANSWER_SECONDS):
                self._kill()  # stopped, or worse; what it may have forked answers, or ends without one
            return os.read(reading, 256)
        finally:
            os.close(reading)

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()


@cache
def probe(
    executable: str, options: tuple[str, ...], environ: tuple[tuple[str, str], ...], stop: Cancel
) -> str:
    """What an interpreter says of itself from inside: `cpython 3.11`; empty if we do not get inside.

    Without this, an interpreter that never looks for us would run the program instead.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    process = None
    try:
        try:
            process = subprocess.Popen(
                [*options, "-c", "pass"],
                executable=executable,
                env=_inside(dict(environ)) | {"KOALJA_TEMPLATE": f"probe:{writing}"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=(writing,),
            )
        except OSError:
            return ""
        finally:
            os.close(writing)
        if not _readable(reading, _PROBE_SECONDS, stop):
            return ""
        return os.read(reading, 256).decode("utf-8", "replace")
    finally:
        os.close(reading)
        if process is not None:
            process.kill()
            process.wait()


def _inside(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment in which an interpreter finds our `sitecustomize`."""
    theirs = environ.get("PYTHONPATH")
    path = _INSIDE if theirs is None else f"{_INSIDE}{os.pathsep}{theirs}"
    return {**environ, "PYTHONPATH": path}


def _readable(fd: int, seconds: float | None, stop: Cancel | None = None) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if stop is not None:
        poll.register(stop.fileno(), select.POLLIN)
    ready = poll.poll(None if seconds is None else max(0, int(seconds * 1000)))
    return bool(ready) and (stop is None or not stop.is_set)
