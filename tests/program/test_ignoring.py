"""What ignore files leave out, against git's rules as another library knows them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pathspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koalja_fn.program.ignoring import Ignoring, rules


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def kept(folder: Path, files: Iterable[str], **ignore: str) -> list[str]:
    for name in files:
        write(folder, **{name: "x"})
    write(folder, **ignore)
    return [inside for inside, _ in Ignoring(folder).walk()]


def test_a_line_fits_at_any_depth_unless_it_has_a_slash(tmp_path: Path) -> None:
    files = ["a.log", "deep/a.log", "b.txt", "deep/b.txt"]
    assert kept(tmp_path, files, **{".gitignore": "*.log\n/b.txt\n"}) == ["deep/b.txt"]


def test_an_exception_takes_back_but_not_out_of_a_folder_that_is_left_out(tmp_path: Path) -> None:
    files = ["a.log", "keep.log", "data/keep.log", "out/x"]
    text = "*.log\n!keep.log\nout/\n!out/x\n"
    assert kept(tmp_path, files, **{".gitignore": text}) == ["data/keep.log", "keep.log"]


def test_deeper_files_have_the_last_word(tmp_path: Path) -> None:
    ignore = {".gitignore": "*.csv\n", "data/.gitignore": "!*.csv\nraw.csv\n"}
    assert kept(tmp_path, ["a.csv", "data/b.csv", "data/raw.csv", "data/deep/c.csv"], **ignore) == [
        "data/b.csv",
        "data/deep/c.csv",
    ]


def test_koaljaignore_stands_above_gitignore(tmp_path: Path) -> None:
    ignore = {".gitignore": "model.bin\n", "a/.gitignore": "*.bin\n", ".koaljaignore": "!model.bin\nnotes/\n"}
    assert kept(tmp_path, ["model.bin", "a/model.bin", "a/x.bin", "notes/y"], **ignore) == [
        "a/model.bin",
        "model.bin",
    ]


def test_a_slash_at_the_end_means_folders_only(tmp_path: Path) -> None:
    assert kept(tmp_path, ["build", "sub/build/x"], **{".gitignore": "build/\n"}) == ["build"]


def test_what_is_never_code_cannot_be_taken_back(tmp_path: Path) -> None:
    files = [".git/HEAD", "__pycache__/x.pyc", "node_modules/a/index.js", ".koalja/db", "x.pyc", "main.py"]
    assert kept(tmp_path, files, **{".koaljaignore": "!*\n!.git\n!node_modules/\n"}) == ["main.py"]


def test_links_are_told_and_not_followed(tmp_path: Path) -> None:
    write(tmp_path, **{"real/x": "x"})
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "round").symlink_to("..")
    found = list(Ignoring(tmp_path).walk())
    assert found == [("link", True), ("real/round", True), ("real/x", False)]


@pytest.mark.parametrize(
    "line",
    ["", "#no", "\\#hash", "\\!bang", "a ", "a\\ ", "*", "**", "a/**", "**/a", "a/**/b", "/a", "a/b", "?",
     "[ab]", "[!a]", "[]a]", "a[", "\\*", "a*b", "*/a", "/", "!a", "**a", "a.b", "[.]b", "[^a]b", "/**/a"],
)  # fmt: skip
def test_each_form_of_a_line_fits_what_git_says(line: str) -> None:
    theirs = pathspec.GitIgnoreSpec.from_lines([line])
    ours = rules([line])
    for path in (
        "a",
        "b",
        "ab",
        "a/b",
        "b/a",
        "a/x/b",
        "x/y/a",
        "#hash",
        "!bang",
        "a ",
        "*",
        "axb",
        "]",
        "a.b",
    ):
        said = [not rule.back for rule in ours if not rule.folders and rule.fits.fullmatch(path)]
        above = [any(r.fits.fullmatch("/".join(path.split("/")[:n])) for r in ours if not r.back)
                 for n in range(1, path.count("/") + 1)]  # fmt: skip
        assert (bool(said and said[-1]) or any(above)) == theirs.match_file(path), path


def test_a_line_that_can_never_fit_is_no_trouble() -> None:
    assert rules(["[b-a]", "!", "/", "   "]) == ()


words = st.text("ab*?", min_size=1, max_size=4).filter(lambda word: "***" not in word)
lines = st.builds("{}{}{}".format, st.sampled_from(["", "/", "**/"]), st.lists(words, min_size=1, max_size=3)
                  .map("/".join), st.sampled_from(["", "/**"]))  # fmt: skip


@given(lines, st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=4).map("/".join))
def test_lines_by_chance_fit_what_git_says(line: str, path: str) -> None:
    theirs = pathspec.GitIgnoreSpec.from_lines([line])
    ours = rules([line])
    parts = path.split("/")
    paths = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    assert any(rule.fits.fullmatch(p) for rule in ours for p in paths) == theirs.match_file(path)
