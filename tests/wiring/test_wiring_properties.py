"""Promises of the wiring language that hold for every text and every circuit."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wiring_strategies import WIRING_LINES, WIRING_TEXT, circuits

from koalja_fn.model import Circuit
from koalja_fn.wiring import SyntaxErrors, compose, read, render, write

VIEWS = ["triples", "make"]


def drafted(text: str) -> Circuit:
    return read(text).draft


@settings(deadline=None)
@given(circuits(), st.sampled_from(VIEWS))
def test_what_is_composed_is_read_as_the_same_circuit_in_both_views(circuit: Circuit, view: str) -> None:
    reading = read(compose(circuit, view))
    wrong = [f for f in reading.findings if f.severity == "error" and f.code != "placeholder"]
    assert not wrong, "\n".join(render(f) for f in wrong)
    assert reading.draft.tasks == circuit.tasks
    assert reading.draft.wires == circuit.wires
    assert reading.draft.name == circuit.name


@settings(deadline=None)
@given(circuits())
def test_from_triples_to_make_and_back_nothing_changes(circuit: Circuit) -> None:
    triples = compose(circuit, "triples")
    back = write(write(triples, "make"), "triples")
    assert drafted(back) == drafted(triples)
    assert write(write(back, "make"), "triples") == back


@settings(deadline=None)
@given(circuits(), st.sampled_from([None, *VIEWS]))
def test_fmt_is_idempotent_on_circuits(circuit: Circuit, view: str | None) -> None:
    once = write(compose(circuit), view)
    assert write(once, view) == once
    assert write(once) == once


@settings(max_examples=300, deadline=None)
@given(WIRING_TEXT | WIRING_LINES)
def test_reading_never_crashes_and_has_findings_or_a_circuit(text: str) -> None:
    reading = read(text)
    errors = [f for f in reading.findings if f.severity == "error"]
    assert (reading.circuit is None) == bool(errors)
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    for finding in reading.findings:
        assert 1 <= finding.place.line <= len(lines)
        assert 1 <= finding.place.column <= len(lines[finding.place.line - 1]) + 1
        assert render(finding)


@settings(max_examples=400, deadline=None)
@given(WIRING_LINES | WIRING_TEXT, st.sampled_from([None, *VIEWS]))
def test_fmt_of_any_text_is_idempotent_and_keeps_the_meaning(text: str, view: str | None) -> None:
    try:
        once = write(text, view)
    except SyntaxErrors:
        return  # such a text stays as it is
    assert write(once, view) == once
    before, after = read(text), read(once)
    if before.circuit is not None:
        assert after.circuit == before.circuit, once


@settings(deadline=None)
@given(circuits(), st.data())
def test_comments_survive_in_both_views(circuit: Circuit, data: st.DataObject) -> None:
    lines = compose(circuit).split("\n")
    comments = []
    for number in range(data.draw(st.integers(1, 6))):
        comment = f"# said-{number}"
        at = data.draw(st.integers(0, len(lines) - 1))
        indent = data.draw(st.sampled_from(["", "    "]))
        if (
            data.draw(st.booleans())
            or not lines[at]
            or "run" in lines[at]
            or "#" in lines[at]
            or "env" in lines[at]
        ):
            lines.insert(at, indent + comment)
        else:
            lines[at] += "  " + comment
        comments.append(comment)
    text = "\n".join(lines)
    for view in [None, *VIEWS]:
        written = write(text, view)
        for comment in comments:
            assert written.count(comment) == 1, (text, written)
        assert write(written, view) == written


@pytest.mark.parametrize("depth", [10, 5_000])
def test_deep_nesting_is_a_finding_not_a_crash(depth: int) -> None:
    assert read("(" * depth + "a" + ")" * depth + " t (b)").circuit is None
