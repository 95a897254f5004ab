"""One list of files, one digest: what the engine records is what the image carries and holds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from koalja_fn.errors import KoaljaError
from koalja_fn.pack.collecting import Source, collect
from koalja_fn.pack.errors import PhaseError
from koalja_fn.program.folder import open_circuit
from koalja_fn.program.locating import Located

MANY = "[many]\n(in) first (mid)\n(mid) second (out)\n"
ONE = """[one]
(in) only (out)
    run = ./only.py {in}
wire in
    from = inbox/*.csv
wire out
    to = results/
"""

SHAPES: dict[str, tuple[dict[str, str], str]] = {
    "a script alone": ({"main.py": "import sys"}, "main"),
    "a script with libraries and data": (
        {"main.py": "x", "requirements.txt": "-r more.txt", "more.txt": "", "table.csv": "1",
         "deep/model": "2"},
        "main",
    ),
    "a shell script": ({"main.sh": "cat $1", "words.txt": "a"}, "main"),
    "a Procfile": ({"Procfile": "task: python3 app.py", "app.py": "x", "data.json": "{}"}, "main"),
    "a Node program": (
        {"main.js": "require('./lib/a')", "lib/a.js": "1", "package.json": "{}", "package-lock.json": "{}"},
        "main",
    ),
    "many tasks": (
        {"many.koalja": MANY, "first.py": "import helper", "helper.py": "", "second.sh": "true",
         "else.txt": "", "pyproject.toml": ""},
        "first",
    ),
    "a task with a folder of its own": (
        {"many.koalja": MANY, "first/main.py": "x", "first/requirements.txt": "", "first/data/x": "1",
         "second.sh": "true"},
        "first",
    ),
    "Node beside others": (
        {"many.koalja": MANY, "first.js": "require('./a')", "a.js": "1", "b.json": "{}", "package.json": "{}",
         "second.sh": "true"},
        "first",
    ),
    "one task in a wiring": (
        {"one.koalja": ONE, "only.py": "x", "model.bin": "1", "inbox/a.csv": "1", "results/r": "2"}, "only"
    ),
}  # fmt: skip

HELD: dict[str, set[str]] = {
    "a script alone": {"main.py"},
    "a script with libraries and data": {
        "main.py",
        "requirements.txt",
        "more.txt",
        "table.csv",
        "deep/model",
    },
    "a shell script": {"main.sh", "words.txt"},
    "a Procfile": {"Procfile", "app.py", "data.json"},
    "a Node program": {"main.js", "lib/a.js", "package.json", "package-lock.json"},
    "many tasks": {"first.py", "helper.py", "pyproject.toml"},
    "a task with a folder of its own": {"main.py", "requirements.txt", "data/x"},
    "Node beside others": {"first.js", "a.js", "b.json", "package.json"},
    "one task in a wiring": {"only.py", "model.bin"},
}


def lay_out(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if (folder / "only.py").exists():
        (folder / "only.py").chmod(0o755)
    return folder


def both(folder: Path, task: str) -> tuple[Located, Source]:
    """What a run says of a task, and what packing says."""
    opened = open_circuit(folder)
    assert opened.circuit is not None, opened.findings
    name = task if opened.file else next(iter(opened.located))
    found = opened.circuit.task(name)
    assert found is not None
    return opened.located[name], collect(open_circuit(folder), found)


def version(folder: Path, task: str) -> str:
    located, source = both(folder, task)
    assert located.version == source.version == source.note["version"]
    return source.version


@pytest.mark.parametrize("shape", SHAPES)
def test_run_and_pack_agree_on_files_and_version(shape: str, tmp_path: Path) -> None:
    files, task = SHAPES[shape]
    folder = lay_out(tmp_path / "code", files)
    located, source = both(folder, task)
    assert {inside for inside, _ in source.files} == HELD[shape]
    assert located.version == source.version
    assert set(located.files) == {path for _, path in source.files}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_version_is_of_exactly_what_is_packed(shape: str, tmp_path: Path) -> None:
    """Each file in the image changes it, and each other file of the folder does not."""
    files, task = SHAPES[shape]
    folder = lay_out(tmp_path / "code", files)
    before = version(folder, task)
    _, source = both(folder, task)
    packed = {path for _, path in source.files}
    for name, text in files.items():
        if name.endswith((".koalja", "Procfile")):
            continue
        (folder / name).write_text(text + "\n#")
        assert (version(folder, task) != before) == (folder / name in packed), name
        (folder / name).write_text(text)
    assert version(folder, task) == before


def test_the_version_is_the_same_in_another_place_and_by_another_interpreter(tmp_path: Path) -> None:
    versions = set()
    for place in ("a", "b/c"):
        folder = lay_out(tmp_path / place / "code", {"main.py": "x", "data": "1"})
        versions.add(version(folder, "main"))
    assert len(versions) == 1


Change = Callable[[Path], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda f: (f / "x.log").write_text("1"),
        lambda f: (f / "deep" / "y.log").write_text("1"),
        lambda f: (f / "out" / "z").write_text("1"),
        lambda f: (f / ".gitignore").write_text("*.log\nout/\n# a remark\n"),
        lambda f: (f / "__pycache__").mkdir(),
        lambda f: (f / ".env").write_text("PASSWORD=1"),
        lambda f: (f / "deep" / "server.key").write_text("1"),
    ],
)
def test_what_is_left_out_changes_nothing(change: Change, tmp_path: Path) -> None:
    folder = lay_out(
        tmp_path / "code", {"main.py": "x", ".gitignore": "*.log\nout/\n", "deep/a": "", "out/b": ""}
    )
    before = version(folder, "main")
    change(folder)
    assert version(folder, "main") == before


@pytest.mark.parametrize(
    "change",
    [
        lambda f: (f / "requirements.txt").write_text("flask\n"),
        lambda f: (f / "more.txt").write_text("six\n"),
        lambda f: (f / "requirements.lock").write_text("six==1\n"),
        lambda f: (f / "main.py").chmod(0o755),
        lambda f: (f / "table").write_text("2"),
        lambda f: (f / "new").write_text(""),
        lambda f: (f / "keep.log").write_text("2"),
        lambda f: (f / ".koaljaignore").write_text("table\n"),
        lambda f: (f / "link").symlink_to("table"),
    ],
)
def test_what_is_packed_changes_it(change: Change, tmp_path: Path) -> None:
    files = {"main.py": "x", "requirements.txt": "-r more.txt\n", "more.txt": "", "table": "1",
             "keep.log": "1", ".gitignore": "*.log\n!keep.log\n"}  # fmt: skip
    folder = lay_out(tmp_path / "code", files)
    before = version(folder, "main")
    change(folder)
    assert version(folder, "main") != before


def test_a_program_that_git_ignores_is_code_even_so(tmp_path: Path) -> None:
    """Compiled programs and generated modules are not kept in version control, but they are what runs."""
    files = {"many.koalja": MANY, "first.py": "import made", "made.py": "", "second.sh": "true",
             ".gitignore": "made.py\nsecond*\n"}  # fmt: skip
    folder = lay_out(tmp_path / "code", files)
    assert {inside for inside, _ in both(folder, "first")[1].files} == {"first.py", "made.py"}
    assert {inside for inside, _ in both(folder, "second")[1].files} == {"second.sh"}


def test_secrets_are_told_and_never_packed(tmp_path: Path) -> None:
    folder = lay_out(
        tmp_path / "code", {"main.py": "x", ".ENV": "x", "deep/id_rsa": "x", ".env.example": "x"}
    )
    _, source = both(folder, "main")
    assert source.left_out == (".ENV", "deep/id_rsa")
    assert {inside for inside, _ in source.files} == {"main.py", ".env.example"}


def test_a_lock_that_packing_made_is_part_of_the_version_from_then_on(tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "code", {"main.py": "x", "requirements.txt": "six\n"})
    opened = open_circuit(folder)
    assert opened.circuit is not None
    (folder / "requirements.lock").write_text("six==1.17.0\n")
    packed = collect(opened, opened.circuit.tasks[0])
    assert packed.version == both(folder, "main")[0].version
    assert "requirements.lock" in {inside for inside, _ in packed.files}


def test_links_inside_are_links_with_what_they_lead_to(tmp_path: Path) -> None:
    files = {"many.koalja": MANY, "impl.py": "x", "second.sh": "true", "lib/real/mod.py": "1"}
    folder = lay_out(tmp_path / "code", files)
    (folder / "first.py").symlink_to("impl.py")
    (folder / "impl.py").write_text("import pkg")
    (folder / "pkg").symlink_to("lib/real")
    _, source = both(folder, "first")
    assert {inside for inside, _ in source.files} == {"first.py", "impl.py", "pkg", "lib/real/mod.py"}


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "deep/../../outside"])
def test_a_link_that_leaves_the_folder_is_refused_but_can_be_run(target: str, tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "code", {"main.py": "x", "deep/x": ""})
    (tmp_path / "outside").write_text("1")
    (folder / "data").symlink_to(target)
    assert open_circuit(folder).circuit is not None
    with pytest.raises(PhaseError, match="data leaves the folder"):
        both(folder, "main")


def test_a_program_above_the_folder_is_refused_with_the_reason(tmp_path: Path) -> None:
    wiring = "[one]\n(in) first (out)\n    run = python3 ../tool.py {in}\n"
    folder = lay_out(tmp_path / "code", {"one.koalja": wiring})
    (tmp_path / "tool.py").write_text("x")
    with pytest.raises(PhaseError, match=r"\.\./tool\.py leaves the folder"):
        both(folder, "first")


def test_a_single_program_that_is_named_itself_is_packed_without_what_lies_beside_it(tmp_path: Path) -> None:
    folder = lay_out(
        tmp_path / "code", {"prog.py": "import a", "a.py": "", "b.py": "", "requirements.txt": ""}
    )
    opened = open_circuit(folder / "prog.py")
    assert opened.circuit is not None
    source = collect(opened, opened.circuit.tasks[0])
    assert {inside for inside, _ in source.files} == {"prog.py", "a.py", "requirements.txt"}


def test_what_the_image_holds_has_the_same_version_again(tmp_path: Path) -> None:
    """The list stands for itself: a folder with nothing but those files gives the same."""
    files, task = SHAPES["a script with libraries and data"]
    folder = lay_out(tmp_path / "code", {**files, ".gitignore": "*.log", "x.log": "1", ".env": "1"})
    _, source = both(folder, task)
    again = tmp_path / "again" / "code"
    for inside, path in source.files:
        (again / inside).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, again / inside)
    assert version(again, task) == source.version


def test_an_unreadable_folder_is_no_crash(tmp_path: Path) -> None:
    with pytest.raises(KoaljaError):
        open_circuit(tmp_path / "nothing")
