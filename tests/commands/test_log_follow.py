"""`log --follow` in a process of its own, ended by ^C."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from story_worlds import weather


@contextmanager
def ended(process: subprocess.Popen) -> Iterator[None]:
    """Whatever happens to the test, the process does not outlive it."""
    try:
        yield
    finally:
        process.kill()


def test_what_happens_is_told_as_it_happens(tmp_path):
    world = weather(tmp_path)
    command = [sys.executable, "-c", "from koalja_fn.commands import main; main()", "log", "-f", "-n", "1"]
    with (
        subprocess.Popen([*command, str(tmp_path)], stdout=subprocess.PIPE, text=True) as follower,
        ended(follower),
    ):
        assert "report" in follower.stdout.readline()
        world.send("wind", name="new.txt")
        line = follower.stdout.readline()
        assert "--> wind" in line
        assert "new.txt" in line
        snapshot = world.form("report", mean=(0, 0))
        assert f"snapshot 3 ({snapshot[:12]}) formed" in follower.stdout.readline()
        follower.send_signal(signal.SIGINT)
        assert follower.stdout.read() == ""
        assert follower.wait(10) == 130
    world.registry.close()
