"""`import`: Pipelines of the first implementation become folders that pass `check`, and that run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from koalja_fn.commands import main
from koalja_fn.pipelines.reading import read
from koalja_fn.pipelines.templates import File, Untold, parts
from koalja_fn.program.folder import open_circuit

HEAD = "apiVersion: koalja.aljabr.io/v1alpha1\nkind: Pipeline\nmetadata:\n  name: c\nspec:\n"
TYPES = "  types:\n  - {name: note, protocol: File, format: Text}\n"

WORDS = (
    HEAD
    + """
  tasks:
  - name: letterBox
    type: FileDrop
    outputs:
    - {name: letters, typeRef: note, ready: Auto}
  - name: shout
    inputs:
    - {name: quiet, typeRef: note}
    outputs:
    - {name: loud, typeRef: note}
    executor:
      image: busybox:1
      command: [sh, -c, "tr a-z A-Z < {{.inputs.quiet.path}} > {{ .outputs.loud.path }}"]
      env:
      - {name: LANG, value: C}
  - name: glue
    snapshotPolicy: SlidingWindow
    inputs:
    - {name: pieces, typeRef: note, requiredSequenceLength: 2, slide: 1}
    outputs:
    - {name: whole, typeRef: note, ready: Succeeded}
    executor:
      image: busybox:1
      command: [sh, -c, "cat {{ range .inputs.pieces }} {{ .path }} {{ end }} > {{.outputs.whole.path}}"]
  links:
  - {name: one, sourceRef: letterBox/letters, destinationRef: shout/quiet}
  - {name: two, sourceRef: shout/loud, destinationRef: glue/pieces}
"""
    + TYPES
)


def imported(tmp_path: Path, text: str, *words: str, status: int = 0) -> Result:
    file = tmp_path / "p.yaml"
    file.write_text(text)
    call = ["import", str(file), str(tmp_path / "out"), *words]
    done = CliRunner().invoke(main, call, catch_exceptions=False)
    assert done.exit_code == status, done.output
    return done


def lost(tmp_path: Path, text: str, *words: str) -> list[str]:
    found = json.loads(imported(tmp_path, text, "-o", "json", *words).stdout)["lost"]
    checked(tmp_path)
    return [one["what"] for one in found]


def checked(tmp_path: Path) -> str:
    """The wiring, of which `check` finds no fault."""
    opened = open_circuit(tmp_path / "out")
    assert [f for f in opened.findings if f.severity == "error"] == []
    assert opened.file is not None
    return opened.file.read_text()


def task(body: str, name: str = "t") -> str:
    """A Pipeline of one task with an input `a` and an output `b`."""
    return (
        f"{HEAD}  tasks:\n  - name: {name}\n    inputs:\n    - {{name: a, typeRef: note}}\n"
        f"    outputs:\n    - {{name: b, typeRef: note}}\n{body}{TYPES}"
    )


def run(*args: str, **more: str) -> str:
    said = json.dumps({"image": "i", "command": list(args), **more})
    return f"    executor: {said}\n"


def refused(tmp_path: Path, text: str) -> str:
    """What is said of a YAML that can't be read; nothing was made."""
    output = imported(tmp_path, text, status=3).output
    assert not (tmp_path / "out").exists()
    return output


def test_what_was_imported_runs_with_windows_and_commands_as_they_were(tmp_path: Path) -> None:
    imported(tmp_path, WORDS)
    wiring = checked(tmp_path)
    assert "(letters as quiet) shout (loud)" in wiring
    assert "(loud[2/1] as pieces) glue (whole)" in wiring
    assert "env.LANG = C" in wiring
    assert "type = text/plain" in wiring
    for n, text in enumerate(("one ", "two ", "three ")):
        (tmp_path / "out/letterbox" / f"{n}.txt").write_text(text)
    done = CliRunner().invoke(main, ["run", "--once", str(tmp_path / "out"), "-o", "json"])
    assert done.exit_code == 0, done.output
    whole = json.loads(done.stdout)["wires"]["whole"]
    assert [Path(value["path"]).read_text() for value in whole] == ["ONE TWO ", "TWO THREE "]


def test_what_is_lost_is_told_and_stands_as_comments_beside_its_task(tmp_path: Path) -> None:
    body = run("cat", "{{.inputs.a.path}}", "{{.outputs.b.path}}").replace(
        '"image": "i"', '"image": "i", "resources": {"limits": {"cpu": "1"}}, "workingDir": "/w"'
    )
    found = lost(
        tmp_path, task(body + "    launchPolicy: Restart\n    service: {ports: [{name: http, port: 80}]}\n")
    )
    assert any("resources" in one for one in found)
    assert any("workingDir" in one for one in found)
    assert any("Restart" in one for one in found)
    assert any("http 80" in one for one in found)
    wiring = checked(tmp_path)
    above = wiring[: wiring.index("(a) t (b)")]
    for what in found:
        assert f"# Not carried over: {what}" in above


def test_of_an_image_only_a_program_is_left_that_says_what_to_put_there(tmp_path: Path) -> None:
    executor = {
        "image": "acme/clean:3",
        "args": ["--in", "{{.inputs.a.path}}", "--out", "{{.outputs.b.path}}"],
    }
    found = lost(tmp_path, task(f"    executor: {json.dumps(executor)}\n"))
    assert any("acme/clean:3" in one for one in found)
    assert "run = ./t.sh --in {a} --out {out.b}" in checked(tmp_path)
    script = (tmp_path / "out/t.sh").read_text()
    assert "acme/clean:3" in script
    assert "exit 78" in script
    (tmp_path / "a.txt").write_text("x")
    done = CliRunner().invoke(main, ["ghost", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output


def test_a_program_that_only_the_image_has_is_a_placeholder_with_the_same_arguments(tmp_path: Path) -> None:
    found = lost(tmp_path, task(run("no-such-server-here", "--in={{.inputs.a.path}}", "{{.outputs.b.path}}")))
    assert any("there is no program no-such-server-here here" in one for one in found)
    assert "run = ./t.sh '--in={a}' {out.b}" in checked(tmp_path)


def test_files_that_only_the_image_has_are_told(tmp_path: Path) -> None:
    found = lost(tmp_path, task(run("cat", "/opt/acme/convert.py", "{{.inputs.a.path}}")))
    assert "/opt/acme/convert.py, which is in the image only" in found


def test_policies_and_lengths(tmp_path: Path) -> None:
    def wiring(policy: str, lengths: str) -> str:
        text = task(run("true") + (f"    snapshotPolicy: {policy}\n" if policy else ""))
        text = text.replace("{name: a, typeRef: note}", f"{{name: a, typeRef: note{lengths}}}")
        pipeline, findings = read(text)
        assert pipeline is not None, findings
        from koalja_fn.pipelines.translating import translate

        made = translate(pipeline).wiring
        return made[made.index("\n(") :]

    assert wiring("", "").startswith("\n(a) t (b)")
    assert "(a[3])" in wiring("AllNew", ", requiredSequenceLength: 3")
    assert "(a[2-5])" in wiring("AllNew", ", minSequenceLength: 2, maxSequenceLength: 5")
    assert "(a[2])" in wiring("AllNew", ", minSequenceLength: 2")
    assert "(a[4/2])" in wiring("SlidingWindow", ", requiredSequenceLength: 4, slide: 2")
    assert "(a[4/1])" in wiring("SlidingWindow", ", requiredSequenceLength: 4")
    assert "policy = swap" in wiring("SwapNew4Old", "")


def test_merged_inputs_are_one_input_of_two_wires(tmp_path: Path) -> None:
    text = task(run("cat", "{{.inputs.a.path}}")).replace(
        "    outputs:", "    - {name: more, typeRef: note, mergeInto: a}\n    outputs:"
    )
    found = lost(tmp_path, text)
    assert "((a + more)) t (b)".replace("((", "(").replace("))", ")") in checked(tmp_path).replace(
        "((", "("
    ).replace("))", ")")
    assert any("'more' has no link: wire more is a source" in one for one in found)


def test_one_output_for_two_inputs_of_a_task_is_given_once(tmp_path: Path) -> None:
    text = (
        HEAD
        + """
  tasks:
  - name: box
    type: FileDrop
    outputs: [{name: out, typeRef: note}]
  - name: pair
    inputs: [{name: x, typeRef: note}, {name: y, typeRef: note}]
    outputs: [{name: z, typeRef: note}]
    executor: {image: i, command: [cat, "{{.inputs.x.path}}", "{{.inputs.y.path}}"]}
  links:
  - {name: l1, sourceRef: box/out, destinationRef: pair/x}
  - {name: l2, sourceRef: box/out, destinationRef: pair/y}
"""
        + TYPES
    )
    found = lost(tmp_path, text)
    assert any("reads the same" in one for one in found)
    assert "run = cat {x} {x}" in checked(tmp_path)


def test_names_that_the_wiring_does_not_take_or_that_are_twice_get_others(tmp_path: Path) -> None:
    text = (
        HEAD
        + """
  tasks:
  - name: first
    type: FileDrop
    outputs: [{name: wire, typeRef: note}, {name: Data, typeRef: note}]
  - name: second
    type: FileDrop
    outputs: [{name: data, typeRef: note}]
  - name: implicit
    inputs: [{name: as, typeRef: note}]
    outputs: [{name: passive, typeRef: note}]
    executor: {image: i, command: [cp, "{{.inputs.as.path}}", "{{.outputs.passive.path}}"]}
  links:
  - {name: l, sourceRef: second/data, destinationRef: implicit/as}
"""
        + TYPES
    )
    lost(tmp_path, text)
    assert "second-data" in checked(tmp_path)


def test_a_script_of_several_lines_becomes_a_file(tmp_path: Path) -> None:
    script = "set -e\nfor n in 1 2; do\n  cat {{.inputs.a.path}}\ndone > {{.outputs.b.path}}\n"
    lost(tmp_path, task(run("/bin/sh", "-c", script)))
    assert "run = ./t.sh {a} {out.b}" in checked(tmp_path)
    CliRunner().invoke(main, ["send", str(tmp_path / "out"), "a", "-d", "x"], catch_exceptions=False)
    done = CliRunner().invoke(main, ["run", "--once", str(tmp_path / "out"), "-o", "json"])
    (value,) = json.loads(done.stdout)["wires"]["b"]
    assert Path(value["path"]).read_text() == "xx"


def test_braces_and_quotes_of_commands_stay_what_they_were(tmp_path: Path) -> None:
    program = '{print "it\'s", $1, "{a}"} # {out.b} }}'
    lost(tmp_path, task(run("awk", program, "{{.inputs.a.path}}")))
    CliRunner().invoke(main, ["send", str(tmp_path / "out"), "a", "-d", "x y"], catch_exceptions=False)
    done = CliRunner().invoke(main, ["run", "--once", str(tmp_path / "out"), "-o", "json"])
    (value,) = json.loads(done.stdout)["wires"]["b"]
    assert Path(value["path"]).read_text() == "it's x {a}\n"


def test_a_file_is_split_into_its_lines_in_order(tmp_path: Path) -> None:
    imported(tmp_path, task("    type: FileSplit\n"))
    checked(tmp_path)
    lines = "".join(f"{n}\n" for n in range(12))
    CliRunner().invoke(main, ["send", str(tmp_path / "out"), "a", "-d", lines], catch_exceptions=False)
    done = CliRunner().invoke(main, ["run", "--once", str(tmp_path / "out"), "-o", "json"])
    found = json.loads(done.stdout)["wires"]["b"]
    assert [Path(value["path"]).read_text() for value in found] == [f"{n}\n" for n in range(12)]


@pytest.mark.parametrize("kind", ["JSONQuery", "REST", "DBQuery", "Weird"])
def test_executors_by_type_are_placeholders_with_their_options(tmp_path: Path, kind: str) -> None:
    text = task(f"    type: {kind}\n").replace(
        "{name: b, typeRef: note}", '{name: b, typeRef: note, options: {query: "FOR d IN docs\\nRETURN d"}}'
    )
    found = lost(tmp_path, text)
    assert any(f"type {kind}" in one for one in found)
    assert "FOR d IN docs\\nRETURN d" in (tmp_path / "out/t.sh").read_text()


def test_a_task_without_inputs_runs_by_time(tmp_path: Path) -> None:
    text = task(run("date")).replace("    inputs:\n    - {name: a, typeRef: note}\n", "")
    found = lost(tmp_path, text)
    assert "every = 1m" in checked(tmp_path)
    assert any("no inputs" in one for one in found)


def test_secrets_and_other_documents_are_told_and_never_written(tmp_path: Path) -> None:
    executor = {
        "image": "i",
        "command": ["cat", "{{.inputs.a.path}}"],
        "env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
    }
    secret = "kind: Secret\nmetadata: {name: s}\ndata: {k: aHVzaA==}\n---\n"
    found = lost(tmp_path, secret + task(f"    executor: {json.dumps(executor)}\n"))
    assert any("Secret s" in one for one in found)
    assert any("env KEY" in one for one in found)
    assert "aHVzaA" not in checked(tmp_path)


def test_nothing_that_is_there_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("mine")
    assert "not empty" in imported(tmp_path, WORDS, status=2).output
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine"]


def test_one_of_several_pipelines_is_chosen_by_its_name(tmp_path: Path) -> None:
    both = WORDS + "---\n" + task(run("true")).replace("name: c\n", "name: other\n")
    assert "--pipeline c" in refused(tmp_path, both)
    found = lost(tmp_path, both, "--pipeline", "other")
    assert any("Pipeline c" in one for one in found)
    assert "[other]" in checked(tmp_path)


BROKEN: list[tuple[str, str, str]] = [
    ("no YAML", "a: [1\nb: 2", "this is no YAML"),
    ("no Pipeline", "kind: Deployment\n", "there is no Pipeline"),
    ("tabs", "a:\n\t- b\n", "this is no YAML"),
    ("empty", "", "there is no Pipeline"),
    ("a list", "- 1\n", "is not a mapping"),
    ("no tasks", HEAD + "  tasks: []\n", "has no tasks"),
    ("tasks that are text", HEAD + "  tasks: hello\n", "tasks is not a list"),
    ("no executor", task(""), "neither an executor nor a type"),
    ("an image", task("    executor: {command: [x]}\n"), "has no image"),
    ("a policy", task(run("x") + "    snapshotPolicy: all-new\n"), "did you mean 'AllNew'?"),
    ("a field", task(run("x") + "    snapshotpolicy: AllNew\n"), "did you mean 'snapshotPolicy'?"),
    ("a type", task(run("x")).replace("typeRef: note", "typeRef: nota"), "did you mean 'note'?"),
    (
        "a length",
        task(run("x")).replace("name: a,", "name: a, minSequenceLength: 0,"),
        "a whole number from 1",
    ),
    ("a slide", task(run("x")).replace("name: a,", "name: a, slide: 2,"), "it slides by 2"),
    (
        "swap",
        task(run("x") + "    snapshotPolicy: SwapNew4Old\n").replace(
            "name: a,", "name: a, minSequenceLength: 2,"
        ),
        "under SwapNew4Old",
    ),
    ("merging", task(run("x")).replace("name: a,", "name: a, mergeInto: a,"), "into itself"),
    ("twice", task(run("x") + "    name: t\n"), "'name' is there twice"),
    (
        "a link",
        WORDS.replace("destinationRef: glue/pieces", "destinationRef: glue/piece"),
        "did you mean 'pieces'?",
    ),
    (
        "a task",
        WORDS.replace("destinationRef: glue/pieces", "destinationRef: glu/pieces"),
        "did you mean 'glue'?",
    ),
    ("half a link", WORDS.replace("sourceRef: shout/loud, ", ""), "the link has no sourceRef"),
    ("a version", task(run("x")).replace("v1alpha1", "v9"), "which is not known"),
    ("nested too deeply", "a: " + "[" * 5000, "this is no YAML"),
]


@pytest.mark.parametrize(("text", "said"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_what_is_wrong_is_told_with_its_place_and_nothing_is_made(
    tmp_path: Path, text: str, said: str
) -> None:
    output = refused(tmp_path, text)
    assert said in output
    assert f"{tmp_path / 'p.yaml'}:" in output


def test_all_errors_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    text = WORDS.replace(
        "requiredSequenceLength: 2, slide: 1", "requiredSequenceLength: 2, slide: 9"
    ).replace("ready: Succeeded", "ready: Soon")
    output = refused(tmp_path, text)
    lines = text.split("\n")
    for word in ("slide: 9", "Soon"):
        line = next(n for n, each in enumerate(lines, 1) if word in each)
        assert f"p.yaml:{line}:" in output


SEQUENCES = {"one": False, "many": True}
TEMPLATES: list[tuple[str, Any]] = [
    ("plain {text}", ("plain {text}",)),
    ("{{.inputs.one.path}}", (File("in", "one"),)),
    ("a{{- .inputs.one.path -}}b", ("a", File("in", "one"), "b")),
    ("{{ .outputs.o.path }}", (File("out", "o"),)),
    ("{{ range .inputs.many }} {{ .path }} {{ end }}", (File("in", "many"),)),
    ("{{ (index .inputs.many 2).path }}", (File("in", "many", 2),)),
    ("{{ .inputs.one.uri }}", (Untold("{{ .inputs.one.uri }}"),)),
    ("{{ .inputs.many.path }}", (Untold("{{ .inputs.many.path }}"),)),
    ("{{ readURIAsText .x }}", (Untold("{{ readURIAsText .x }}"),)),
]


@pytest.mark.parametrize(("source", "expected"), TEMPLATES)
def test_templates_name_files_or_are_told_to_have_no_counterpart(source: str, expected: Any) -> None:
    assert parts(source, SEQUENCES) == expected


def test_a_command_with_other_templates_becomes_a_placeholder(tmp_path: Path) -> None:
    found = lost(tmp_path, task(run("fetch", "{{.inputs.a.uri}}")))
    assert any("{{.inputs.a.uri}}" in one for one in found)
    assert "{{.inputs.a.uri}}" in (tmp_path / "out/t.sh").read_text()
