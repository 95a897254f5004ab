"""Names: what people type stays readable, what nobody types is unique, what is too long is an error."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koalja_fn.cluster import names
from koalja_fn.errors import UsageError
from koalja_fn.model import Circuit, Task

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
WORDS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)


def circuit(name: str, *tasks: str) -> Circuit:
    return Circuit(name, tuple(Task(task) for task in tasks), {})


@given(WORDS, WORDS, st.text(min_size=1, max_size=80))
def test_every_name_is_a_dns_label(name: str, task: str, pattern: str) -> None:
    for found in (
        names.link(name, task, task * 3),
        names.own_rings(name, task),
        names.accepted(name, pattern),
        names.written(name, task),
    ):
        assert LABEL.fullmatch(found), found


@given(st.lists(st.tuples(WORDS, WORDS), min_size=2, max_size=2, unique=True))
def test_different_links_have_different_names(pairs: list[tuple[str, str]]) -> None:
    first, second = (names.link("c", task, wire) for task, wire in pairs)
    assert first != second


def test_names_as_people_write_them_become_labels() -> None:
    assert names.task("My_Circuit", "learn.TF") == "my-circuit--learn-tf"


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (circuit("a--b", "c"), "stands between circuit and task"),
        (circuit("xn", "c"), "encoded host names"),
        (circuit("a", "entry"), "a task is called entry"),
        (circuit("a", "Sweep"), "a task is called Sweep"),
        (circuit("a", "console"), "a task is called console"),
        (circuit("a" * 46, "b"), "the circuit's name has 46 characters, 45 can be"),
        (circuit("a" * 40, "b" * 22), "22 characters, beside the circuit's name 21 can be"),
    ],
)
def test_a_name_that_a_cluster_can_not_have_is_an_error_that_says_why(found: Circuit, why: str) -> None:
    with pytest.raises(UsageError) as error:
        names.check(found)
    assert why in error.value.why


def test_all_names_that_can_not_be_are_said_at_once() -> None:
    with pytest.raises(UsageError) as error:
        names.check(circuit("a" * 40, "b" * 22, "entry", "c" * 30))
    assert error.value.why.count(";") == 2


def test_the_longest_names_that_can_be_are_fine() -> None:
    names.check(circuit("a" * 45, "b" * 16))
    names.check(circuit("a" * 40, "b" * 21))
    assert len(names.channel("a" * 45)) <= 63
