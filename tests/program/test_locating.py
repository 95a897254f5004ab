"""Where a task's code is, how it is run, and what makes its version."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from koalja_fn.model import Input, Output, Task
from koalja_fn.program.interpreters import NoCode, command_of, on_path
from koalja_fn.program.locating import Located, Locator


def write(path: Path, text: str = "", *, executable: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755 if executable else 0o644)
    return path


def task(name: str = "average", run: str | None = None, env: tuple[tuple[str, str], ...] = ()) -> Task:
    return Task(name, (Input("in", ("in",)),), (Output("out"),), run=run, env=env)


def locate(folder: Path, *args: str | None) -> Located:
    return Locator(folder).locate(task(*args))  # type: ignore[arg-type]


def problem(folder: Path, *args: str | None) -> NoCode:
    with pytest.raises(NoCode) as caught:
        locate(folder, *args)
    return caught.value


def test_an_executable_of_the_tasks_name_runs_itself(tmp_path: Path) -> None:
    program = write(tmp_path / "average", "#!/bin/sh\n", executable=True)
    found = locate(tmp_path)
    assert found.command == (str(program),)
    assert (found.code, found.program, found.explicit) == (tmp_path, program, False)


@pytest.mark.parametrize("name", ["my-task", "my_task", "My_Task"])
def test_underscores_hyphens_and_case_match(tmp_path: Path, name: str) -> None:
    program = write(tmp_path / "my_task.py", "pass")
    assert locate(tmp_path, name).command == (sys.executable, str(program))


def test_python_without_executable_bit_is_run_by_our_interpreter(tmp_path: Path) -> None:
    program = write(tmp_path / "average.py", "#!/usr/bin/env python3\nprint(1)\n")
    assert locate(tmp_path).command == (sys.executable, str(program))


def test_a_first_line_that_names_another_interpreter_is_followed(tmp_path: Path) -> None:
    program = write(tmp_path / "average.sh", "#!/bin/bash -e\n")
    assert command_of(program) == (str(on_path("/bin/bash")), "-e", str(program))


def test_shell_without_executable_bit_is_run_by_sh(tmp_path: Path) -> None:
    program = write(tmp_path / "average.sh", "echo 1\n")
    assert locate(tmp_path).command == (str(on_path("sh")), str(program))


def test_an_executable_script_without_first_line_is_run_by_its_endings_interpreter(tmp_path: Path) -> None:
    program = write(tmp_path / "average.py", "print(1)\n", executable=True)
    assert locate(tmp_path).command == (sys.executable, str(program))


def test_a_version_managers_shim_is_resolved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "shims" / "python3", f'#!/bin/sh\nexec {sys.executable} "$@"\n', executable=True)
    monkeypatch.setenv("PATH", f"{tmp_path / 'shims'}:{os.environ['PATH']}")
    program = write(tmp_path / "code" / "average.py", "#!/usr/bin/env python3\n", executable=True)
    command = locate(tmp_path / "code").command
    assert "shims" not in command[0]
    assert command[1:] == (str(program),)
    assert "shims" not in locate(tmp_path / "code", "t", "python3 average.py").command[0]


def test_a_file_that_is_not_executable_is_told_with_the_cure(tmp_path: Path) -> None:
    write(tmp_path / "average.rb", "puts 1")
    found = problem(tmp_path)
    assert (found.code, found.cure) == ("not-executable", "chmod +x average.rb")


def test_data_beside_a_program_is_no_program(tmp_path: Path) -> None:
    write(tmp_path / "average.json", "{}")
    program = write(tmp_path / "average.py", "pass")
    assert locate(tmp_path).program == program


def test_no_code_and_two_candidates_are_told(tmp_path: Path) -> None:
    assert problem(tmp_path).code == "no-code"
    write(tmp_path / "average.py", "pass")
    write(tmp_path / "average.sh", "true")
    assert problem(tmp_path).code == "ambiguous"


@pytest.mark.parametrize("main", ["main.py", "main"])
def test_a_folder_of_the_tasks_name_has_a_main(tmp_path: Path, main: str) -> None:
    program = write(tmp_path / "average" / main, "#!/bin/sh\n", executable=True)
    found = locate(tmp_path)
    assert (found.code, found.program) == (tmp_path / "average", program)


def test_a_procfile_says_what_runs(tmp_path: Path) -> None:
    write(tmp_path / "average" / "app.py", "pass")
    write(tmp_path / "average" / "Procfile", "web: python3 other.py\ntask: python3 app.py --fast\n")
    found = locate(tmp_path)
    assert found.command[1:] == (str(tmp_path / "average" / "app.py"), "--fast")
    assert found.code == tmp_path / "average"
    assert len(found.files) == 2


def test_a_folder_without_a_program_is_told(tmp_path: Path) -> None:
    write(tmp_path / "average" / "notes.txt")
    assert problem(tmp_path).code == "no-code"


@pytest.mark.parametrize("word", ["./average", "average"])
def test_programs_of_run_lines_are_looked_up_in_the_folder_first(tmp_path: Path, word: str) -> None:
    program = write(tmp_path / "average", "#!/bin/sh\n", executable=True)
    found = locate(tmp_path, "t", f"{word} --quiet {{in}} 'a b'")
    assert found.command == (str(program), "--quiet", "{in}", "a b")
    assert found.explicit


def test_a_virtual_environment_s_interpreter_is_not_followed_to_its_origin(tmp_path: Path) -> None:
    """By its own name it finds the libraries of its environment."""
    python = tmp_path / "venv/bin/python3"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    write(tmp_path / "average.py")
    assert locate(tmp_path, "average", f"{python} average.py").command[0] == str(python)


def test_programs_of_run_lines_are_looked_up_on_path_then(tmp_path: Path) -> None:
    found = locate(tmp_path, "t", "sort -n {in}")
    assert found.command == (str(on_path("sort")), "-n", "{in}")
    assert (found.program, found.files) == (None, ())


@pytest.mark.parametrize("run", ["./nowhere {in}", "no-such-program-x {in}", "sub {in}"])
def test_a_program_that_is_not_there_is_told(tmp_path: Path, run: str) -> None:
    (tmp_path / "sub").mkdir()
    assert problem(tmp_path, "t", run).code == "no-program"


def test_a_program_of_a_run_line_that_is_not_executable_is_told(tmp_path: Path) -> None:
    write(tmp_path / "tool", "x")
    assert problem(tmp_path, "t", "./tool {in}").cure == "chmod +x tool"


def test_a_script_in_a_run_line_becomes_an_absolute_path_and_counts(tmp_path: Path) -> None:
    script = write(tmp_path / "average.py", "pass")
    table = write(tmp_path / "table.csv", "1")
    write(tmp_path / "train", "#!/bin/sh\n", executable=True)
    found = locate(tmp_path, "t", "python3 -u average.py train table.csv missing.csv {in}")
    assert found.command[1:] == ("-u", str(script), "train", str(table), "missing.csv", "{in}")
    assert {script, table} <= set(found.files)


def test_scripts_inside_a_shells_line_count(tmp_path: Path) -> None:
    script = write(tmp_path / "x.sh", "true")
    assert locate(tmp_path, "t", "sh -c '$KOALJA_CODE/x.sh {in} | ./x.sh'").files == (script,)


def test_the_version_changes_with_what_would_be_packed_and_with_nothing_else(tmp_path: Path) -> None:
    program = write(tmp_path / "average.py", "import helper\n")
    helper = write(tmp_path / "helper.py", "from deeper import x\n")
    deeper = write(tmp_path / "deeper" / "__init__.py", "x = 1\n")
    other = write(tmp_path / "other.py", "1\n")

    def version(env: tuple[tuple[str, str], ...] = ()) -> str:
        return Locator(tmp_path).locate(task(env=env)).version

    first = version()
    assert first.startswith("sha256:")
    other.write_text("2\n")
    os.utime(program, (1, 1))
    assert version() == first
    assert version((("A", "1"),)) != first
    seen = {first}
    for path, text in ((deeper, "x = 2\n"), (helper, "import deeper\n"), (program, "import helper  # new\n")):
        path.write_text(text)
        assert version() not in seen
        seen.add(version())
    program.chmod(0o755)
    assert version() not in seen


def test_the_version_is_the_same_in_another_place(tmp_path: Path) -> None:
    for place in ("a", "b"):
        write(tmp_path / place / "average.py", "import json\n")
    assert locate(tmp_path / "a").version == locate(tmp_path / "b").version


def test_a_run_line_is_part_of_the_version(tmp_path: Path) -> None:
    write(tmp_path / "average.py", "pass")
    assert locate(tmp_path, "t", "./average.py {in}").version != locate(tmp_path, "t", "./average.py").version


def test_ignored_files_of_a_folder_do_not_count(tmp_path: Path) -> None:
    main = write(tmp_path / "average" / "main.py", "pass")
    write(tmp_path / "average" / ".koaljaignore", "# no\n*.log\ndata/\n")
    for name in ("x.log", "data/y", "__pycache__/main.pyc", ".git/HEAD", ".koalja/z"):
        write(tmp_path / "average" / name, "1")
    assert locate(tmp_path).files == (main,)


def test_source_that_does_not_parse_counts_all_python_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "average.py", "print 'two'\n")
    other = write(tmp_path / "other.py", "1")
    assert other in locate(tmp_path).files


def test_what_is_located_runs(tmp_path: Path) -> None:
    write(tmp_path / "helper.py", "word = 'hello'\n")
    write(tmp_path / "average.py", "import helper, sys\nprint(helper.word, *sys.argv[1:])\n")
    done = subprocess.run(
        [*locate(tmp_path).command, "x"], capture_output=True, text=True, cwd="/", check=True
    )
    assert done.stdout == "hello x\n"
