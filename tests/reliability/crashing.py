"""A busy circuit that is killed again and again, and a sender that never gives up a value."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

WIRING = """
[crash]
    backoff = 1ms

(in) fan (left, right)
    run = sh fan.sh {{in}}
    retries = 50

(left[3]) triple (threes)
    run = cat {{left}}

(right{window}) slide (fives)
    run = cat {{right}}
    concurrency = 2

{join}

(threes, fives) flaky (out)
    run = sh flaky.sh {{threes}} {{fives}}
    retries = 50

(in) killer ()
    run = sh killer.sh
    retries = 50

wire in
    type = text/plain
"""

JOIN = """
(left, right) join (pairs)
    run = cat {left} {right}
    concurrency = 3

(pairs) doomed (never)
    run = grep -v 7 {pairs}
    retries = 1
"""

PROGRAMS = {
    "fan.sh": 'cp "$1" "$KOALJA_OUT/left"; cp "$1" "$KOALJA_OUT/right"\n',
    "flaky.sh": '[ "$(od -An -N1 -tu1 /dev/urandom)" -lt 40 ] && { echo "no luck" >&2; exit 3; }\ncat "$@"\n',
    # Now and then a program takes its runner with it.
    "killer.sh": '[ "$(od -An -N1 -tu1 /dev/urandom)" -lt 2 ] && kill -9 "$PPID"\nexit 0\n',
}


def write_circuit(folder: Path, *, window: str = "[5/2]", join: bool = True) -> None:
    """The circuit: a fan-out, windows, a join, a task that fails, one that kills its runner."""
    folder.mkdir(exist_ok=True)
    text = WIRING.format(window=window, join=JOIN if join else "")
    (folder / "crash.koalja").write_text(text)
    for name, program in PROGRAMS.items():
        (folder / name).write_text(program)


@dataclass
class Sender:
    """Sends numbered events to whatever run listens; what is not acknowledged is sent again."""

    folder: Path
    seed: int
    acknowledged: set[int] = field(default_factory=set)
    unsure: list[int] = field(default_factory=list)
    sent: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def work(self) -> None:
        """Send until told to stop: new values, unsure ones again, some that were acknowledged long ago."""
        chance = random.Random(self.seed + self.sent)
        while not self._stop.is_set():
            batch = [self.sent + n for n in range(chance.randint(1, 6))]
            again = [self.unsure.pop() for _ in range(min(2, len(self.unsure)))]
            if self.acknowledged and chance.random() < 0.2:
                again.append(chance.choice(sorted(self.acknowledged)[-50:]))
            numbers = again + batch
            chance.shuffle(numbers)
            try:
                url = json.loads((self.folder / ".koalja/run.json").read_text())["url"]
            except (OSError, ValueError):
                self.unsure += again
                time.sleep(0.005)
                continue
            self.sent += len(batch)
            self.post(url, numbers)

    def post(self, url: str, numbers: list[int]) -> bool:
        """Post a batch of events; whether it was acknowledged."""
        events = [
            {
                "specversion": "1.0",
                "id": str(number),
                "source": "/sender",
                "type": "test",
                "datacontenttype": "text/plain",
                "data": f"{number}\n",
            }
            for number in numbers
        ]
        request = urllib.request.Request(
            f"{url}/crash/in",
            json.dumps(events).encode(),
            {"Content-Type": "application/cloudevents-batch+json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                assert answer.status == 202
        except (urllib.error.URLError, ConnectionError, TimeoutError, OSError):
            self.unsure += numbers
            return False
        self.acknowledged |= set(numbers)
        return True

    def start(self) -> threading.Thread:
        """Work in a thread."""
        self._stop.clear()
        thread = threading.Thread(target=self.work)
        thread.start()
        return thread

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()


def start_run(folder: Path) -> subprocess.Popen[bytes]:
    """Start `koalja-fn run` on the folder."""
    log = open(folder / "run.log", "ab")  # noqa: SIM115 - the child has it
    process = subprocess.Popen(
        [sys.executable, "-m", "koalja_fn", "run", str(folder), "--quiet"],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    log.close()
    return process


def kill_round(folder: Path, sender: Sender, chance: random.Random) -> None:
    """Let it run for a moment, then SIGKILL the runner alone; in one round of six before it listens."""
    (folder / ".koalja/run.json").unlink(missing_ok=True)
    process = start_run(folder)
    thread = sender.start()
    early = chance.random() < 1 / 6
    if not early:
        wait_until_it_listens(folder, process)
    try:
        process.wait(chance.uniform(0.05, 0.6))
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    sender.stop()
    thread.join()


def wait_until_it_listens(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Return when the run has said where it listens, or has ended."""
    until = time.monotonic() + 30
    while process.poll() is None and not (folder / ".koalja/run.json").exists():
        assert time.monotonic() < until, (folder / "run.log").read_text()
        time.sleep(0.005)


def run_once(folder: Path) -> dict[str, object]:
    """Work off what is left, with the killer tamed: thousands of its calls may be left."""
    (folder / "killer.sh").write_text("exit 0\n")
    done = subprocess.run(
        [sys.executable, "-m", "koalja_fn", "run", "--once", "--quiet", "-o", "json", str(folder)],
        capture_output=True,
        timeout=300,
    )
    assert done.returncode in (0, 4), done.stderr.decode()
    return dict(json.loads(done.stdout))
