"""The tables that were made ahead are those of the grammar, and nothing is lost where they are not."""

from __future__ import annotations

import json
from pathlib import Path

import lark
import pytest
from hypothesis import given, settings
from lark.exceptions import UnexpectedInput
from wiring_strategies import WIRING_LINES, WIRING_TEXT, circuits

from koalja_fn.wiring import compose, tables
from koalja_fn.wiring.building import Builder
from koalja_fn.wiring.parsing import LineEnds

GRAMMAR = Path(tables.__file__).with_name("grammar.lark").read_text()
MADE = json.loads(Path(tables.__file__).with_name("tables.json").read_text())


def test_the_tables_are_of_the_grammar_as_it_is() -> None:
    if MADE["lark"] != lark.__version__:
        pytest.skip(f"the tables are lark {MADE['lark']}'s: python -m koalja_fn.wiring.tables")
    assert tables.fits(MADE, GRAMMAR), "grammar.lark was changed: python -m koalja_fn.wiring.tables"


@pytest.mark.parametrize("other", [{"lark": "0.0"}, {"grammar": "of another grammar"}])
def test_tables_of_another_grammar_or_lark_are_left_alone(other: dict[str, str]) -> None:
    assert not tables.fits(MADE | other, GRAMMAR)


@pytest.mark.parametrize("trouble", ["stale", "missing"])
def test_without_fitting_tables_the_parser_is_derived(
    trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "grammar.lark").write_text(GRAMMAR)
    if trouble == "stale":
        (tmp_path / "tables.json").write_text(json.dumps(MADE | {"lark": "0.0"}))
    monkeypatch.setattr(tables, "_HOME", tmp_path)
    parser = tables.parser(postlex=LineEnds(), transformer=Builder())
    assert parser.options.start == ["file"]
    assert len(parser.parse("(a) b (c)\n")) == 1


def outcome(parser: lark.Lark, text: str) -> object:
    """The concrete syntax, or where and why there is none."""
    try:
        return parser.parse(text + "\n")
    except UnexpectedInput as error:
        told = getattr(error, "expected", None) or getattr(error, "allowed", None) or ()
        return type(error), error.line, error.column, set(told)


QUICK = tables.parser(postlex=LineEnds(), transformer=Builder())
DERIVED = tables.derived(GRAMMAR, postlex=LineEnds(), transformer=Builder())


@settings(max_examples=200, deadline=None)
@given(WIRING_TEXT | WIRING_LINES | circuits().map(compose))
def test_tables_and_grammar_read_each_text_alike(text: str) -> None:
    assert outcome(QUICK, text) == outcome(DERIVED, text)


def test_the_tables_are_really_used() -> None:
    if MADE["lark"] == lark.__version__:
        assert (QUICK.source_path, DERIVED.source_path) == ("<deserialized>", "<string>")
