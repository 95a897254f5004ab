"""The example of MQTT sensors, over a real broker: what its README says, also where the bridge is killed."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from example_runs import COMMAND, EXAMPLES, copy

from koalja_fn.registry import Registry

TOPICS = ["--topic", "jfk/#"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for program in ("mosquitto", "mosquitto_pub"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not on PATH; on Debian: apt-get install mosquitto mosquitto-clients")
    return copy("iot", tmp_path)


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    running: list[subprocess.Popen[bytes]] = []

    def start(*words: Any, **more: Any) -> subprocess.Popen[bytes]:
        running.append(subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, **more))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


def ports(count: int) -> list[int]:
    """Free ports."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return found


def readings(column: str) -> list[float]:
    with (EXAMPLES / "iot/readings/2013-01-23.csv").open() as file:
        return [float(row[column]) for row in csv.DictReader(file)]


def values(folder: Path) -> dict[str, int]:
    """How many values each wire has."""
    where = folder / ".koalja/registry.db"
    if not where.exists():
        return {}
    registry = Registry(where)
    try:
        return dict(registry.read(lambda tx: tx.all("SELECT name, head FROM wire")))
    finally:
        registry.close()


def test_the_one_command_carries_a_day_of_readings_over(folder: Path) -> None:
    mqtt, http = ports(2)
    path = f"{COMMAND.parent}:{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path, "MQTT_PORT": str(mqtt), "PORT": str(http)}
    done = subprocess.run(
        ["sh", folder / "try.sh"], env=environ, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    temps, winds = readings("temp"), readings("wind_speed")
    changes = len(temps) - 3
    strong = [wind for wind in winds if wind >= 20]
    assert values(folder) == {
        "message": len(temps) + len(winds), "temp": len(temps), "wind": len(winds),
        "change": changes, "alarm": len(strong),
    }  # fmt: skip
    written = [json.loads(path.read_text())["value"] for path in (folder / "outbox").iterdir()]
    assert written == pytest.approx(strong)
    readme = (EXAMPLES / "iot/README.md").read_text()
    assert f"{changes} changes of temperature" in readme
    assert f"{len(temps) + len(winds)} readings" in readme


def test_a_bridge_that_is_killed_loses_nothing_and_brings_nothing_twice(
    folder: Path, started: Callable[..., subprocess.Popen[bytes]]
) -> None:
    mqtt, http = ports(2)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started("mosquitto", "-p", mqtt, **quiet)
    words = [sys.executable, folder / "bridge.py", "--mqtt", f"127.0.0.1:{mqtt}", *TOPICS]
    words += ["--to", f"http://127.0.0.1:{http}/iot/message"]
    assert started(*words, "--count", 0, **quiet).wait(30) == 0
    subprocess.run(["sh", folder / "sensors.sh", str(mqtt)], check=True, timeout=30)
    started(COMMAND, "run", folder, "--port", http, "-q", **quiet)
    before = 0
    for _ in range(3):
        bridge = started(*words, **quiet)
        until(lambda known=before: values(folder).get("message", 0) > known)
        bridge.send_signal(signal.SIGKILL)
        bridge.wait()
        before = min(values(folder)["message"], 46)
    started(*words, **quiet)
    until(lambda: values(folder)["message"] >= 48)
    # Whatever was sent again has come by now: the broker sends that first.
    assert values(folder)["message"] == 48


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_bridge_on_a_cluster_is_called_as_it_wants_to_be(folder: Path) -> None:
    deployment = yaml.safe_load((folder / "bridge.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    told = [*container["args"], "--help"]
    done = subprocess.run([sys.executable, folder / "bridge.py", *told], capture_output=True, check=False)
    assert done.returncode == 0
    assert "//iot--entry." in container["args"][-1]
