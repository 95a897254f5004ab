"""Opens a circuit: finds its wiring file, or the single program of a folder, and all tasks' code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from koalja_fn.errors import NotFound, UsageError, WiringError
from koalja_fn.model import Circuit, Input, Output, Place, Task, Wire
from koalja_fn.program.interpreters import NoCode, has_interpreter
from koalja_fn.program.locating import Located, Locator, main_program, procfile_command, programs_in
from koalja_fn.wiring.findings import Finding, has_errors
from koalja_fn.wiring.names import as_label
from koalja_fn.wiring.reading import read


@dataclass(frozen=True, slots=True)
class Opened:
    """A circuit with its code. `circuit` is None if, and only if, a finding is an error.

    `draft` is what could be understood even so. `folder` is absolute; `file` is None for the circuit of a
    single program.
    """

    circuit: Circuit | None
    located: Mapping[str, Located]
    findings: tuple[Finding, ...]
    folder: Path
    file: Path | None
    draft: Circuit


def open_circuit(path: Path | str) -> Opened:
    """Open the circuit of a folder, a `.koalja` file or a single program, and find everything wrong with it.

    Raises:
        NotFound: There is nothing at `path`, or nothing in it that could be a circuit.
        UsageError: The folder holds several circuits, or several programs and no wiring.
        WiringError: The wiring file can't be read as text.
    """
    path = Path(path)
    if path.is_dir():
        folder = path.resolve()
        wirings = sorted(p for p in folder.glob("*.koalja") if p.is_file())
        if len(wirings) > 1:
            names = ", ".join(p.name for p in wirings)
            raise UsageError(
                f"{path} holds several circuits: {names}", cure=f"name one: {path / wirings[0].name}"
            )
        return _wired(wirings[0], path / wirings[0].name) if wirings else _single(folder, path)
    if path.suffix == ".koalja" and path.is_file():
        return _wired(path.resolve(), path)
    if path.is_file() and has_interpreter(path):
        return _of_program(path.absolute(), as_label(path.stem), path.absolute().parent, whole=False)
    if path.exists():
        raise NotFound(f"{path} is no circuit", why="it is no folder, no .koalja file and no program")
    raise NotFound(f"there is no {path}", cure="koalja-fn init DIR makes a folder that runs")


def _wired(file: Path, shown: Path) -> Opened:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise WiringError(f"{shown} is no text in UTF-8", why=str(error)) from error
    except OSError as error:
        raise NotFound(f"{shown} can't be read", why=str(error)) from error
    folder = file.parent
    reading = read(text, file=str(shown), default_name=file.stem)
    locator = Locator(folder, reading.draft)
    located: dict[str, Located] = {}
    findings = list(reading.findings)
    already = {f.place.line for f in findings if f.code == "run-line"}
    lines = text.split("\n")
    for task in reading.draft.tasks:
        try:
            located[task.name] = locator.locate(task)
        except NoCode as missing:
            if missing.code != "run-line" or not already:
                findings.append(_finding(missing, task.place, lines))
    return _opened(reading.draft, located, findings, folder, file)


def _finding(missing: NoCode, place: Place, lines: list[str]) -> Finding:
    text = lines[place.line - 1].rstrip("\r") if 0 < place.line <= len(lines) else ""
    return Finding("error", missing.code, missing.message, missing.cure, place, text)


def _opened(
    draft: Circuit,
    located: Mapping[str, Located],
    findings: Iterable[Finding],
    folder: Path,
    file: Path | None,
) -> Opened:
    ordered = tuple(sorted(findings, key=lambda f: (f.place.line, f.place.column)))
    return Opened(None if has_errors(ordered) else draft, located, ordered, folder, file, draft)


def _single(folder: Path, shown: Path) -> Opened:
    """The circuit of a folder without wiring: its one program, `main.*`, or what its Procfile starts."""
    name = as_label(folder.name)
    main = main_program(folder)
    if (folder / "Procfile").is_file() and procfile_command(folder):
        return _of_program(folder, name, folder)
    if main is not None:
        return _of_program(main, name, folder)
    programs = programs_in(folder)
    if len(programs) == 1:
        return _of_program(programs[0], as_label(programs[0].stem), folder)
    if programs:
        names = ", ".join(p.name for p in programs[:5]) + (", …" if len(programs) > 5 else "")
        first = as_label(programs[0].stem)
        cure = f"write {shown / (name + '.koalja')}, with a line such as: (in) {first} (out)"
        raise UsageError(f"{shown} has no wiring and several programs: {names}", cure=cure)
    raise NotFound(
        f"there is no circuit in {shown}",
        why="it has neither a .koalja file nor a program",
        cure=f"koalja-fn init {shown}",
    )


def _of_program(program: Path, name: str, folder: Path, *, whole: bool = True) -> Opened:
    wires = {wire: Wire(wire) for wire in ("in", "out")}
    task = Task(name, (Input("in", ("in",)),), (Output("out"),))
    circuit = Circuit(name, (task,), wires)
    locator = Locator(folder, circuit if whole else None)
    try:
        code = (
            locator.of_folder(task, folder) if program.is_dir() else locator.of_program(task, program, folder)
        )
    except NoCode as missing:
        return _opened(circuit, {}, [_finding(missing, Place(str(program)), [])], folder, None)
    return _opened(circuit, {name: code}, (), folder, None)
