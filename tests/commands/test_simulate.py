"""`koalja-fn simulate`: a policy can be tried before any code exists."""

import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from koalja_fn.commands import main

PAGE = Path(__file__).parents[2] / "docs" / "policies.md"

WIRING = """\
[shop]
(a[2], b) pair (x)
(a, b) newest (y)
    policy = swap
((a + b)[3] as readings) joined (z)
(left, right) matched (m)
    policy = align
    align  = order
    within = 10s
(a ordered) sorted (s)
(a[2-3]) some (t)
"""


@pytest.fixture
def simulate(tmp_path, monkeypatch):
    (tmp_path / "shop.koalja").write_text(WIRING)
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        return CliRunner().invoke(main, ["simulate", *arguments])

    return call


def told(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_json_is_the_documented_document_and_nothing_else(simulate):
    found = told(simulate("shop.koalja", "--task", "pair", "--arrive", "a b a a", "-o", "json"))
    assert found == {"snapshots": [{"at": 3, "inputs": {"a": [1, 2], "b": [1]}}]}


def test_no_snapshot_is_an_empty_list(simulate):
    assert told(simulate("shop.koalja", "-t", "pair", "-a", "a", "-o", "json")) == {"snapshots": []}


def test_merged_inputs_tell_their_order(simulate):
    found = told(simulate("shop.koalja", "-t", "joined", "-a", "a b a", "-o", "json"))
    assert found["snapshots"] == [
        {"at": 3, "inputs": {"a": [1, 2], "b": [1]}, "merged": {"readings": [["a", 1], ["b", 1], ["a", 2]]}}
    ]


def test_what_was_superseded_is_told(simulate):
    found = told(simulate("shop.koalja", "-t", "newest", "-a", "a a b", "-o", "json"))
    assert found["superseded"] == [{"at": 2, "inputs": {"a": [1]}}]


def test_keys_are_given_by_the_attribute_or_as_key(simulate):
    arrivals = "left:order=7 left:key=8 right:order=8 +10s"
    found = told(simulate("shop.koalja", "-t", "matched", "-a", arrivals, "-o", "json"))
    assert found == {
        "snapshots": [{"at": 3, "inputs": {"left": [2], "right": [1]}}],
        "unmatched": [{"at": 3, "inputs": {"left": [1]}, "reason": "alone"}],
    }


def test_sequences_are_restored_and_gaps_are_told(simulate):
    arrivals = "a:seq=1 a:seq=3 a:seq=2 " + " ".join(f"a:seq={n}" for n in range(5, 105))
    found = told(simulate("shop.koalja", "-t", "sorted", "-a", arrivals, "-o", "json"))
    assert [s["inputs"]["a"][0] for s in found["snapshots"][:4]] == [1, 3, 2, 4]
    assert found["skipped"] == [{"at": 103, "input": "a", "source": "", "after": 3, "until": 5}]


def test_the_task_is_free_after_each_arrival_unless_it_is_busy(simulate):
    def sizes(arrivals):
        found = told(simulate("shop.koalja", "-t", "some", "-a", arrivals, "-o", "json"))
        return [(s["at"], len(s["inputs"]["a"])) for s in found["snapshots"]]

    assert sizes("a a a a") == [(2, 2), (4, 2)]
    assert sizes("busy a a a a") == [(3, 3)]
    assert sizes("busy a*5 free") == [(3, 3), (5, 2)]


def test_the_task_may_be_left_out_where_there_is_one(simulate, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "it.koalja").write_text("(in) copy (out)\n")
    assert told(simulate("one", "--arrive", "in", "-o", "json"))["snapshots"] == [
        {"at": 1, "inputs": {"in": [1]}}
    ]


def test_a_folder_in_which_a_circuit_has_run_still_has_one_wiring_file(simulate, tmp_path):
    """`.koalja`, where a run keeps its things, ends in the same letters."""
    (tmp_path / ".koalja").mkdir()
    assert told(simulate(".", "-t", "sorted", "-a", "a:seq=1", "-o", "json"))["snapshots"]


def test_which_task_must_be_said_where_there_are_several(simulate):
    result = simulate("shop.koalja", "-a", "a")
    assert result.exit_code == 2
    assert "pair, newest" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("shop.koalja", "-t", "matched", "-a", "lft"), 2, "did you mean 'left'?"),
        (("shop.koalja", "-t", "pair", "-a", "a bussy"), 2, "did you mean 'busy'?"),
        (("shop.koalja", "-t", "pair", "-a", "+5x"), 2, "+500ms"),
        (("shop.koalja", "-t", "pair", "-a", "a:color=red"), 2, ":key=K"),
        (("shop.koalja", "-t", "pair", "-a", "a*9999999"), 2, "arrivals"),
        (("shop.koalja", "-t", "piar", "-a", "a"), 7, "did you mean 'pair'?"),
        (("nowhere", "-t", "pair", "-a", "a"), 7, "There is no nowhere"),
    ],
)
def test_a_wrong_call_says_what_to_write(simulate, arguments, status, said):
    result = simulate(*arguments)
    assert result.exit_code == status
    assert said in result.stderr
    assert result.stdout == ""


def test_broken_wiring_is_told_with_its_place(simulate, tmp_path):
    (tmp_path / "bad.koalja").write_text("(a[2/3]) t (b)\n")
    result = simulate("bad.koalja", "-a", "a")
    assert result.exit_code == 3
    assert "bad.koalja:1" in result.stderr


def test_a_long_list_is_not_drawn_but_told(simulate):
    result = simulate("shop.koalja", "-t", "pair", "-a", "a*1000 b")
    assert result.stdout.splitlines()[2:] == ["snapshot  at    a    b", "#1        1001  1-2  1"]


def pictures():
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(r"```console\n\$ koalja-fn (simulate [^\n]*)\n(.*?)```", text, re.DOTALL)


def test_the_page_on_policies_has_a_picture_for_each_policy():
    assert len(pictures()) > 15


@pytest.mark.parametrize(("call", "shown"), pictures())
def test_each_picture_of_the_page_on_policies_is_what_simulate_prints(call, shown, tmp_path, monkeypatch):
    wiring = re.search(r"```koalja\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "weather.koalja").write_text(wiring[1])
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, shlex.split(call))
    assert result.stdout == shown
