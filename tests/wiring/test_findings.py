"""One failing example for each check: the code, the place, and a word of the cure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import koalja_fn.wiring
from koalja_fn.model import Place
from koalja_fn.wiring import Finding, read, render

TWO_TYPES = "wire a\n  type = text/csv\nwire b\n  type = text/html"

# (text, severity, code, line:column, part of the cure)
BAD = [
    ("(a) t (b", "error", "syntax", "1:9", "close the bracket"),
    ("(a t (b)", "error", "syntax", "1:9", "close"),
    ("(a) t", "error", "syntax", "1:6", "outputs in brackets"),
    ("(a) t (b)[5]", "error", "syntax", "1:10", "right after an input"),
    ("(a[2] + b) t (c)", "error", "syntax", "1:7", "merge wires first"),
    ("policy = swap\n(a) t (b)", "error", "syntax", "1:1", "right after"),
    ("(a) t (b\n    run = cat\n(c) u (d)", "error", "syntax", "1:9", "close the bracket"),
    ("(a) t\n    run = cat", "error", "syntax", "1:6", "outputs in brackets"),
    ("(a) t (b) u\n    run = cat", "error", "syntax", "1:12", "(inputs) task (outputs)"),
    ("wire\n    type = text/csv", "error", "syntax", "1:5", "a name"),
    ("wire\n(a) t (b)", "error", "syntax", "1:5", "a name"),
    ("x: y +\n(a) t (b)", "error", "syntax", "1:7", "a name"),
    ("(a$) t (b)", "error", "syntax", "1:3", ""),
    ("", "error", "no-tasks", "1:1", "(inputs) task (outputs)"),
    ("# nothing\n", "error", "no-tasks", "1:1", "(inputs) task (outputs)"),
    ("(a) t (b)\npolicy = swap", "error", "layout", "2:1", "indent"),
    ("(a) t (b) policy = swap", "error", "layout", "1:11", "indent"),
    ("(a) t (b)\n[x]", "error", "layout", "2:1", "top"),
    ("x: a\n  result: b\n", "error", "layout", "2:3", "beginning"),
    ("[x]\n(a) t (b)\n[y]", "error", "second-circuit", "3:1", "file of its own"),
    (": a", "error", "no-name", "1:1", "task = NAME"),
    ("(a) t (b)\n  polcy = swap", "error", "unknown-attribute", "2:3", "'policy'"),
    ("(a) t (b)\n  requiredSequenceLength = 5", "error", "unknown-attribute", "2:3", "x[5]"),
    ("(a) t (b)\n  minSequenceLength = 5", "error", "unknown-attribute", "2:3", "x[2-4]"),
    ("(a) t (b)\n  maxSequenceLength = 5", "error", "unknown-attribute", "2:3", "x[2-4]"),
    ("(a) t (b)\n  slide = 5", "error", "unknown-attribute", "2:3", "x[10/2]"),
    ("(a) t (b)\n  mergeInto = x", "error", "unknown-attribute", "2:3", "policy = merge"),
    ("(a) t (b)\n  type = text/csv", "error", "unknown-attribute", "2:3", "wire NAME"),
    ("(a) t (b)\n  env = 1", "error", "unknown-attribute", "2:3", "env.NAME"),
    ("(a) t (b)\nwire a\n  policy = swap", "error", "unknown-attribute", "3:3", "under a task"),
    ("(a) t (b)\n  policy = AllNew", "error", "bad-value", "2:12", "all-new"),
    ("(a) t (b)\n  policy = SwapNew4Old", "error", "bad-value", "2:12", "swap"),
    ("(a) t (b)\n  policy = SlidingWindow", "error", "bad-value", "2:12", "x[10/2]"),
    ("(a) t (b)\n  policy = swop", "error", "bad-value", "2:12", "'swap'"),
    ("(a) t (b)\n  rate = 5", "error", "bad-value", "2:10", "5/s"),
    ("(a) t (b)\n  rate = 0/s", "error", "bad-value", "2:10", "1 or more"),
    ("(a) t (b)\n  timeout = 5", "error", "bad-value", "2:13", "5s"),
    ("(a) t (b)\n  timeout = 0s", "error", "bad-value", "2:13", "above zero"),
    ("(a) t (b)\n  retries = -1", "error", "bad-value", "2:13", "whole number"),
    ("(a) t (b)\n  concurrency = 0", "error", "bad-value", "2:17", "1 or more"),
    ("(a) t (b)\n  warm = perhaps", "error", "bad-value", "2:10", "yes or no"),
    ("(a) t (b)\n  order = strct", "error", "bad-value", "2:11", "'strict'"),
    ("(a) t (b)\n  run =", "error", "bad-value", "2:8", "run = "),
    ("(a) t (b)\n  env.1X = 2", "error", "bad-value", "2:12", "letters"),
    ("(a) t (b)\n  env.KOALJA_OUT = 2", "error", "bad-value", "2:20", "KOALJA_"),
    ("(a) t (b)\nwire a\n  type = json", "error", "bad-value", "3:10", "application/json"),
    ("(a, s implicit) t (b)\nwire s\n  at = here", "error", "bad-value", "3:8", "https://"),
    ("(a) t (b)\n  rate = 5/s\n  rate = 6/s", "error", "twice", "3:3", "drop one"),
    ("b: a\n  ./t\n  ./u", "error", "twice", "3:3", "drop one"),
    ("(a) t (b)\n(b) t (c)", "error", "twice", "2:5", "name of its own"),
    ("b: a\n  ./t\nc: b\n  ./t", "error", "twice", "3:1", "task = NAME"),
    ("(a) t (b)\nwire a\nwire a", "error", "twice", "3:6", "drop one"),
    ("(a passive passive, c) t (b)", "error", "twice", "1:12", "drop one"),
    ("(a[2][3]) t (b)", "error", "twice", "1:6", "drop one"),
    ("(a as) t (b)", "error", "syntax", "1:6", "a name"),
    ("(a) passive (b)", "error", "syntax", "1:13", "another name"),
    ("(a) wire (b)", "error", "reserved", "1:5", "task name"),
    ("(wire) t (b)", "error", "reserved", "1:2", "wire name"),
    ("(a, b passiv) t (c)", "warning", "reserved", "1:7", "'passive'"),
    ("(a) t- (b)", "error", "bad-name", "1:5", "'t'"),
    ("(größe) t (b)", "error", "bad-name", "1:2", "'gro-e'"),
    (f"(a) {'x' * 64} (b)", "error", "bad-name", "1:5", "letters"),
    ("[my circuit]\n(a) t (b)", "error", "bad-name", "1:2", "'my-circuit'"),
    ("(a_b) t (c)\n(a-b) u (d)", "error", "same-name", "2:2", "'a_b'"),
    ("(a) my.task (c)\n(a) my-task (d)", "error", "same-name", "2:5", "'my.task'"),
    ("(a[2/10]) t (b)", "error", "bad-buffer", "1:3", "[10/2]"),
    ("(a[4-2]) t (b)", "error", "bad-buffer", "1:3", "[2-4]"),
    ("(a[0]) t (b)", "error", "bad-buffer", "1:3", "count from 1"),
    ("(a[3/0]) t (b)", "error", "bad-buffer", "1:3", "count from 1"),
    ("(a[10:2]) t (b)", "error", "bad-buffer", "1:3", "[10/2]"),
    ("(a[9999999999]) t (b)", "error", "bad-buffer", "1:3", "at most"),
    ("(a[8000]) t (b)", "warning", "many-files", "1:2", "{a.list}"),
    ("(a[8000]) t (b)\n  run = x {a}", "warning", "many-files", "1:2", "{a.list}"),
    ("(a[700]) t (b)\n  run = sh -c 'sort {a}'", "warning", "many-files", "1:2", "{a.list}"),
    ("(a, a) t (b)", "error", "wire-twice", "1:5", "keep one"),
    ("(a + a) t (b)", "error", "wire-twice", "1:2", "keep one"),
    ("(a) t (b, b)", "error", "wire-twice", "1:11", "drop one"),
    ("(a, b as a) t (c)", "error", "input-twice", "1:5", "as NAME"),
    ("(a) t (x)\n(b) u (x)", "error", "two-feeders", "2:8", "merge them"),
    ("(a) t (s implicit)\n(b) u (s implicit)\n(c, s implicit) v (d)", "error", "two-feeders", "2:8", "merge"),
    ("(a) t (s implicit)\n(b) u (s)", "error", "two-feeders", "2:8", "rename"),
    ("(a, look implicit) t (b)", "error", "no-offer", "1:5", "at = https://"),
    ("(a, look implicit) t (b)\n(c) u (lookup implicit)", "error", "no-offer", "1:5", "'lookup'"),
    ("(a, look implicit) t (b)\n(c) u (look)", "error", "no-offer", "1:5", "outputs of 'u'"),
    ("(a) t (s implicit)\n(s) u (b)", "error", "service-read", "2:2", "s implicit"),
    ("(a, s[5] implicit) t (b)\n(c) u (s implicit)", "error", "implicit", "1:5", "s implicit"),
    ("(a passive, b passive) t (c)", "error", "all-passive", "1:2", "drop `passive`"),
    ("(a[10]) t (b)\n  backlog = 5", "error", "small-backlog", "2:13", "backlog = 10"),
    ("(a, b) t (c)\n  policy = merge\n" + TWO_TYPES, "error", "merge-types", "1:2", "converts"),
    ("(a + b) t (c)\n" + TWO_TYPES, "error", "merge-types", "1:2", "converts"),
    ("(a, b[3]) t (c)\n  policy = merge", "error", "merge-buffer", "1:6", "(a, b)[3]"),
    ("(a, b)[3] t (c)", "error", "group-buffer", "1:7", "policy = merge"),
    ("(a, b) passive t (c)", "error", "misplaced", "1:8", "at the inputs"),
    ("((a, b), c) t (d)", "error", "group", "1:3", "(a + b)"),
    ("(a) t (b + c)", "error", "misplaced", "1:8", "one by one"),
    ("(a) t (b[3])", "error", "misplaced", "1:9", "drop it"),
    ("(a, b) t (c)\n  policy = align", "error", "align-within", "2:12", "within = 10s"),
    ("(a[2], b) t (c)\n  policy = align\n  within = 5s", "error", "align-window", "1:2", "plain 'a'"),
    ("(a) t (c)\n  policy = align\n  within = 5s", "warning", "no-effect", "2:12", "drop"),
    ("(a) t (b)\n  within = 5s", "warning", "no-effect", "2:3", "drop"),
    ("(a) t (b)\n  align = station", "warning", "no-effect", "2:3", "policy = align"),
    ("(a) t (b)\n  every = 5s", "warning", "no-effect", "2:3", "inputs"),
    ("(a) t (b)\n  retries = 0\n  backoff = 5s", "warning", "no-effect", "3:3", "drop"),
    ("(a) t (b)\n  order = strict\n  concurrency = 4", "warning", "no-effect", "3:3", "drop"),
    ("() t (b)\n  every = 5s\n  policy = swap", "warning", "no-effect", "3:3", "drop"),
    ("() t (b)", "warning", "no-start", "1:4", "every"),
    ("(a, b passive) t (b)", "error", "self-passive", "1:5", "order = strict"),
    ("(a) t (b)\n  run = ./t 'x", "error", "run-line", "2:13", "close"),
    ("(a) t (b)\n  run = ./t x\\", "error", "run-line", "2:14", "close"),
    ("(temp) t (b)\n  run = ./t {tmp}", "error", "placeholder", "2:13", "'{temp}'"),
    ("(a) t (b)\n  run = ./t {b}", "error", "placeholder", "2:13", "{out.b}"),
    ("(a) t (b)\n  run = ./t {out.c}", "error", "placeholder", "2:13", "outputs are b"),
    ("(a) t (b)\n(b) u (c)\n  run = ./t {a}", "error", "placeholder", "3:13", "inputs are b"),
    ("(a[3]) t (b)\n  run = ./t {a[3]}", "error", "placeholder", "2:13", "{a[2]}"),
    ("(a[3]) t (b)\n  run = ./t {a[-1]}", "error", "placeholder", "2:13", "{a[0]}"),
    ("(a[2-4]) t (b)\n  run = ./t {a[3]}", "warning", "placeholder", "2:13", "{a}"),
    ("(a) t (b)\n  run = sort {a} | uniq", "warning", "no-shell", "2:18", "sh -c"),
    ("(a) t (b)\n  run = cp {a} $KOALJA_OUT/b", "warning", "no-shell", "2:16", "sh -c"),
    ("(a) t (b)\nwire ab", "warning", "unused-wire", "2:6", ""),
    ("(a) t (b)\n(b) u (c)\nwire b\n  from = x/*", "error", "from-fed", "4:3", "merge"),
    ("(a) t (b)\nwire a\n  at = https://x.org", "warning", "no-effect", "3:3", "a implicit"),
    ("(a, s implicit) t (b)\nwire s\n  at = http://x\n  keep = 5d", "warning", "no-effect", "4:3", "drop"),
    ("(a) t (b)", "note", "source", "1:2", ""),
    ("(a) t (b)", "note", "end", "1:8", ""),
    ("(a) t (s implicit)", "note", "end", "1:8", ""),
    ("(a) t (a)", "note", "loop", "1:5", "max-hops"),
    ("(a) t (b)\n  region = north", "note", "not-yet", "2:3", ""),
    ("(a) t (b)\nwire a\n  from = s3://xyz/*", "error", "address", "3:10", "sqs://NAME, s3://xyz/*"),
    ("(a) t (b)\nwire a\n  from = in/*, kafka:x", "error", "address", "3:10", "inbox/*"),
    ("(a) t (b)\nwire a\n  from = sqs://a/b/c/d", "error", "address", "3:10", "sqs://ACCOUNT/NAME"),
    ("(a, b) t (c)\nwire a\n  from = sqs://q\nwire b\n  from = sqs://q",
     "error", "address", "5:10", "one wire"),
    ("(a) t (b, s implicit)", "warning", "not-yet", "1:8", ""),
    ("(a) t (b)\nwire b\n  to = s3://Not A Bucket/{id}", "error", "address", "3:8", "s3://BUCKET/KEY"),
    ("(a) t (b)\nwire b\n  to = sqs://x", "error", "address", "3:8", "s3://BUCKET/{id}"),
    ("(a) t (b)\nwire b\n  to = out/{postion}", "warning", "placeholder", "3:8", "did you mean 'position'?"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "severity", "code", "where", "cure"), BAD)
def test_finding_has_its_code_place_and_cure(
    text: str, severity: str, code: str, where: str, cure: str
) -> None:
    reading = read(text)
    found = [f for f in reading.findings if (f.severity, f.code) == (severity, code)]
    assert found, reading.findings
    assert f"{found[0].place.line}:{found[0].place.column}" == where, found
    assert cure in found[0].cure
    assert found[0].text == text.split("\n")[found[0].place.line - 1]
    assert (reading.circuit is None) == any(f.severity == "error" for f in reading.findings)


@pytest.mark.parametrize(
    "run",
    [
        "awk '{print}' {a}",
        "awk '{print $1}' {a}",
        "echo {{a}}",
        """jq '{"x":{"y":1}}' {a}""",
        'sh -c "sort {a} | uniq > {out.b}"',
        "./t {snapshot} {a.list} {a[0]}",
    ],
)
def test_braces_of_others_and_shells_are_silent(run: str) -> None:
    assert {f.code for f in read(f"(a) t (b)\n  run = {run}\n").findings} == {"source", "end"}


@pytest.mark.parametrize("run", ["x {a.list}", "x {a[0]}", "x {b}"])
def test_large_windows_are_silent_where_their_files_are_not_on_the_command_line(run: str) -> None:
    findings = read(f"(a[90000], b) t (c)\n  run = {run}\n").findings
    assert "many-files" not in {f.code for f in findings}


def test_every_code_of_the_checks_has_an_example() -> None:
    folder = Path(koalja_fn.wiring.__file__).parent
    calls = re.compile(r"(?:error|warning|note)\(\s*\"([a-z-]+)\"")
    known = {code for path in folder.rglob("*.py") for code in calls.findall(path.read_text())}
    assert known - {code for _, _, code, _, _ in BAD} == set()


def test_a_finding_shows_its_line_with_a_caret_under_tabs_too() -> None:
    finding = Finding(
        "error", "bad-buffer", "too small", "write [5]", Place("x.koalja", 3, 4, 3), "\t(a[0]) t (b)"
    )
    assert render(finding) == (
        "x.koalja:3:4: error: too small [bad-buffer]\n"
        "    3 | \t(a[0]) t (b)\n"
        "      | \t  ^~~\n"
        "  try: write [5]"
    )
