"""`init` makes a folder that runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from circuit_runs import koalja, once


def test_the_first_command_that_people_type_works(tmp_path: Path) -> None:
    made = koalja("init", "demo", cwd=tmp_path)
    assert (made.returncode, made.stdout) == (0, "demo is ready: koalja-fn run --once demo\n")
    assert koalja("check", tmp_path / "demo").returncode == 0
    found = once(tmp_path / "demo")
    assert (found["status"], found["totals"]) == (0, {"celsius": 4, "fahrenheit": 4, "mean": 2})
    assert [(tmp_path / f"demo/outbox/{n:06d}.txt").read_text() for n in (1, 2)] == ["67.4\n", "69.5\n"]
    assert koalja("trace", tmp_path / "demo/outbox/000001.txt").returncode == 0


def test_what_its_readme_says_works(tmp_path: Path) -> None:
    koalja("init", tmp_path / "demo")
    readme = (tmp_path / "demo/README.md").read_text()
    assert "koalja-fn run --once ." in readme
    assert "koalja-fn send . celsius -" in readme
    sent = koalja("send", ".", "celsius", "-", stdin="21.5\n", cwd=tmp_path / "demo")
    assert sent.returncode == 0, sent.stderr
    assert once(tmp_path / "demo")["totals"]["celsius"] == 5


@pytest.mark.parametrize("there", ["folder", "file"])
def test_what_is_there_already_is_left_alone(tmp_path: Path, there: str) -> None:
    path = tmp_path / "mine"
    if there == "folder":
        path.mkdir()
        (path / "thesis.txt").write_text("precious")
    else:
        path.write_text("precious")
    before = sorted(tmp_path.rglob("*"))
    done = koalja("init", path)
    assert done.returncode == 2
    assert "is there already" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_the_command_that_it_prints_can_be_pasted(tmp_path: Path) -> None:
    made = koalja("init", "my data", cwd=tmp_path)
    assert made.stdout == "my data is ready: koalja-fn run --once 'my data'\n"


def test_an_empty_folder_is_fine(tmp_path: Path) -> None:
    assert koalja("init", ".", cwd=tmp_path).returncode == 0
    assert once(tmp_path)["status"] == 0


@pytest.mark.parametrize("name", ["My Circuit!", "...", "ünï", "9lives", "a" * 100, "-x"])
def test_any_name_of_a_folder_gives_a_circuit_that_can_be_checked(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    made = koalja("init", folder)
    assert made.returncode == 0, made.stderr
    checked = koalja("check", folder)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert once(folder)["totals"]["mean"] == 2


def test_where_nothing_can_be_made_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = koalja("init", tmp_path / "file" / "demo")
    assert done.returncode in (2, 8)
    assert "Traceback" not in done.stderr
