"""The first process: it keeps a working one alive, hands signals on, and takes in orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.runtime.cluster import RUNTIME, wait_for

PROGRAM = """
import os, signal, sys, time
sys.path.insert(0, {runtime!r})
from pathlib import Path
from koalja_runtime.keeping import keep
home = Path({home!r})
def work():
    stubborn = (home / "stubborn").exists()
    def told(number, _):
        (home / "told").write_text(str(number))
        if not stubborn:
            sys.exit(0)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    if os.fork() == 0:  # an orphan, soon
        time.sleep(0.1)
        os._exit(0)
    (home / "part").write_text(str(os.getpid()))
    (home / "part").rename(home / "pid")
    while True:
        time.sleep(10)
keep(work, {grace})
"""


class Kept:
    """A keeper whose working process writes its number into a file."""

    def __init__(self, home: Path, grace: float) -> None:
        self.home = home
        program = PROGRAM.format(runtime=str(RUNTIME.parents[1]), home=str(home), grace=grace)
        self.process = subprocess.Popen(
            [sys.executable, "-c", program], stderr=subprocess.PIPE, restore_signals=True
        )

    def worker(self) -> int:
        wait_for(lambda: (self.home / "pid").exists(), what="the working process")
        number = int((self.home / "pid").read_text())
        (self.home / "pid").unlink()
        return number

    def told(self) -> int:
        return int((self.home / "told").read_text())


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[Callable[[float], Kept]]:
    made: list[Kept] = []

    def start(grace: float = 20.0) -> Kept:
        made.append(Kept(tmp_path, grace))
        return made[-1]

    yield start
    for kept in made:
        kept.process.kill()
        kept.process.communicate()


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_handed_on_and_its_end_is_waited_for(
    keeping: Callable[..., Kept], number: signal.Signals
) -> None:
    kept = keeping()
    worker = kept.worker()
    kept.process.send_signal(number)
    assert kept.process.wait(20) == 0
    assert kept.told() == number
    assert not is_there(worker)


def test_a_working_process_that_is_killed_is_started_anew(keeping: Callable[..., Kept]) -> None:
    kept = keeping()
    first = kept.worker()
    os.kill(first, signal.SIGKILL)
    second = kept.worker()
    assert second != first
    assert not is_there(first)  # taken in
    kept.process.terminate()
    assert kept.process.wait(20) == 0


def test_what_does_not_end_in_its_grace_is_killed(keeping: Callable[..., Kept], tmp_path: Path) -> None:
    (tmp_path / "stubborn").touch()
    kept = keeping(0.3)
    worker = kept.worker()
    began = time.monotonic()
    kept.process.terminate()
    assert kept.process.wait(20) == 0
    assert time.monotonic() - began >= 0.3
    assert not is_there(worker)
