"""Run lines are split as a shell splits them, and only a task's own placeholders are placeholders."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koalja_fn.wiring.runline import Placeholder, RunLineError, parts, split


@settings(max_examples=60, deadline=None)
@given(st.text("ab '\"\\{}=-\t", max_size=14))
def test_words_are_those_of_the_real_shell(line: str) -> None:
    try:
        words = split(line)
    except RunLineError:
        return
    told = subprocess.run(["sh", "-c", f"printf '%s\\0' x {line}"], capture_output=True, check=True).stdout
    assert tuple(told.decode().split("\0")[1:-1]) == words


@pytest.mark.parametrize(("line", "position"), [("a 'b", 2), ('a "b\\"', 2), ("ab\\", 2)])
def test_what_is_not_finished_is_told_with_its_place(line: str, position: int) -> None:
    with pytest.raises(RunLineError) as caught:
        split(line)
    assert caught.value.position == position


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("{in}", (Placeholder("all", "in"),)),
        ("--x={in[2]}!", ("--x=", Placeholder("one", "in", 2), "!")),
        ("{in.list}", (Placeholder("list", "in"),)),
        ("{out.mean}", (Placeholder("out", "mean"),)),
        ("{snapshot}", (Placeholder("snapshot"),)),
        ("a {in} > {out.mean}", ("a ", Placeholder("all", "in"), " > ", Placeholder("out", "mean"))),
        ("{other} {mean} {out.in} {in[x]} {in[-1]} {}", ("{other} {mean} {out.in} {in[x]} {in[-1]} {}",)),
        ('{"x":{"y":1}}', ('{"x":{"y":1}}',)),
        ("{{in}}", ("{in}",)),
        ("{{{in}}}", ("{", Placeholder("all", "in"), "}")),
        ("{print $1}", ("{print $1}",)),
        ("", ()),
    ],
)  # fmt: skip
def test_placeholders_of_a_word(word: str, expected: tuple[object, ...]) -> None:
    assert parts(word, {"in"}, {"mean"}) == expected


def test_a_wire_may_be_called_like_a_placeholder() -> None:
    inputs = {"snapshot", "out", "out.x", "a.list"}
    assert parts("{snapshot}", inputs, ()) == (Placeholder("all", "snapshot"),)
    assert parts("{a.list}", inputs, ()) == (Placeholder("all", "a.list"),)
    assert parts("{out.list}", inputs, ()) == (Placeholder("list", "out"),)
    assert parts("{out.list}", inputs, {"list"}) == (Placeholder("out", "list"),)
