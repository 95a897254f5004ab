"""docs/wiring.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import koalja_fn
from koalja_fn.wiring import read, write
from koalja_fn.wiring.attributes import TASK, WIRE

PAGE = Path(__file__).parents[2] / "docs" / "wiring.md"
EXAMPLES = re.findall(r"```koalja\n(.*?)```", PAGE.read_text(), re.S)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_are_sound_and_in_their_regular_form(example: str) -> None:
    assert not [f for f in read(example).findings if f.severity != "note"]
    assert write(example) == example


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_mean_the_same_in_both_views(example: str) -> None:
    assert read(write(example, "make")).circuit == read(write(example, "triples")).circuit


def test_every_attribute_has_its_row() -> None:
    rows = set(PAGE.read_text().splitlines())
    for key, a in (*TASK.items(), *WIRE.items()):
        assert f"| `{key}` | {a.values} | {a.default} | {a.meaning} |" in rows


def test_every_code_has_its_row() -> None:
    folder = Path(koalja_fn.__file__).parent
    calls = re.compile(r"(?:error|warning|note|NoCode)\(\s*\"([a-z-]+)\"")
    sources = [*(folder / "wiring").rglob("*.py"), *(folder / "program").glob("*.py")]
    known = {code for path in sources for code in calls.findall(path.read_text())}
    table = PAGE.read_text().partition("## What `check` finds")[2]
    assert known <= set(re.findall(r"`([a-z-]+)`", table))
    assert len(known) > 30
