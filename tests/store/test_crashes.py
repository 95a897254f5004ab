"""Writers are killed at random moments; what they acknowledged is there, and nothing else is to be seen."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from koalja_fn.store import FileStore

ROUNDS = 25

# Prints a digest once its payload is acknowledged, in every way there is.
WRITER = """
import io, os, random, sys
from pathlib import Path
from koalja_fn.store import FileStore

store = FileStore(Path(sys.argv[1]))
own = Path(sys.argv[2])
print("ready", flush=True)
number = 0
while True:
    number += 1
    data = os.urandom(random.choice([10, 5_000, 17_000, 300_000]))
    way = number % 4
    if way == 0:
        done = [store.put_bytes(data)]
    elif way == 1:
        done = store.put_many([data, os.urandom(9)])
    elif way == 2:
        file = own / str(number)
        file.write_bytes(data)
        done = [store.put_file(file, take=True)]
    else:
        done = [store.put_stream(io.BytesIO(data))]
    for stored in done:
        os.write(1, (stored.digest + chr(10)).encode())
"""


def start(root: Path, own: Path) -> "subprocess.Popen[bytes]":
    own.mkdir(exist_ok=True)
    writer = subprocess.Popen([sys.executable, "-c", WRITER, root, own], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"ready\n"
    return writer


def test_killed_writers_lose_nothing_and_leave_nothing_half_done(tmp_path: Path) -> None:
    root = tmp_path / "objects"
    chance = random.Random(20)
    acknowledged: list[str] = []
    for round_ in range(ROUNDS):
        writers = [start(root, tmp_path / f"own{i}") for i in range(2)]
        time.sleep(chance.uniform(0.0, 0.08))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            said = writer.communicate()[0].decode().split()
            acknowledged += said
        store = FileStore(root)
        assert all(store.verify(name) for name in store.digests()), round_
        store.close()
    assert len(acknowledged) > ROUNDS
    store = FileStore(root)
    assert set(acknowledged) <= set(store.digests())
    store.close()
    assert list((root / "tmp").iterdir()) == []


def test_what_a_living_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "objects"
    writer = start(root, tmp_path / "own")
    assert writer.stdout is not None
    for _ in range(10):
        FileStore(root).close()
        assert writer.stdout.readline().startswith(b"sha256:")
    assert writer.poll() is None
    writer.kill()
    writer.communicate()


def test_an_object_is_synced_before_its_name_is_seen(tmp_path: Path) -> None:
    """The order of system calls: data, then rename, then the folder."""
    calls: list[str] = []
    real = os.fsync
    store = FileStore(tmp_path / "objects")

    def fsync(fd: int) -> None:
        calls.append("data" if not Path(f"/proc/self/fd/{fd}").is_dir() else "folder")
        calls.append(f"{len(list(store.digests()))} visible")
        real(fd)

    os.fsync = fsync
    try:
        store.put_bytes(b"x" * 100_000)
    finally:
        os.fsync = real
    store.close()
    assert calls == ["data", "0 visible", "folder", "0 visible", "folder", "1 visible"]
