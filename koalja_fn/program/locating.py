"""Finds the code of each task: its run line's program, or what has the task's name in the folder.

Knows nothing of how a program is started. The result is a command whose first word is an absolute
path, and the version of the code: a digest of what would be packed. Nothing here runs a user's program.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from koalja_fn.model import Task
from koalja_fn.program.interpreters import INTERPRETED, NoCode, command_of, has_interpreter, on_path
from koalja_fn.program.versions import Versions, files_of_folder, mentioned_files
from koalja_fn.wiring.names import normalised
from koalja_fn.wiring.runline import RunLineError, split

_DATA = frozenset(
    {".koalja", ".json", ".csv", ".txt", ".md", ".yaml", ".yml", ".toml", ".log", ".lock", ".cfg"}
)


@dataclass(frozen=True, slots=True)
class Located:
    """A task's code.

    `command` are the words to run, placeholders left in; the first is an absolute path. `code` is the folder
    that the program knows as its own, `program` the user's file (None where it came from PATH), `files` what
    makes the `version`. `explicit` says that the command is a run line, which may place the files itself.
    """

    task: str
    command: tuple[str, ...]
    code: Path
    program: Path | None
    files: tuple[Path, ...]
    version: str
    explicit: bool


class Locator:
    """Locates the tasks of one circuit; looks at its folder once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.versions = Versions(folder)
        self._commands: dict[Path, tuple[str, ...]] = {}
        self._by_name: dict[str, list[Path]] = {}
        for path in sorted(folder.iterdir()):
            if not path.name.startswith(".") and path.suffix != ".koalja":
                for name in {normalised(path.name), normalised(path.stem)}:
                    self._by_name.setdefault(name, []).append(path)

    def locate(self, task: Task) -> Located:
        """The code of a task.

        Raises:
            NoCode: There is none, or it can't be run.
        """
        if task.run is not None:
            return self._run_line(task, task.run, self.folder, explicit=True)
        found = self._named(task.name)
        return self.of_folder(task, found) if found.is_dir() else self.of_program(task, found, self.folder)

    def of_program(self, task: Task, program: Path, code: Path) -> Located:
        """The code of a task whose program is known."""
        command = self._command(program)
        own = [program, *self.versions.imported(program)] if code == self.folder else files_of_folder(code)
        return self._located(task, command, code, program, own, explicit=False)

    def _run_line(self, task: Task, line: str, base: Path, *, explicit: bool) -> Located:
        try:
            words = split(line)
        except RunLineError as bad:
            raise NoCode("run-line", bad.message, "close it, or put a backslash in front") from bad
        if not words:
            raise NoCode("no-program", "the run line has no program", "write run = ./program {input}")
        program = _looked_up(words[0], base)
        head = self._command(program) if program is not None else (str(on_path(words[0])),)
        named = {i + 1: path for i, path in _own_files(words, base)}
        rest = tuple(str(named.get(i, word)) for i, word in enumerate(words[1:], 1))
        main = program or next(iter(named.values()), None)
        if base != self.folder:
            own = files_of_folder(base)
        else:
            direct = {*([program] if program else []), *named.values(), *mentioned_files(words[1:], base)}
            own = sorted({f for path in direct for f in (path, *self.versions.imported(path))})
        return self._located(task, (*head, *rest), base, main, own, explicit=explicit)

    def _command(self, program: Path) -> tuple[str, ...]:
        if program not in self._commands:
            self._commands[program] = command_of(program)
        return self._commands[program]

    def _located(
        self,
        task: Task,
        command: tuple[str, ...],
        code: Path,
        program: Path | None,
        own: list[Path],
        *,
        explicit: bool,
    ) -> Located:
        files = tuple(sorted(set(own)))
        outside = None if Path(command[0]) in files else Path(command[0])
        version = self.versions.digest(files, task.run or "", task.env, outside)
        return Located(task.name, command, code, program, files, version, explicit)

    def _named(self, name: str) -> Path:
        """What has a task's name: an executable, else one with an ending, else a folder."""
        paths = self._by_name.get(normalised(name), [])
        files = [p for p in paths if p.is_file()]
        fit = [p for p in files if has_interpreter(p)]
        exact = [p for p in fit if normalised(p.name) == normalised(name)]
        folders = [p for p in paths if p.is_dir() and normalised(p.name) == normalised(name)]
        chosen = exact or fit or folders
        if len(chosen) > 1:
            names = " and ".join(p.name for p in chosen)
            cure = f"say which one: run = ./{chosen[0].name}"
            raise NoCode("ambiguous", f"'{name}' could be {names}", cure)
        if chosen:
            return chosen[0]
        unfit = [p for p in files if p.suffix not in _DATA]
        if unfit:
            raise NoCode("not-executable", f"{unfit[0].name} is not executable", f"chmod +x {unfit[0].name}")
        raise NoCode(
            "no-code",
            f"there is no program for '{name}'",
            f"put {name}.py or an executable {name} beside the wiring, or add a line: run = COMMAND",
        )

    def of_folder(self, task: Task, folder: Path) -> Located:
        """The code of a task that has a folder of its own."""
        line = procfile_command(folder)
        if line is not None:
            return self._run_line(task, line, folder, explicit="{" in line)
        main = main_program(folder)
        if main is None:
            cure = f"put a main.py, an executable main or a Procfile into {folder.name}/"
            raise NoCode("no-code", f"the folder {folder.name}/ has no program", cure)
        return self.of_program(task, main, folder)


def main_program(folder: Path) -> Path | None:
    """`main` or `main.*` in a folder, if one of them can be run."""
    mains = sorted(p for p in folder.iterdir() if p.is_file() and (p.name == "main" or p.stem == "main"))
    return next((p for p in mains if has_interpreter(p)), None)


def procfile_command(folder: Path) -> str | None:
    """The command of a folder's Procfile: its `task:`, else `main:`, `web:`, `worker:` or only entry."""
    procfile = folder / "Procfile"
    if not procfile.is_file():
        return None
    entries: dict[str, str] = {}
    for line in procfile.read_text(encoding="utf-8", errors="replace").splitlines():
        name, colon, command = line.partition(":")
        if colon and command.strip() and not name.lstrip().startswith("#"):
            entries[name.strip()] = command.strip()
    for name in ("task", "main", "web", "worker"):
        if name in entries:
            return entries[name]
    if len(entries) != 1:
        raise NoCode("no-code", f"{folder.name}/Procfile has no entry `task`", "add a line: task: ./program")
    return next(iter(entries.values()))


def programs_in(folder: Path) -> list[Path]:
    """The files of a folder that can be run, sorted."""
    return sorted(
        p
        for p in folder.iterdir()
        if p.is_file() and not p.name.startswith(".") and p.suffix not in _DATA and has_interpreter(p)
    )


def _looked_up(word: str, base: Path) -> Path | None:
    """The program of a run line as a file: from the circuit's folder; None if PATH has to say.

    Raises:
        NoCode: It names a file that is not there.
    """
    path = Path(word)
    inside = path if path.is_absolute() else base / path
    if inside.is_file():
        return inside.resolve() if path.is_absolute() else inside
    if inside.is_dir() and "/" in word:
        raise NoCode(
            "no-program", f"{word} is a folder, no program", f"name a program in it: {word.rstrip('/')}/main"
        )
    if "/" in word:
        raise NoCode(
            "no-program", f"the program {word} is not there", f"create it, or correct the path: {inside}"
        )
    return None


def _own_files(words: tuple[str, ...], base: Path) -> Iterator[tuple[int, Path]]:
    """Arguments that name a file of the circuit: (index from 0 among the arguments, absolute path).

    A program does not run in the circuit's folder, so such a word becomes an absolute path: the script of an
    interpreter, a path with a slash, or a file with an ending. Options and words with braces stay.
    """
    script_expected = Path(words[0]).name.rstrip("0123456789.") in INTERPRETED
    for index, word in enumerate(words[1:]):
        if word.startswith("-"):
            script_expected = script_expected and word not in ("-c", "-m", "-e")
            continue
        path = base / word
        looks = script_expected or "/" in word or "." in word
        if looks and "{" not in word and not word.startswith("/") and _is_file(path):
            yield index, path
        script_expected = False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
