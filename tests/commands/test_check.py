"""`koalja-fn check` as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from koalja_fn.commands import main


def check(*args: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["check", *map(str, args)])
    return result.exit_code, result.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "average.py").write_text("pass\n")
    (tmp_path / "weather.koalja").write_text("(wind[10/2], temp passive) average (mean)\n    policy = swap\n")
    return tmp_path


def test_a_good_circuit_is_one_line(folder: Path) -> None:
    assert check(folder) == (0, "weather: 1 task; 3 wires; in: temp, wind; out: mean\n")


def test_warnings_leave_the_status_at_zero(folder: Path) -> None:
    (folder / "weather.koalja").write_text("(wind) average (mean)\n    within = 5s\n")
    status, output = check(folder)
    assert status == 0
    assert "warning: `within` has no effect" in output
    assert "1 warning\n" in output


def test_errors_come_all_at_once_with_places_and_exit_3(folder: Path) -> None:
    (folder / "weather.koalja").write_text("(wind[2/10]) average (mean)\n    polcy = swap\n(x) nowhere (y)\n")
    status, output = check(folder)
    assert status == 3
    assert "weather.koalja:1:6: error: the slide 10 is larger" in output
    assert "    1 | (wind[2/10]) average (mean)\n      |      ^~~~~~\n  try: write [10/2]" in output
    assert "did you mean 'policy'?" in output
    assert "there is no program for 'nowhere'" in output
    assert "3 errors\n" in output


def test_json_has_all_findings(folder: Path) -> None:
    (folder / "weather.koalja").write_text("(wind) average (mean)\n    polcy = swap\n")
    status, output = check(folder, "-o", "json")
    document = json.loads(output)
    assert status == 3
    assert document["ok"] is False
    assert document["sources"] == ["wind"]
    error = next(f for f in document["findings"] if f["severity"] == "error")
    assert {k: error[k] for k in ("code", "line", "column", "length", "text")} == {
        "code": "unknown-attribute", "line": 2, "column": 5, "length": 5, "text": "    polcy = swap"
    }  # fmt: skip


def test_an_empty_folder_is_told_with_exit_7(tmp_path: Path) -> None:
    status, output = check(tmp_path)
    assert status == 7
    assert "koalja-fn init" in output


def test_a_thousand_tasks_are_checked_in_a_second(tmp_path: Path) -> None:
    """The figure of the benchmark is stricter; this guards against work that grows with the square."""
    (tmp_path / "average.py").write_text("import json\n")
    lines = ["[big]\n"]
    for i in range(1000):
        lines.append(
            f"(w{i}[10/2], temp{i} passive) task-{i} (w{i + 1})\n    policy = swap\n"
            f"    run = ./average.py --quiet {{w{i}}}\n    rate = 5/s\n    retries = 2\n"
        )
    (tmp_path / "big.koalja").write_text("".join(lines))
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", "from koalja_fn.commands import main; main()", "check", str(tmp_path)],
        check=True,
    )
    assert time.perf_counter() - start < 10
