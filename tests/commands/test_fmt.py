"""`koalja-fn fmt` as a user calls it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from koalja_fn.commands import main

ROUGH = "[c]\n   (a)  t(b) # why\n  run=./t {a}\n"
REGULAR = "[c]\n\n(a) t (b)  # why\n    run = ./t {a}\n"
MAKE = "[c]\n\nb: a  # why\n    ./t {a}\n"


def fmt(*args: object, stdin: str = "") -> Result:
    return CliRunner().invoke(main, ["fmt", *map(str, args)], input=stdin)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "c.koalja"
    path.write_text(ROUGH)
    path.chmod(0o640)
    return path


def test_a_file_is_rewritten_in_place_with_its_mode(file: Path) -> None:
    assert fmt(file).exit_code == 0
    assert file.read_text() == REGULAR
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [p.name for p in file.parent.iterdir()] == ["c.koalja"]


def test_a_folder_stands_for_its_files(file: Path) -> None:
    assert fmt(file.parent).exit_code == 0
    assert file.read_text() == REGULAR


def test_the_other_view_and_back(file: Path) -> None:
    fmt("--view", "make", file)
    assert file.read_text() == MAKE
    fmt("--view", "triples", file)
    assert file.read_text() == REGULAR


def test_check_writes_nothing_and_says_so_with_exit_1(file: Path) -> None:
    assert fmt("--check", file).exit_code == 1
    assert file.read_text() == ROUGH
    file.write_text(REGULAR)
    assert fmt("--check", file).exit_code == 0


def test_diff_writes_nothing_and_shows_what_would_change(file: Path) -> None:
    result = fmt("--diff", file)
    assert result.exit_code == 0
    assert {"-  run=./t {a}", "+    run = ./t {a}"} <= set(result.output.splitlines())
    assert file.read_text() == ROUGH


def test_standard_input_goes_to_standard_output() -> None:
    result = fmt("-", stdin=ROUGH)
    assert (result.exit_code, result.stdout) == (0, REGULAR)


def test_a_file_with_syntax_errors_stays_untouched_and_others_are_written(file: Path) -> None:
    broken = file.with_name("broken.koalja")
    broken.write_text("(a) t (b\n")
    result = fmt(broken, file)
    assert result.exit_code == 3
    assert "broken.koalja:1:9: error" in result.output
    assert broken.read_text() == "(a) t (b\n"
    assert file.read_text() == REGULAR


def test_other_errors_than_syntax_do_not_keep_fmt_from_work(file: Path) -> None:
    file.write_text("(a) t (b)\npolcy=swap\n")
    assert fmt(file).exit_code == 0
    assert file.read_text() == "(a) t (b)\n    polcy = swap\n"


def test_a_missing_file_is_told_with_exit_7(tmp_path: Path) -> None:
    assert fmt(tmp_path / "no.koalja").exit_code == 7
