"""Random circuits and edits: what `make` gives is what a clean build gives, and only what must run runs."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from workshop import Workshop

SOURCES = 3


@st.composite
def circuits(draw: st.DrawFn) -> list[tuple[tuple[int, ...], int]]:
    """For each task the wires that it reads (sources first, then earlier tasks) and which program it is."""
    tasks = []
    for n in range(draw(st.integers(1, 6))):
        wires = st.integers(0, SOURCES + n - 1)
        reads = draw(st.lists(wires, min_size=1, max_size=3, unique=True))
        tasks.append((tuple(reads), draw(st.integers(0, 2))))
    return tasks


edits = st.lists(
    st.one_of(
        st.tuples(st.just("source"), st.integers(0, SOURCES - 1), st.sampled_from("xyz")),
        st.tuples(st.just("program"), st.integers(0, 2), st.sampled_from("abc")),
        st.tuples(st.just("sources"), st.integers(0, SOURCES - 1), st.integers(1, 3)),
    ),
    min_size=1,
    max_size=3,
)


def wiring(tasks: list[tuple[tuple[int, ...], int]]) -> str:
    lines = ["[w]"]
    for n, (reads, program) in enumerate(tasks):
        names = [f"w{wire}" for wire in reads]
        lines.append(f"({', '.join(names)}) t{n} (w{SOURCES + n})")
        lines.append(f"    run = ./p{program} {' '.join('{' + name + '}' for name in names)}")
    lines += [f"wire w{n}\n    from = src/{n}/*" for n in range(SOURCES)]
    return "\n".join(lines) + "\n"


def prepare(shop: Workshop, marks: dict[int, str], files: dict[tuple[int, int], str]) -> None:
    """Programs hash their inputs with a mark of their own, one of them forgets half of what it knows."""
    for program, mark in marks.items():
        keep = "cut -c1" if program == 0 else "cat"
        shop.program(f"p{program}", f'(echo {mark}; cat "$@") | sha256sum | {keep}')
    shutil.rmtree(shop.folder / "src", ignore_errors=True)
    for (source, n), text in files.items():
        shop.source(f"src/{source}/{n}", text)


@settings(max_examples=12, deadline=None)
@given(circuits(), st.lists(edits, max_size=3))
def test_a_made_circuit_equals_a_clean_build_after_any_edits(
    tasks: list[tuple[tuple[int, ...], int]], rounds: list[list[tuple[str, int, object]]]
) -> None:
    with tempfile.TemporaryDirectory() as place:
        shop = Workshop(Path(place) / "w", wiring(tasks))
        marks = dict.fromkeys(range(3), "a")
        files = {(n, 0): "x" for n in range(SOURCES)}
        seen: set[tuple[str, ...]] = set()
        for edit in [[], *rounds]:
            for kind, which, what in edit:
                if kind == "source":
                    files[which, 0] = str(what)
                elif kind == "program":
                    marks[which] = str(what)
                else:
                    files = {key: text for key, text in files.items() if key[0] != which}
                    files |= {(which, n): f"{n}" for n in range(int(str(what)))}
            prepare(shop, marks, files)
            clean = Workshop(Path(place) / "clean", wiring(tasks))
            prepare(clean, marks, files)
            expected, answer = clean.make(), shop.make()
            for wire in expected.wires:
                assert shop.texts(answer, wire) == clean.texts(expected, wire)
            ran = {(task, str(number), *key) for task, number, key in _keys(shop, answer)}
            assert not ran & seen, "something ran again that was made before"
            seen |= ran
            assert shop.make().made == []
            shutil.rmtree(clean.folder)


def _keys(shop: Workshop, answer) -> list[tuple[str, int, tuple[str, ...]]]:
    """What was run, by task and key; a snapshot's number may change, its key says what it is."""
    import sqlite3

    with sqlite3.connect(shop.folder / ".koalja/registry.db") as database:
        run = database.execute("SELECT max(number) FROM make_run").fetchone()[0]
        rows = database.execute("SELECT task, id FROM made WHERE run = ?", (run,)).fetchall()
    assert len(rows) == len(answer.made)
    return [(task, 0, (key,)) for task, key in rows]
