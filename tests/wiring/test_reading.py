"""What a wiring text means."""

from __future__ import annotations

import pytest

from koalja_fn.model import Buffer, Circuit, Policy, Rate, Task
from koalja_fn.wiring import read

FIGURE_5 = """[tfmodel]
                (in) learn-tf (model)
             (model) server   (lookup implicit)
         (in[10/2])  convert  (json)
(json, lookup implicit) predict (result)
"""


def circuit_of(text: str) -> Circuit:
    reading = read(text, default_name="test")
    assert reading.circuit is not None, reading.findings
    return reading.circuit


def only_task(text: str) -> Task:
    (task,) = circuit_of(text).tasks
    return task


@pytest.mark.parametrize("text", [FIGURE_5, FIGURE_5.replace("    ", "\t"), FIGURE_5.replace("\n", "\r\n")])
def test_figure_5_parses_as_it_stands(text: str) -> None:
    circuit = circuit_of(text)
    assert circuit.name == "tfmodel"
    assert [t.name for t in circuit.tasks] == ["learn-tf", "server", "convert", "predict"]
    assert circuit.tasks[2].inputs[0].buffer == Buffer(10, 10, 2)
    assert circuit.tasks[3].inputs[1].implicit
    assert circuit.tasks[1].outputs[0].implicit
    assert circuit.sources == ("in",)


def test_line_breaks_between_the_parts_are_free() -> None:
    task = only_task("(a,\n b passive)\n  t\n\n  (c\n d)\n")
    assert [i.name for i in task.inputs] == ["a", "b"]
    assert task.output_wires == ("c", "d")


@pytest.mark.parametrize("separator", [",", " ", ", ", "\n", " , "])
def test_commas_and_white_space_separate_alike(separator: str) -> None:
    assert [i.name for i in only_task(f"(a{separator}b) t (c)").inputs] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "buffer"),
    [
        ("x", Buffer(1, 1, 1)),
        ("x[5]", Buffer(5, 5, 5)),
        ("x[2-4]", Buffer(2, 4, 4)),
        ("x[10/2]", Buffer(10, 10, 2)),
        ("x [ 10 / 2 ]", Buffer(10, 10, 2)),
    ],
)
def test_buffers(text: str, buffer: Buffer) -> None:
    assert only_task(f"({text}) t (y)").inputs[0].buffer == buffer


def test_merged_wires_are_one_input_named_by_as() -> None:
    merged, passive = only_task("((a + b)[10/2] as readings, c passive) t (out)").inputs
    assert (merged.name, merged.wires, merged.buffer) == ("readings", ("a", "b"), Buffer(10, 10, 2))
    assert passive.passive


def test_merged_wires_without_as_go_by_the_first() -> None:
    assert only_task("(a + b) t (out)").inputs[0].name == "a"


def test_a_single_wire_may_have_another_name() -> None:
    given = only_task("(x[5] as y) t (out)").inputs[0]
    assert (given.name, given.wires, given.buffer) == ("y", ("x",), Buffer(5, 5, 5))


def test_the_buffer_of_a_merged_group_stands_on_each_input() -> None:
    task = only_task("(a, b, c passive)[10/2] t (out)\n  policy = merge\n")
    assert [i.buffer for i in task.inputs] == [Buffer(10, 10, 2), Buffer(10, 10, 2), Buffer()]


def test_a_group_of_one_input_gives_it_its_buffer() -> None:
    assert only_task("(a + b)[4] t (out)").inputs[0].buffer == Buffer(4, 4, 4)


def test_all_attributes_of_a_task() -> None:
    task = only_task(
        "(a[2-4], b ordered) t (out)\n"
        "  policy = swap\n  run = ./t {a} # a comment\n  rate = 10/min\n  within = 500ms\n  retries = 0\n"
        "  backoff = 2m\n  timeout = none\n  order = strict\n  start = beginning\n  cache = on\n"
        "  on-update = recompute\n  warm = no\n  region = north\n  env.B = 2\n"
        "  env.A = 'x # y'\n  scale = 3\n"
        "  mode = job\n  max-hops = 7\n  backlog = 40\n"
    )
    assert (task.policy, task.run, task.rate, task.within) == (Policy.SWAP, "./t {a}", Rate(10, 60.0), 0.5)
    assert (task.retries, task.backoff, task.timeout, task.strict) == (0, 120.0, None, True)
    assert (task.start, task.cache, task.on_update, task.warm) == ("beginning", True, "recompute", False)
    assert (task.region, task.env, task.scale) == ("north", (("A", "x # y"), ("B", "2")), 3)
    assert (task.mode, task.max_hops, task.backlog) == ("job", 7, 40)


def test_attributes_of_the_circuit_are_defaults_of_its_tasks() -> None:
    one, two = circuit_of(
        "[c]\n  retries = 9\n  env.X = 1\n(a) one (b)\n  retries = 1\n  env.X = 2\n(b) two (d)\n"
    ).tasks
    assert (one.retries, one.env) == (1, (("X", "2"),))
    assert (two.retries, two.env) == (9, (("X", "1"),))


def test_all_attributes_of_a_wire() -> None:
    wire = circuit_of(
        "(x, y implicit) t (z)\n"
        "wire x\n  type = text/csv\n  keep = 7d\n  confined = north\n  accept = org.example\n"
        "  identity = content\n  from = inbox/*.csv\nwire z\n  to = outbox/{id}.json\n"
        "wire y\n  at = https://example.org/ask\n"
    ).wires
    assert (wire["x"].type, wire["x"].keep, wire["x"].confined) == ("text/csv", 7 * 86400.0, "north")
    assert (wire["x"].accept, wire["x"].identity, wire["x"].source) == (
        "org.example",
        "content",
        "inbox/*.csv",
    )
    assert wire["z"].sink == "outbox/{id}.json"
    assert wire["y"].at == "https://example.org/ask"


def test_a_rule_is_the_same_circuit_from_the_tasks_own_place() -> None:
    rule = circuit_of(
        "result: json lookup implicit\n    ./predict {json}\nlookup implicit: m\n    task = server\n"
    )
    triple = circuit_of(
        "(json, lookup implicit) predict (result)\n    run = ./predict {json}\n(m) server (lookup implicit)"
    )
    assert rule == triple


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("out: a\n  ./predict.py {a}\n", "predict"),
        ("out: a\n  tools/predict {a}\n", "predict"),
        ("out: a\n  python3 predict.py\n", "out"),
        ("out: a\n", "out"),
        ("out: a\n  ./predict\n  task = other\n", "other"),
        (": a\n  ./sink\n", "sink"),
    ],
)
def test_a_rule_is_named_by_its_program_or_output(text: str, name: str) -> None:
    assert only_task(text).name == name


def test_a_hash_is_a_comment_only_after_white_space_and_outside_quotes() -> None:
    task = only_task("""(a) t (b)\n  run = sh -c "echo # no" x#y 'a # b' # yes\n""")
    assert task.run == """sh -c "echo # no" x#y 'a # b'"""


def test_a_quote_that_is_never_closed_hides_no_comment() -> None:
    assert only_task("(a) t (b)\n  env.X = don't # say\n").env == (("X", "don't"),)


def test_without_a_header_the_default_name_is_made_a_label() -> None:
    reading = read("(a) t (b)", default_name="My Code_2")
    assert reading.circuit is not None
    assert reading.circuit.name == "my-code-2"


def test_every_wire_that_occurs_is_in_the_circuit() -> None:
    assert set(circuit_of("(a + b, c implicit) t (d)\n() u (c implicit)\n").wires) == {"a", "b", "c", "d"}


def test_places_are_those_of_the_names() -> None:
    task = circuit_of("\n\n  (ab) task (c)\n").tasks[0]
    assert (task.place.line, task.place.column, task.place.length) == (3, 8, 4)
    assert (task.inputs[0].place.line, task.inputs[0].place.column) == (3, 4)


def test_parameters_without_findings_are_silent() -> None:
    text = "(a[2-4], b[3]) t (c)\n  policy = swap\n  rate = 5/s\n  within = 3s\n  backlog = 100\n"
    assert {f.code for f in read(text).findings} == {"source", "end"}


def test_what_no_version_acts_on_yet_is_said_and_keeps_nothing_from_running() -> None:
    reading = read("[x]\n  region = north\n(a) t (b)\n  mode = job\n  cache = on\nwire a\n  keep = 7d\n")
    assert reading.circuit is not None
    assert sum(f.code == "not-yet" for f in reading.findings) == 2


def test_loops_are_named() -> None:
    (loop,) = [
        f
        for f in read(
            "(a, z passive) one (b)\n  order = strict\n(b) two (c)\n(c) three (a2)\n(a2) four (z)"
        ).findings
        if f.code == "loop"
    ]
    assert "one → two → three → four → one" in loop.message


def test_one_broken_statement_hides_no_other_finding() -> None:
    reading = read("(a) b (c\n(d) e (f)\n  polcy = swap\n(g] h (i)\n(j[2/5]) k (l)\n")
    assert [(f.code, f.place.line) for f in reading.findings if f.severity == "error"] == [
        ("syntax", 1),
        ("unknown-attribute", 3),
        ("syntax", 4),
        ("bad-buffer", 5),
    ]
    assert reading.circuit is None
    assert [t.name for t in reading.draft.tasks] == ["e", "k"]
