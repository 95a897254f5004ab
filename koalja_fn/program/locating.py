"""Finds the code of each task: its run line's program, or what has the task's name in the folder.

Knows nothing of how a program is started. The result is a command whose first word is an absolute
path, and the version of the code: a digest of what would be packed. Nothing here runs a user's program.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from koalja_fn.model import Circuit, Task
from koalja_fn.program.belonging import SCRIPTS, gather, of_wires
from koalja_fn.program.ignoring import Ignoring
from koalja_fn.program.interpreters import INTERPRETED, NoCode, command_of, has_interpreter, on_path
from koalja_fn.program.located import Located as Located
from koalja_fn.program.versions import Versions, mentioned_files
from koalja_fn.wiring.names import normalised
from koalja_fn.wiring.runline import RunLineError, split

_DATA = frozenset(
    {".koalja", ".json", ".csv", ".txt", ".md", ".yaml", ".yml", ".toml", ".log", ".lock", ".cfg"}
)
_SYSTEM = tuple(map(Path, ("/usr", "/bin", "/sbin", "/opt", "/nix")))


@dataclass(frozen=True, slots=True)
class _Found:
    """A task's command and what its program was found to use, before all that belongs to it is gathered."""

    command: tuple[str, ...]
    code: Path
    program: Path | None
    own: frozenset[Path] = field(repr=False)
    explicit: bool


class Locator:
    """Locates the tasks of one circuit; looks at its folder once.

    With `circuit` a task that is alone in it has all of the folder, save what its wires read and write there.
    """

    def __init__(self, folder: Path, circuit: Circuit | None = None) -> None:
        self.folder = folder
        self.circuit = circuit
        self.versions = Versions(folder, Ignoring(folder, of_wires(circuit)))
        self._commands: dict[Path, tuple[str, ...]] = {}
        self._on_path: dict[str, str] = {}
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
        return self._with_files(task, self._find(task))

    def of_program(self, task: Task, program: Path, code: Path) -> Located:
        """The code of a task whose program is known."""
        return self._with_files(task, self._of_program(program, code))

    def of_folder(self, task: Task, folder: Path) -> Located:
        """The code of a task that has a folder of its own."""
        return self._with_files(task, self._of_folder(folder))

    def _find(self, task: Task) -> _Found:
        if task.run is not None:
            return self._run_line(task.run, self.folder, explicit=True)
        found = self._named(task.name)
        return self._of_folder(found) if found.is_dir() else self._of_program(found, self.folder)

    def _of_program(self, program: Path, code: Path) -> _Found:
        own = frozenset((program, *self.versions.imported(program)))
        return _Found(self._command(program), code, program, own, explicit=False)

    def _of_folder(self, folder: Path) -> _Found:
        line = procfile_command(folder)
        if line is not None:
            return self._run_line(line, folder, explicit="{" in line)
        main = main_program(folder)
        if main is None:
            cure = f"put a main.py, an executable main or a Procfile into {folder.name}/"
            raise NoCode("no-code", f"the folder {folder.name}/ has no program", cure)
        return self._of_program(main, folder)

    def _run_line(self, line: str, base: Path, *, explicit: bool) -> _Found:
        try:
            words = split(line)
        except RunLineError as bad:
            raise NoCode("run-line", bad.message, "close it, or put a backslash in front") from bad
        if not words:
            raise NoCode("no-program", "the run line has no program", "write run = ./program {input}")
        program = _looked_up(words[0], base)
        head = self._command(program) if program is not None else (self._of_path(words[0]),)
        named = {i + 1: path for i, path in _own_files(words, base)}
        rest = tuple(str(named.get(i, word)) for i, word in enumerate(words[1:], 1))
        main = program or next(iter(named.values()), None)
        direct = {*([program] if program else []), *named.values(), *mentioned_files(words[1:], base)}
        direct = {path for path in direct if not any(path.is_relative_to(place) for place in _SYSTEM)}
        own = frozenset(f for path in direct for f in (path, *self.versions.imported(path)))
        return _Found((*head, *rest), base, main, own, explicit)

    def _of_path(self, word: str) -> str:
        if word not in self._on_path:
            self._on_path[word] = str(on_path(word))
        return self._on_path[word]

    def _command(self, program: Path) -> tuple[str, ...]:
        if program not in self._commands:
            self._commands[program] = command_of(program)
        return self._commands[program]

    def _with_files(self, task: Task, found: _Found) -> Located:
        """All that belongs to a task, and its version."""
        tasks = self.circuit.tasks if self.circuit is not None else ()
        apart = found.code != self.folder and found.code.is_relative_to(self.folder)
        root = found.code if apart else self.folder
        node = _speaks("node", SCRIPTS, found)
        belongings = gather(
            root,
            found.own,
            self.versions.ignoring,
            whole=apart or len(tasks) == 1,
            python=_speaks("python", {".py"}, found),
            node=node,
            others=self._others(task) - found.own if node and len(tasks) > 1 else (),
        )
        version = self.versions.digest(belongings.files, task.run or "", task.env)
        return Located(
            task.name,
            found.command,
            found.code,
            found.program,
            belongings.files,
            version,
            found.explicit,
            belongings.left_out,
        )

    def _others(self, task: Task) -> frozenset[Path]:
        """What the programs of the other tasks use."""
        files: set[Path] = set()
        for other in self.circuit.tasks if self.circuit is not None else ():
            if other.name != task.name:
                with suppress(NoCode):
                    files |= self._find(other).own
        return frozenset(files)

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


def with_lock(located: Located, task: Task, folder: Path, lock: Path) -> Located:
    """The same code after a lock of its libraries was made beside it."""
    files = tuple(sorted({*located.files, lock}))
    return replace(located, files=files, version=Versions(folder).digest(files, task.run or "", task.env))


def _speaks(interpreter: str, endings: Collection[str], found: _Found) -> bool:
    """Whether a task's code is of some language: its libraries are nothing to other tasks."""
    by = Path(found.command[0]).name.startswith(interpreter)
    return by or any(path.suffix in endings for path in found.own)


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
        # Not the file itself: by the name of its link an interpreter knows its virtual environment.
        return inside.parent.resolve() / inside.name if path.is_absolute() else inside
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
