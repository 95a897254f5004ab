"""Services under `koalja-fn run`, as a user has them: processes come up, and all of them end."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.services.hall import ASKER, SERVER, WIRING, wait_for

COMMAND = [sys.executable, "-m", "koalja_fn"]
PAGE = Path(__file__).parents[2] / "docs" / "services.md"


def folder_of(home: Path, wiring: str = WIRING, server: str = SERVER, predict: str = ASKER) -> Path:
    (home / "c.koalja").write_text("[c]\n" + wiring)
    (home / "server.py").write_text(server)
    (home / "predict.py").write_text(predict)
    (home / "model").write_text("m1")
    (home / "json").write_text("a")
    return home


def once(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "run", "--once", ".", *words], cwd=folder, capture_output=True, text=True, timeout=60
    )


def of_folder(folder: Path) -> list[str]:
    """Command lines of processes that were started for the folder's circuit."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environ = (entry / "environ").read_bytes()
                if f"KOALJA_OUT={folder}".encode() in environ:
                    found.append((entry / "cmdline").read_bytes().decode())
            except OSError:
                continue
    return found


def test_run_once_ends_its_services_when_all_is_done(tmp_path: Path) -> None:
    done = once(folder_of(tmp_path), "--in", "json=json", "--in", "model=model")
    assert done.returncode == 0, done.stderr
    assert "m1:a" in done.stdout
    assert re.search(r"server #1 listening [0-9.]+ s, at 127\.0\.0\.1:\d+", done.stderr)
    assert of_folder(tmp_path) == []
    assert list((tmp_path / ".koalja/scratch").iterdir()) == []


def test_run_once_says_that_nobody_can_be_asked(tmp_path: Path) -> None:
    done = once(folder_of(tmp_path), "--in", "json=json")
    assert done.returncode == 0, done.stderr
    assert "service server is not up: no snapshot of it has formed yet; who asks it waits" in done.stdout


def test_run_once_with_a_service_that_fails_tells_of_the_dead_letter(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path, WIRING.replace("backoff", "retries = 0\n    backoff"), server="import nothing_of_the_kind\n"
    )
    done = once(folder, "--in", "json=json", "--in", "model=model")
    assert done.returncode == 4
    assert "dead letter: server" in done.stdout
    told = subprocess.run([*COMMAND, "failures"], cwd=folder, capture_output=True, text=True, timeout=60)
    assert "nothing_of_the_kind" in told.stdout


def test_a_service_whose_runner_was_killed_is_ended_by_the_next_run(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    first = subprocess.Popen(
        [*COMMAND, "run", "--quiet", ".", "--in", "model=model"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: any("server.py" in line for line in of_folder(folder)))
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait(30)
    done = once(folder, "--in", "json=json")
    assert done.returncode == 0, done.stderr
    assert "m1:a" in done.stdout
    assert of_folder(folder) == []


def test_the_programs_of_the_documentation_work(tmp_path: Path) -> None:
    server, asker = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    done = once(folder_of(tmp_path, server=server, predict=asker), "--in", "json=json", "--in", "model=model")
    assert done.returncode == 0, done.stderr
    assert re.search(r"result: 1 new.*\n.* m1\n", done.stdout)


def test_answers_of_an_older_model_are_asked_for_again_where_the_wiring_says_so(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, WIRING.replace("backoff", "on-update = recompute\n    backoff", 1))
    assert "m1:a" in once(folder, "--in", "json=json", "--in", "model=model").stdout
    (folder / "model").write_text("m2")
    assert once(folder, "--in", "model=model").returncode == 0
    (folder / "json").write_text("b")
    done = once(folder, "--in", "json=json")
    assert done.returncode == 0, done.stderr
    assert "service server has a newer snapshot" in done.stderr
    listed = subprocess.run(
        [*COMMAND, "list", "values", "--wire", "result", "-o", "json"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    digests = [value["digest"] for value in json.loads(listed.stdout)["values"]]
    assert digests == [
        "sha256:" + hashlib.sha256(f"{text}\n".encode()).hexdigest() for text in ("m2:a", "m2:b")
    ]
