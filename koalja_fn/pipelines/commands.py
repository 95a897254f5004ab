"""What an executor runs, as a run line, as a script, or as a placeholder that says what to put there."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from koalja_fn.pipelines.model import PipelineTask
from koalja_fn.pipelines.templates import File, Part, Untold, parts
from koalja_fn.wiring import runline

_SHELLS = frozenset({"sh", "bash", "/bin/sh", "/bin/bash", "/usr/bin/bash", "/usr/bin/sh"})


@dataclass(frozen=True, slots=True)
class Names:
    """What a task's wires are called now: the placeholder of each input, the wire of each output."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Command:
    """A run line, and files that it needs; `why` is set where somebody has to put a program there."""

    run: str
    files: tuple[tuple[str, str], ...] = ()
    why: str = ""


def command_of(task: PipelineTask, names: Names, file: str, has: Callable[[str], bool]) -> Command:
    """The command of a task with a container; `file` is the name of a script that may be made.

    `has` says whether there is a program of that name here.
    """
    executor = task.executor
    assert executor is not None
    sequences = {one.name: one.most > 1 for one in task.inputs if not one.merge_into}
    words = [parts(word.strip(), sequences) for word in (*executor.command, *executor.args)]
    untold = [part.text for word in words for part in word if isinstance(part, Untold)]
    strange = [p.name for word in words for p in word if isinstance(p, File) and not _known(p, names)]
    if untold or strange:
        why = f"templates without a counterpart: {', '.join(untold + strange)}"
        return placeholder(task, names, file, why)
    if not executor.command:
        return _of_image(task, names, file, words, "the image's own entry point is called")
    if words[0] and (len(words[0]) > 1 or not has(str(words[0][0]))):
        program = executor.command[0].strip()
        return _of_image(task, names, file, words[1:], f"there is no program {program} here")
    if any("\n" in part for word in words for part in word if isinstance(part, str)):
        return _script(task, names, file, words) or placeholder(task, names, file, "a text of several lines")
    line = _line(words, names)
    return Command(line) if line else placeholder(task, names, file, "braces that can't be told apart")


def placeholder(task: PipelineTask, names: Names, file: str, why: str) -> Command:
    """A program that fails and says what belongs there."""
    executor = task.executor
    what = f"image {executor.image}" if executor else f"the executor of type {task.type}"
    told = [f"Put the program of {what} here: {why}."]
    if executor:
        told += [f"command: {_one_line(executor.command)}"] if executor.command else []
        told += [f"args: {_one_line(executor.args)}"] if executor.args else []
    told += [f"{one.name} {key}: {_one_line([value])}" for one in task.outputs for key, value in one.options]
    run = " ".join(
        [
            f"./{file}",
            *(f"{{{name}}}" for name in dict.fromkeys(names.inputs.values())),
            *(f"{{out.{wire}}}" for wire in names.outputs.values()),
        ]
    )
    return Command(run, ((file, _failing(told, task.name)),), why)


def _of_image(
    task: PipelineTask, names: Names, file: str, words: Sequence[Sequence[Part]], why: str
) -> Command:
    """Only the image has the program: its arguments are kept, and the program is to be put there."""
    made = placeholder(task, names, file, why)
    line = _line([[f"./{file}"], *words], names)
    return Command(line, made.files, made.why) if line else made


def _script(task: PipelineTask, names: Names, file: str, words: Sequence[Sequence[Part]]) -> Command | None:
    """A shell's script of several lines becomes a file; what it names comes as arguments."""
    if (
        len(words) != 3
        or words[0] not in [(shell,) for shell in _SHELLS]
        or words[1] not in [("-c",), ("-ec",)]
    ):
        return None
    files = list(dict.fromkeys(part for part in words[2] if isinstance(part, File)))
    inputs = {one.name: one for one in task.inputs}
    if any(one.kind == "in" and one.index is None and inputs[one.name].most > 1 for one in files):
        return None  # as many arguments as there are files: their numbers are not known
    number = {one: f"${{{n}}}" for n, one in enumerate(files, 1)}
    body = "".join(number[part] if isinstance(part, File) else str(part) for part in words[2])
    shell = str(words[0][0])
    first = f"#!{shell}" if shell.startswith("/") else f"#!/usr/bin/env {shell}"
    text = f"{first}\n{'set -e' + chr(10) if words[1] == ('-ec',) else ''}{body.rstrip()}\n"
    run = " ".join([f"./{file}", *(_braced(one, names) for one in files)])
    return Command(run, ((file, text),))


def _line(words: Sequence[Sequence[Part]], names: Names) -> str:
    """A run line of these words; empty where it would be read as something else."""
    inputs, outputs = set(names.inputs.values()), set(names.outputs.values())
    found = []
    for word in words:
        text = "".join(
            _braced(p, names) if isinstance(p, File) else _literal(str(p), inputs, outputs) for p in word
        )
        if _plainly(runline.parts(text, inputs, outputs), names) != _plainly(word, names):
            return ""
        found.append(_quoted(text))
    return " ".join(found)


def _quoted(text: str) -> str:
    """A word as a run line has it; one that is a placeholder stays bare."""
    return text if text.startswith("{") and text.endswith("}") and " " not in text else shlex.quote(text)


def _plainly(some: Sequence[Part | runline.Placeholder], names: Names) -> list[object]:
    """Texts and files in one form, for comparison: neighbouring texts are one."""
    found: list[object] = []
    for part in some:
        if isinstance(part, str):
            if found and isinstance(found[-1], str):
                found[-1] += part
            elif part:
                found.append(part)
        elif isinstance(part, runline.Placeholder):
            kind = "out" if part.kind == "out" else "in"
            found.append((kind, part.name, part.index if part.kind == "one" else None))
        elif isinstance(part, File):
            known = names.outputs if part.kind == "out" else names.inputs
            found.append((part.kind, known[part.name], part.index))
    return found


def _literal(text: str, inputs: set[str], outputs: set[str]) -> str:
    """A text whose braces stay braces: they are doubled where a run line would see something in them."""
    if runline.parts(text, inputs, outputs) in ((text,), ()):
        return text
    found, depth = "", 0
    for letter in text:
        doubled = letter == "{" or (letter == "}" and depth > 0)
        depth += {"{": 1, "}": -1 if depth else 0}.get(letter, 0)
        found += letter * 2 if doubled else letter
    return found


def _braced(part: File, names: Names) -> str:
    if part.kind == "out":
        return f"{{out.{names.outputs[part.name]}}}"
    index = "" if part.index is None else f"[{part.index}]"
    return f"{{{names.inputs[part.name]}{index}}}"


def _known(part: File, names: Names) -> bool:
    return part.name in (names.outputs if part.kind == "out" else names.inputs)


def _one_line(words: Sequence[str]) -> str:
    return " ".join(shlex.quote(word) for word in words).replace("\r", "").replace("\n", "\\n")


def _failing(told: Sequence[str], task: str) -> str:
    comments = "".join(f"# {line}\n" for line in told)
    said = shlex.quote(f"{task}: no program was put here yet; this file says what belongs there")
    return f"#!/bin/sh\n{comments}echo {said} >&2\nexit 78\n"


def split_lines(names: Names, file: str) -> Command:
    """Type FileSplit: each line of the file is a value."""
    (given,) = dict.fromkeys(names.inputs.values())
    (wire,) = names.outputs.values()
    script = f"""\
#!/bin/sh
# Each line of the file is a value of its own; they are named by their numbers, so that they keep their order.
mkdir -p "$KOALJA_OUT/{wire}"
awk -v to="$KOALJA_OUT/{wire}" '{{ name = sprintf("%s/%09d.txt", to, NR); print > name; close(name) }}' "$1"
"""
    return Command(f"./{file} {{{given}}}", ((file, script),))
