"""Opening a circuit: a folder, a file, a program."""

from __future__ import annotations

from pathlib import Path

import pytest

from koalja_fn.errors import NotFound, UsageError, WiringError
from koalja_fn.model import Input, Output
from koalja_fn.program.folder import open_circuit


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_folder_with_one_wiring_file(tmp_path: Path) -> None:
    file = tmp_path / "weather.koalja"
    file.write_text("(wind) average (mean)\n")
    code = program(tmp_path / "average")
    for path in (tmp_path, file):
        opened = open_circuit(path)
        assert opened.circuit is not None
        assert opened.circuit.name == "weather"
        assert (opened.folder, opened.file) == (tmp_path, file)
        assert opened.located["average"].command == (str(code),)


def test_several_wiring_files_are_named_unless_one_is_given(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.koalja").write_text("(x) sort (y)\n  run = sort {x}\n")
    with pytest.raises(UsageError, match=r"a\.koalja, b\.koalja"):
        open_circuit(tmp_path)
    assert open_circuit(tmp_path / "b.koalja").circuit is not None


def test_missing_code_is_found_beside_errors_of_the_wiring(tmp_path: Path) -> None:
    (tmp_path / "c.koalja").write_text("(x) one (y)\n  polcy = swap\n(y) two (z\n(q) three (r)\n")
    opened = open_circuit(tmp_path)
    assert opened.circuit is None
    assert [(f.code, f.place.line) for f in opened.findings if f.severity == "error"] == [
        ("no-code", 1),
        ("unknown-attribute", 2),
        ("syntax", 3),
        ("no-code", 4),
    ]


def test_a_broken_run_line_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "c.koalja").write_text("(x) one (y)\n  run = ./t 'x\n")
    assert [f.code for f in open_circuit(tmp_path).findings if f.severity == "error"] == ["run-line"]


@pytest.mark.parametrize("name", ["Do_It", "do_it.py"])
def test_one_program_is_a_circuit_of_one_task(tmp_path: Path, name: str) -> None:
    program(tmp_path / name)
    (tmp_path / "README.md").write_text("about")
    for path in (tmp_path, tmp_path / name):
        opened = open_circuit(path)
        assert opened.circuit is not None
        (task,) = opened.circuit.tasks
        assert (task.name, task.inputs, task.outputs) == ("do-it", (Input("in", ("in",)),), (Output("out"),))
        assert opened.located["do-it"].program == tmp_path / name
        assert opened.file is None


def test_main_makes_the_folder_the_program(tmp_path: Path) -> None:
    folder = tmp_path / "mycode"
    program(folder / "main.py")
    program(folder / "helper.py")
    opened = open_circuit(folder)
    assert opened.circuit is not None
    assert opened.circuit.name == "mycode"


def test_a_procfile_makes_the_folder_the_program(tmp_path: Path) -> None:
    program(tmp_path / "mycode" / "app")
    (tmp_path / "mycode" / "Procfile").write_text("task: ./app --fast\n")
    opened = open_circuit(tmp_path / "mycode")
    assert opened.located["mycode"].command == (str(tmp_path / "mycode" / "app"), "--fast")


def test_several_programs_without_wiring_are_named(tmp_path: Path) -> None:
    program(tmp_path / "one")
    program(tmp_path / "two")
    with pytest.raises(UsageError, match="one, two"):
        open_circuit(tmp_path)


def test_empty_and_missing_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no circuit in"):
        open_circuit(tmp_path)
    with pytest.raises(NotFound, match="there is no"):
        open_circuit(tmp_path / "nowhere")
    (tmp_path / "data.txt").write_text("x")
    with pytest.raises(NotFound, match="is no circuit"):
        open_circuit(tmp_path / "data.txt")


def test_a_wiring_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "c.koalja").write_bytes(b"\xff\xfe(a) t (b)")
    with pytest.raises(WiringError, match="UTF-8"):
        open_circuit(tmp_path)


@pytest.mark.parametrize(
    ("file", "name"),
    [("Café Übung.koalja", "cafe-ubung"), ("风.koalja", "circuit"), ("a_b.c.koalja", "a-b-c")],
)
def test_a_circuit_without_a_name_is_called_like_its_file_as_far_as_names_go(
    tmp_path: Path, file: str, name: str
) -> None:
    (tmp_path / file).write_text("(in) t (out)\n    run = cat {in}\n")
    circuit = open_circuit(tmp_path).circuit
    assert circuit is not None
    assert circuit.name == name
