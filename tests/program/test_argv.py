"""How words of a run line become an argument list."""

import json
from pathlib import Path

import pytest

from koalja_fn.program.argv import LONGEST_WORD, Files, Unfilled, template
from koalja_fn.program.contract import Reason

from .conftest import Bench, outputs

FILES = Files(
    {"wind": ["/s/wind.0001.csv", "/s/wind.0002.csv"], "temp": ["/s/temp.0001.csv"]},
    {"mean": "/s/out/mean"},
    lambda name: f"/s/{name}.list",
    lambda: "/s/snapshot.json",
)


def filled(*command: str) -> list[str]:
    return template(command, ("wind", "temp"), ("mean",)).fill(FILES)


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("{wind}", ["/s/wind.0001.csv", "/s/wind.0002.csv"]),
        ("{temp}", ["/s/temp.0001.csv"]),
        ("{wind[0]}", ["/s/wind.0001.csv"]),
        ("{wind[1]}", ["/s/wind.0002.csv"]),
        ("--in={temp}", ["--in=/s/temp.0001.csv"]),
        ("cat {wind} > {out.mean}", ["cat /s/wind.0001.csv /s/wind.0002.csv > /s/out/mean"]),
        ("{wind.list}", ["/s/wind.list"]),
        ("{{print {temp}}}", ["{print /s/temp.0001.csv}"]),
    ],
)
def test_a_placeholder_becomes_its_files(word: str, words: list[str]) -> None:
    assert filled("x", word) == ["x", *words]


@pytest.mark.parametrize("word", ["{print $1}", '{"a": 1}', "{other}", "${HOME}", "{}", "{out.other}"])
def test_other_braces_stay(word: str) -> None:
    assert filled("x", word, "{temp}") == ["x", word, "/s/temp.0001.csv"]


def test_without_a_placeholder_all_files_follow_in_the_order_of_the_wiring() -> None:
    assert filled("x", "-q") == ["x", "-q", "/s/wind.0001.csv", "/s/wind.0002.csv", "/s/temp.0001.csv"]


def test_places_for_outputs_and_the_snapshot_place_no_input() -> None:
    assert filled("x", "{out.mean}", "{snapshot}")[-3:] == FILES.inputs["wind"] + FILES.inputs["temp"]


def test_a_file_beyond_the_last_is_an_error_with_a_cure() -> None:
    with pytest.raises(Unfilled) as unfilled:
        filled("x", "{wind[2]}")
    assert "{wind[2]}" in unfilled.value.message
    assert "2 of them" in unfilled.value.cure


@pytest.mark.parametrize("word", ["$KOALJA_OUT/mean", "${KOALJA_OUT}/mean", "{out.mean}"])
def test_a_command_that_says_where_outputs_go_has_a_log_for_standard_output(word: str) -> None:
    assert template(("sh", "-c", word), (), ("mean",)).writes
    assert not template(("sh", "-c", "echo"), (), ("mean",)).writes


def test_an_empty_word_stays_a_word() -> None:
    assert filled("x", "", "{temp}") == ["x", "", "/s/temp.0001.csv"]


def test_the_list_names_one_path_on_each_line(bench: Bench) -> None:
    result = bench.call("/bin/sh", "-c", 'xargs cat < "$0"', "{wind.list}", inputs={"wind": [b"a\n", b"b\n"]})
    assert outputs(result) == {"mean": [b"a\nb\n"]}


def test_the_snapshot_tells_all_annotations_and_where_the_files_are(bench: Bench) -> None:
    value = bench.value(b"7", kind="application/json", attributes={"unit": "kn"}, key="k")
    result = bench.call("/bin/cat", "{snapshot}", "{wind}", inputs={"wind": [value]})
    told, end = json.JSONDecoder().raw_decode(outputs(result)["mean"][0].decode())
    assert outputs(result)["mean"][0].decode()[end:].strip() == "7"
    assert told["snapshot"] == "5" * 64
    (wind,) = told["inputs"]["wind"]
    assert wind["attributes"] == {"unit": "kn"}
    assert wind["digest"] == value.digest
    assert Path(wind["file"]).name == "wind.0001.json"


def test_too_many_files_are_not_started_and_the_cure_is_a_list(bench: Bench) -> None:
    value = bench.value(b"x")
    result = bench.call("/bin/true", "x" * LONGEST_WORD, inputs={"wind": [value]})
    assert result.ok
    result = bench.call("/bin/true", "x" * (LONGEST_WORD + 1), inputs={"wind": [value]})
    assert result.reason is Reason.NOT_STARTED
    assert result.permanent
    assert "{WIRE.list}" in result.message
    result = bench.call("/bin/true", *["{wind}"] * 60_000, inputs={"wind": [value]})
    assert result.reason is Reason.NOT_STARTED
    assert "arguments have" in result.message
    assert "{WIRE.list}" in result.message
