"""`doctor` tells what is missing, and with --verify whether what was promised was kept."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from circuit_runs import folder_of, koalja, once

WIRING = "(in) t (out)\n    run = cat {in}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = folder_of(tmp_path, WIRING)
    once(made, "--lines", "in", stdin="a\nb\n" + "x" * 300_000 + "\n")
    return made


def looked(*args: object) -> tuple[int, dict[str, dict[str, Any]]]:
    done = koalja("doctor", *args, "-o", "json")
    return done.returncode, {finding["what"]: finding for finding in json.loads(done.stdout)}


def test_it_looks_at_all_that_a_run_needs(folder: Path) -> None:
    status, found = looked(folder)
    assert set(found) == {
        "system",
        "Python",
        "SQLite",
        "folder",
        "room on the disk",
        "hard links",
        "sh",
        "awk",
        "circuit",
        "registry",
    }
    for finding in found.values():
        assert set(finding) == {"what", "ok", "found", "cure"}
    assert status == (0 if all(finding["ok"] for finding in found.values()) else 1)
    assert found["circuit"]["found"] == "circuit, 0 errors"


def test_it_tells_people_one_line_each(folder: Path) -> None:
    done = koalja("doctor", folder)
    assert "ok    SQLite: " in done.stdout
    assert done.stderr == ""


def test_a_broken_circuit_is_found_with_the_cure(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "(in) nobody (out)\n")
    status, found = looked(folder)
    assert status == 1
    assert (found["circuit"]["ok"], found["circuit"]["cure"]) == (False, f"koalja-fn check {folder}")


@pytest.mark.parametrize("what", ["newer", "garbage"])
def test_a_registry_that_can_t_be_used_is_found(folder: Path, what: str) -> None:
    path = folder / ".koalja/registry.db"
    if what == "newer":
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA user_version = 9999")
        database.close()
    else:
        path.write_text("garbage" * 100)
    status, found = looked(folder)
    assert status == 1
    assert not found["registry"]["ok"]
    assert ("9999" if what == "newer" else "not a database") in found["registry"]["found"]


def test_a_missing_program_is_found(folder: Path, tmp_path: Path) -> None:
    import os

    (tmp_path / "bin").mkdir()
    done = koalja("doctor", folder, "-o", "json", env={**os.environ, "PATH": str(tmp_path / "bin")})
    found = {f["what"]: f for f in json.loads(done.stdout)}
    assert done.returncode == 1
    assert found["awk"] == {"what": "awk", "ok": False, "found": "not found", "cure": "install awk"}


def test_verify_finds_nothing_wrong_with_a_healthy_circuit(folder: Path) -> None:
    status, found = looked(folder, "--verify")
    assert found["records"]["ok"]
    assert status == (0 if all(finding["ok"] for finding in found.values()) else 1)


DAMAGE = {
    "a value is gone": ("DELETE FROM value WHERE position = 1", "its records do not fit together"),
    "a window is another one": ("UPDATE snapshot_input SET last = 2", "has windows"),
    "an execution is gone": ("DELETE FROM execution WHERE id = 2", "was committed 0 times"),
    "the log is cut": ("DELETE FROM log WHERE seq = 2", "t:"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_verify_finds_that(folder: Path, damage: str) -> None:
    sql, sentence = DAMAGE[damage]
    raw = sqlite3.connect(folder / ".koalja/registry.db")
    with raw:
        assert raw.execute(sql).rowcount > 0
    raw.close()
    status, found = looked(folder, "--verify")
    assert status == 1
    assert not found["records"]["ok"]
    assert sentence in found["records"]["found"]


def test_verify_finds_a_damaged_payload(folder: Path) -> None:
    large = next(
        p for p in (folder / ".koalja/objects").rglob("*") if p.is_file() and p.stat().st_size == 300_000
    )
    large.chmod(0o600)
    with open(large, "r+b") as file:
        file.write(b"y")
    status, found = looked(folder, "--verify")
    assert status == 1
    assert "missing or damaged" in found["records"]["found"]


def test_verify_where_nothing_has_run_says_so(tmp_path: Path) -> None:
    done = koalja("doctor", folder_of(tmp_path, WIRING), "--verify")
    assert done.returncode == 7
    assert "no circuit has run" in done.stderr


def test_it_changes_nothing(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, WIRING)
    before = sorted(folder.rglob("*"))
    koalja("doctor", folder)
    assert sorted(folder.rglob("*")) == before
