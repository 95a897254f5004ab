"""Checks on run lines: can they be split, and do their placeholders name what the task has?"""

from __future__ import annotations

import re

from koalja_fn.model import Input, Policy, Task
from koalja_fn.wiring.checks.inputs import triggering
from koalja_fn.wiring.findings import Notebook
from koalja_fn.wiring.meaning import Draft, TaskDraft
from koalja_fn.wiring.names import nearest
from koalja_fn.wiring.runline import (
    Placeholder,
    RunLineError,
    RunWord,
    braces,
    parts,
    placeholder_of,
    split_words,
)
from koalja_fn.wiring.syntax import Line, Word

MANY_FILES = 8_000
"""Files on one command line from which the argument limit is near: 2 MiB on Linux, 200 bytes a path."""

MANY_IN_A_WORD = 600
"""The same for files that are joined in one word, as in `sh -c "sort {in}"`: 128 KiB on Linux."""

_NEVER = 2**62
_OPERATOR = re.compile(r"\|\|?|&&?|;|\d?>>?(&\d)?|<<?")
_VARIABLE = re.compile(r"\$\{?[A-Za-z_]\w*")


def check_runs(draft: Draft, notebook: Notebook) -> None:
    """Check each task's run line, and the windows of those whose files it puts in."""
    for each in draft.tasks:
        words: tuple[RunWord, ...] = ()
        line = each.own.get("run") or draft.own.get("run")
        if each.task.run is not None and line is not None:
            try:
                words = split_words(each.task.run)
            except RunLineError as bad:
                at = Word("x", line.value.line, line.value.column + bad.position)
                notebook.error("run-line", bad.message, at, "close it, or put a backslash in front")
                continue
            _braces(each.task, words, line, draft, notebook)
            _no_shell(words, line, notebook)
            if line.command and line.value.text.split()[0].endswith(":"):
                notebook.error(
                    "layout",
                    "this looks like a rule, but stands where the command is",
                    line.value,
                    "start a rule at the beginning of its line",
                )
        _many_files(each, words, notebook)


def input_names(task: Task) -> tuple[str, ...]:
    """The names that a run line may use: under `merge`, the merged inputs go by the first one's."""
    if task.policy is not Policy.MERGE:
        return tuple(i.name for i in task.streams)
    merged = triggering(task)
    return tuple(i.name for i in task.streams if i.passive or i is merged[0])


def _at(line: Line, word: RunWord) -> Word:
    return Word(word.text, line.value.line, line.value.column + word.position)


def _braces(task: Task, words: tuple[RunWord, ...], line: Line, draft: Draft, notebook: Notebook) -> None:
    inputs, outputs = input_names(task), task.output_wires
    by_name = {i.name: i for i in task.streams}
    for word in words:
        if "{" not in word.text:
            continue
        for inner in braces(word.text):
            found = placeholder_of(inner, inputs, outputs)
            if found is None:
                _unknown(task, inner, _at(line, word), draft, notebook)
            elif found.kind == "one":
                _index(found, by_name[found.name], _at(line, word), notebook)


def _index(found: Placeholder, given: Input, at: Word, notebook: Notebook) -> None:
    size = given.buffer
    shown = f"{{{found.name}[{found.index}]}}"
    if found.index >= size.most:
        last = f"{{{found.name}[{size.most - 1}]}}"
        notebook.error(
            "placeholder",
            f"{shown} is beyond the window of '{found.name}', which has {size.most}",
            at,
            f"indexes count from 0: the last one is {last}",
        )
    elif found.index >= size.least:
        notebook.warning(
            "placeholder",
            f"{shown} is missing where the window closes with {size.least}",
            at,
            f"write {{{found.name}}} for all that there are",
        )


def _unknown(task: Task, inner: str, at: Word, draft: Draft, notebook: Notebook) -> None:
    """Judge a brace that is no placeholder: silent unless it was surely meant to be one."""
    inputs, outputs = input_names(task), task.output_wires
    if inner.startswith("out."):
        guess = nearest(inner[4:], outputs)
        cure = f"did you mean '{{out.{guess}}}'?" if guess else _list("outputs", outputs)
        notebook.error("placeholder", f"'{inner[4:]}' is no output of '{task.name}'", at, cure)
        return
    name = re.sub(r"(\.list|\[[^\]]*\])$", "", inner)
    if name in outputs and name not in inputs:
        notebook.error(
            "placeholder", f"'{name}' is an output of '{task.name}', no input", at, f"write {{out.{name}}}"
        )
    elif name in inputs:
        notebook.error(
            "placeholder",
            f"{{{inner}}} is no placeholder",
            at,
            f"write {{{name}}}, {{{name}[0]}} or {{{name}.list}}",
        )
    elif name in draft.circuit.wires or nearest(name, (*inputs, "snapshot")):
        guess = nearest(name, (*inputs, "snapshot"))
        cure = (
            f"did you mean '{{{guess}}}'?"
            if guess and name not in draft.circuit.wires
            else _list("inputs", inputs)
        )
        notebook.error("placeholder", f"'{name}' is no input of '{task.name}'", at, cure)


def _list(what: str, names: tuple[str, ...]) -> str:
    return f"its {what} are {', '.join(names)}" if names else f"it has no {what}"


def _no_shell(words: tuple[RunWord, ...], line: Line, notebook: Notebook) -> None:
    for word in words:
        operator = word.bare == word.text and _OPERATOR.fullmatch(word.text)
        if operator or _VARIABLE.search(word.bare):
            notebook.warning(
                "no-shell",
                f"no shell is started, so '{word.text}' is passed on as it stands",
                _at(line, word),
                'call one: run = sh -c "…"',
            )
            return


def _many_files(each: TaskDraft, words: tuple[RunWord, ...], notebook: Notebook) -> None:
    task = each.task
    inputs = input_names(task)
    placed: dict[str, int] = {}  # input: files from which it may be too many
    for word in words:
        pieces = parts(word.text, inputs, task.output_wires)
        limit = MANY_FILES if len(pieces) == 1 else MANY_IN_A_WORD
        for piece in pieces:
            if isinstance(piece, Placeholder) and piece.kind in ("all", "one", "list"):
                most = limit if piece.kind == "all" else _NEVER
                placed[piece.name] = min(most, placed.get(piece.name, _NEVER))
    for given in task.streams:
        most = placed.get(given.name, _NEVER) if placed else MANY_FILES
        if given.name in inputs and given.buffer.most >= most:
            notebook.warning(
                "many-files",
                f"{given.buffer.most} file names of '{given.name}' may be more than a command line can hold",
                given.place,
                f"give the program a file of paths: {{{given.name}.list}} in the run line",
            )
