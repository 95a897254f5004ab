"""YAML that every reader reads alike."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from koalja_fn.cluster.yamltext import dump, text

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x85\u2028\u2029\ufeff"), max_size=60)
TRICKY = [
    "yes", "No", "ON", "off", "y", "N", "true", "False", "null", "~", "nan", ".inf", "0", "007", "0o17",
    "0x1F", "1e3", "1_000", "12:30", "1:2:3", "2026-11-22", "1.", ".5", "-1", "+1", "=", "<<",
]  # fmt: skip


@given(st.dictionaries(TEXTS, st.one_of(TEXTS, st.integers(), st.booleans(), st.none())))
def test_what_is_written_is_read_back(item: dict[str, object]) -> None:
    assert yaml.safe_load(dump(item)) == item


@pytest.mark.parametrize(
    "word", [*TRICKY, "", " ", "a: b", "a #b", "- a", "*a", "&a", "!a", "@a", "%a", "{a"]
)
def test_text_that_could_be_taken_for_something_else_is_in_quotes(word: str) -> None:
    assert dump({"a": word}) == f'a: "{word}"\n'


@pytest.mark.parametrize("word", ["ReadWriteOnce", "/readyz", "koalja-registry", "serving.knative.dev/v1"])
def test_plain_words_stay_plain(word: str) -> None:
    assert dump({"a": word}) == f"a: {word}\n"


@given(st.text("abc019.:-_ /xeE+", min_size=1, max_size=12))
def test_nothing_unquoted_begins_with_a_digit_or_has_a_colon(word: str) -> None:
    written = dump([word]).removeprefix("- ").rstrip("\n")
    if not written.startswith('"'):
        assert re.fullmatch(r"[A-Za-z/][A-Za-z0-9._/ -]*", written)


def test_several_lines_are_written_as_lines() -> None:
    assert dump({"query": "SELECT 1\nFROM t"}) == "query: |-\n  SELECT 1\n  FROM t\n"


def test_equal_parts_are_written_out_and_keys_keep_their_order() -> None:
    part = {"z": 1, "a": 2}
    assert dump([part, part]) == "- z: 1\n  a: 2\n- z: 1\n  a: 2\n"


def test_each_document_has_its_comment() -> None:
    assert text([("one\ntwo", {"a": 1}), ("three", {"b": 2})], "head") == (
        "# head\n---\n# one\n# two\na: 1\n---\n# three\nb: 2\n"
    )
